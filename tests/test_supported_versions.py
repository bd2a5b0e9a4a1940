"""Versions: the floors that are promised, the oldest and newest pins, and what a floor is there for."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from convexnn.restrictions.cones import nonnegative_fit

ROOT = Path(__file__).resolve().parents[1]
#: Floors that ``make test-oldest`` does not install, and why.
NOT_TRIED = {
    "torch": "no small build of older versions",
    "mosek": "needs a licence",
    **dict.fromkeys(
        ("ruff", "mypy", "scipy-stubs", "pandas-stubs"),
        "judges the code, does not run it",
    ),
    **dict.fromkeys(
        ("sphinx", "numpydoc", "sphinx-gallery", "myst-parser", "pydata-sphinx-theme", "sphinx-mathjax-offline"),
        "builds the pages; as new as in constraints.txt",
    ),
}


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def requirements() -> list[Requirement]:
    table = project()["project"]
    groups = [table["dependencies"], *table["optional-dependencies"].values()]
    return [Requirement(text) for group in groups for text in group]


def pins(name: str) -> dict[str, Version]:
    """Pinned versions of a file of constraints; every line that is no comment is one."""
    lines = [line.partition("#")[0].strip() for line in (ROOT / name).read_text(encoding="utf-8").splitlines()]
    pairs = [line.split("==") for line in lines if line]
    assert len({name for name, _ in pairs}) == len(pairs)
    return {canonicalize_name(name): Version(version) for name, version in pairs}


def floor(requirement: Requirement) -> Version:
    """The lowest version of a requirement, which is a floor and nothing else."""
    (only,) = requirement.specifier
    assert only.operator == ">=", f"{requirement} is no floor"
    return Version(only.version)


def test_floors_are_what_the_oldest_job_installs():
    oldest, asked = pins("constraints-oldest.txt"), requirements()
    missing = {r.name for r in asked if r.name not in oldest}
    assert missing == set(NOT_TRIED) - {"torch"}  # torch is installed, at another version than its floor
    wrong = {r.name: (str(floor(r)), str(oldest[r.name])) for r in asked if oldest.get(r.name, floor(r)) != floor(r)}
    assert set(wrong) == {"torch"}, f"floor in pyproject.toml and pin in constraints-oldest.txt differ: {wrong}"
    assert all(floor(r) <= oldest[r.name] for r in asked if r.name in oldest)


def test_one_package_has_one_floor():
    floors: dict[str, set[Version]] = {}
    for requirement in requirements():
        floors.setdefault(requirement.name, set()).add(floor(requirement))
    assert {name: found for name, found in floors.items() if len(found) > 1} == {}


def test_newest_pins_meet_the_floors():
    newest = pins("constraints.txt")
    skip = {"mosek"}  # not installed without a licence
    low = [str(r) for r in requirements() if r.name not in skip and newest[canonicalize_name(r.name)] < floor(r)]
    assert not low


def test_building_asks_for_the_setuptools_of_the_tests():
    (build,) = (Requirement(text) for text in project()["build-system"]["requires"])
    (tests,) = (r for r in requirements() if r.name == "setuptools")
    assert build.specifier == tests.specifier


def test_lowest_python_is_the_same_everywhere():
    settings = project()
    lowest = settings["project"]["requires-python"].removeprefix(">=")
    minors = re.findall(r"Python :: (3\.\d+)", "\n".join(settings["project"]["classifiers"]))
    assert min(minors, key=Version) == lowest
    assert settings["tool"]["mypy"]["python_version"] == lowest
    assert settings["tool"]["ruff"]["target-version"] == "py" + lowest.replace(".", "")


# -- nonnegative least squares: the reason for scipy >= 1.16 ----------------------------------------------


def system(kind: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    m, n = int(rng.integers(2, 30)), int(rng.integers(1, 80))
    A = rng.normal(size=(m, n))
    if kind == "near copies":
        A[:, n // 2 :] = A[:, : n - n // 2] * (1 + 1e-9 * rng.normal(size=n - n // 2))
    if kind == "rank two":
        A = rng.normal(size=(m, 2)) @ rng.normal(size=(2, n))
    if kind == "small integers":
        A = np.round(A)
    if kind == "scales":
        A *= 10.0 ** rng.uniform(-8, 8, size=n)
    inside = A @ np.maximum(rng.normal(size=n), 0)  # the fit is perfect: every gradient vanishes at the end
    return A, inside if rng.random() < 0.5 else rng.normal(size=m) * 10.0 ** int(rng.integers(-14, 4))


@pytest.mark.parametrize("kind", ["generic", "near copies", "rank two", "small integers", "scales"])
def test_nonnegative_fits_are_optimal_on_degenerate_systems(kind, rng):
    for _ in range(60):
        A, b = system(kind, rng)
        x = nonnegative_fit(A, b)
        assert x is not None
        assert (x >= 0).all()
        # Karush, Kuhn, Tucker: no unit column is at an acute angle with the rest, and the rest is orthogonal to the fit
        length = np.linalg.norm(A, axis=0)
        rest, size = b - A @ x, np.linalg.norm(b)
        assert (A.T @ rest <= 1e-9 * size * length).all()
        assert abs(rest @ (A @ x)) <= 1e-9 * size**2
