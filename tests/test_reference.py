"""The reference lists every public function and class, each under a name by which it can be imported."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import convexnn

ROOT = Path(__file__).resolve().parents[1]
ENTRIES = re.findall(r"^   ([\w.]+)$", (ROOT / "docs" / "api.rst").read_text(encoding="utf-8"), flags=re.MULTILINE)
PACKAGES = sorted(module.name for module in pkgutil.iter_modules(convexnn.__path__) if module.ispkg)
#: Packages without a public page of their own: the command line, and parts of pages.
PRIVATE = {"cli", "pages"}


def _is_described(found):
    """Functions and classes; tables of words and names of types are not."""
    return inspect.isclass(found) or inspect.isroutine(found)


def resolved(entry):
    """The object that an entry names."""
    *path, name = entry.split(".")
    for depth in range(len(path), -1, -1):
        try:
            found = importlib.import_module(".".join(["convexnn", *path[:depth]]))
        except ModuleNotFoundError:
            continue
        for part in [*path[depth:], name]:
            found = getattr(found, part)
        return found
    raise AssertionError(entry)


def test_every_entry_of_the_reference_exists_once():
    assert len(ENTRIES) > 200  # the pattern finds them
    assert len(ENTRIES) == len(set(ENTRIES))
    for entry in ENTRIES:
        assert resolved(entry) is not None


@pytest.mark.parametrize("package", [name for name in PACKAGES if name not in PRIVATE])
def test_the_reference_lists_what_a_package_makes_public(package):
    module = importlib.import_module(f"convexnn.{package}")
    listed = {id(resolved(entry)) for entry in ENTRIES}
    missing = [
        f"{package}.{name}"
        for name in getattr(module, "__all__", ())
        if _is_described(getattr(module, name)) and id(getattr(module, name)) not in listed
    ]
    assert not missing, f"add to docs/api.rst: {missing}"
