"""The public page: loaded when used, one home for every name, nothing heavy on the way."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import convexnn

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "convexnn" / "__init__.py"


def loaded_by(statement: str) -> set[str]:
    """Modules that a fresh interpreter holds after a statement."""
    code = f"{statement}; import sys; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    return set(out.stdout.split())


def imports_for_type_checkers() -> dict[str, str]:
    """Names under ``if TYPE_CHECKING:`` and the modules that they come from."""
    tree = ast.parse(PAGE.read_text(encoding="utf-8"))
    (guarded,) = (node for node in tree.body if isinstance(node, ast.If))
    found = (node for node in guarded.body if isinstance(node, ast.ImportFrom))
    return {alias.name: str(node.module) for node in found for alias in node.names}


def test_the_three_lists_of_names_agree() -> None:
    homes = {name: home for home, names in convexnn._HOMES.items() for name in names.split()}
    assert homes == imports_for_type_checkers()
    assert sorted(homes) == sorted(convexnn.__all__)


def test_every_name_comes_from_its_home() -> None:
    for home, names in convexnn._HOMES.items():
        for name in names.split():
            assert getattr(convexnn, name) is getattr(sys.modules[home], name)
    assert set(convexnn.__all__) <= set(dir(convexnn))


def test_sub_packages_are_found_and_unknown_names_are_not() -> None:
    assert convexnn.patterns.sample is not None
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = convexnn.nonsense
    with pytest.raises(AttributeError, match="no attribute '__wrapped__'"):
        _ = convexnn.__wrapped__


def test_importing_the_package_loads_nothing() -> None:
    loaded = loaded_by("import convexnn")
    assert not {name for name in loaded if name.startswith("convexnn.")}
    assert not {"numpy", "scipy", "sklearn"} & loaded
