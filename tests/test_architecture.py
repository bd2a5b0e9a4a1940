"""The house rules, read from the source: which module may import which, and what library code never does.

Changing a rank here means changing docs/architecture.md as well.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import types
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "convexnn"

# Later may import earlier; members of one row do not import each other. A sub-package is one member.
ARROWS: tuple[tuple[str, ...], ...] = (
    ("exceptions", "values", "monotone", "decimals"),
    ("activations", "losses", "threats", "rigorous", "archive", "inputs", "memory", "threads", "pages"),
    ("lipsdp", "interop", "sklearn_mlp", "layer_arrays", "exchange"),
    ("network",),
    ("quadratic", "propagation"),
    ("relaxations", "regions"),
    ("branching",),
    ("structure",),
    ("vector_structure",),
    ("program", "certificate"),
    ("conic",),
    ("patterns", "attacks"),
    ("restrictions", "solvers"),
    ("global_gap",),
    ("certificates",),
    ("training", "model_parts", "search", "verification"),
    ("refinement", "torch", "constraints"),
    ("paths",),
    ("estimators",),
    ("report", "plotting"),
    ("cli",),
    ("__main__",),
)
RANK = {name: rank for rank, row in enumerate(ARROWS) for name in row}
APART = {"datasets"}  # imports nothing of ours but exceptions; only the border imports it
BORDER = {"report", "plotting", "cli", "__main__"}
DATASETS_MAY_IMPORT = {"numpy", "scipy", "sklearn", "pooch", "pandas"}

HEAVY = {"torch", "cvxpy", "matplotlib", "rich", "mosek", "pandas", "polars", "onnx", "onnxruntime", "dask", "flint"}
HEAVY_AT_TOP = {"cli": {"rich"}, "torch": {"torch"}}
MAY_PRINT = {"cli", "report", "__main__"}
PICKLES = {"pickle", "cloudpickle", "dill", "shelve", "marshal"}
MAX_LINES = 350

# Calls that change state other people's code sees. A generator or a context manager does the same locally.
GLOBAL_STATE = {
    ("np", "random", "seed"),
    ("numpy", "random", "seed"),
    ("random", "seed"),
    ("np", "seterr"),
    ("torch", "manual_seed"),
    ("torch", "set_default_dtype"),
    ("torch", "set_default_device"),
    ("torch", "set_num_threads"),
    ("logging", "basicConfig"),
    ("matplotlib", "use"),
    ("plt", "switch_backend"),
    ("warnings", "filterwarnings"),
}


@dataclass(frozen=True)
class Import:
    """One imported module, where it stands, and whether it runs when the file is imported."""

    target: str
    line: int
    at_top: bool


FILES = sorted(path for path in PACKAGE.rglob("*.py"))
each_file = pytest.mark.parametrize("path", FILES, ids=[str(path.relative_to(ROOT)) for path in FILES])


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def member(path: Path) -> str:
    """The member of the arrows a file belongs to: its module, or the sub-package it lies in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, also inside functions; `if TYPE_CHECKING:` does not run, but it points somewhere."""

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield Import("." * child.level + (child.module or ""), child.lineno, at_top)
            else:
                runs = at_top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                yield from visit(child, runs and not _is_type_checking(child))

    yield from visit(tree(path), True)


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def calls(path: Path) -> Iterator[tuple[tuple[str, ...], ast.Call]]:
    """Every call of a file with the dotted name it calls."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            yield tuple(ast.unparse(node.func).split(".")), node


def test_every_module_has_a_rank() -> None:
    unknown = {member(path) for path in FILES} - set(RANK) - APART - {"__init__"}
    assert not unknown, f"no place in the arrows for {sorted(unknown)}: give each a rank in tests/test_architecture.py"


@each_file
def test_arrows_point_one_way(path: Path) -> None:
    here = member(path)
    if here == "__init__":
        pytest.skip("the public page imports what it re-exports")
    wrong = [
        f"line {item.line}: {here} imports {item.target}"
        for item in imports(path)
        if item.target.startswith("convexnn.") and not _may_import(here, item.target.split(".")[1])
    ]
    assert not wrong, "\n".join(wrong)


def _may_import(here: str, there: str) -> bool:
    if here == there:
        return True
    if here in APART:
        return there == "exceptions"
    if there in APART:
        return here in BORDER
    return RANK.get(there, len(ARROWS)) < RANK.get(here, -1)


@each_file
def test_imports_are_absolute_and_name_the_module(path: Path) -> None:
    wrong = [
        f"line {item.line}: {item.target}"
        for item in imports(path)
        if item.target == "convexnn" or item.target.startswith(".")
    ]
    assert not wrong, f"write `from convexnn.module import Name`: {wrong}"


@each_file
def test_heavy_packages_are_imported_inside_functions(path: Path) -> None:
    heavy = HEAVY - HEAVY_AT_TOP.get(member(path), set())
    wrong = [
        f"line {item.line}: {item.target}"
        for item in imports(path)
        if item.at_top and item.target.partition(".")[0] in heavy
    ]
    assert not wrong, f"import these where they are used: {wrong}"


@pytest.mark.parametrize("path", [path for path in FILES if member(path) == "datasets"], ids=lambda path: path.name)
def test_datasets_stand_apart(path: Path) -> None:
    allowed = DATASETS_MAY_IMPORT | {"convexnn"} | set(sys.stdlib_module_names)
    wrong = {item.target for item in imports(path) if item.target.partition(".")[0] not in allowed}
    assert not wrong, f"datasets need only {sorted(DATASETS_MAY_IMPORT)}, not {sorted(wrong)}"


@each_file
def test_files_stay_short(path: Path) -> None:
    lines = len(path.read_text(encoding="utf-8").splitlines())
    assert lines <= MAX_LINES, f"{lines} lines: look for the second idea"


@each_file
def test_library_code_does_not_print(path: Path) -> None:
    if member(path) in MAY_PRINT:
        pytest.skip("this is where values are shown")
    wrong = [node.lineno for name, node in calls(path) if name == ("print",)]
    assert not wrong, f"return values and let report show them; prints at lines {wrong}"


@each_file
def test_nothing_is_unpickled(path: Path) -> None:
    imported = [item.target for item in imports(path) if item.target.partition(".")[0] in PICKLES]
    assert not imported, f"store arrays and JSON, not {imported}"
    for name, node in calls(path):
        options = {key.arg: ast.unparse(key.value) for key in node.keywords}
        if name == ("torch", "load"):
            assert options.get("weights_only") == "True", f"line {node.lineno}: torch.load needs weights_only=True"
        assert options.get("allow_pickle", "False") == "False", f"line {node.lineno}: allow_pickle stays False"
        assert name[0] != "joblib" or name[-1] != "load", f"line {node.lineno}: joblib.load unpickles"


@each_file
def test_errors_are_named(path: Path) -> None:
    handlers = [node for node in ast.walk(tree(path)) if isinstance(node, ast.ExceptHandler)]
    wrong = [
        node.lineno
        for node in handlers
        if node.type is None or {"Exception", "BaseException"} & set(ast.unparse(node.type).strip("()").split(", "))
    ]
    assert not wrong, f"name the errors that are expected at lines {wrong}"


@each_file
def test_global_state_is_left_alone(path: Path) -> None:
    wrong = [f"line {node.lineno}: {'.'.join(name)}" for name, node in calls(path) if name in GLOBAL_STATE]
    assert not wrong or member(path) in {"cli", "__main__"}, f"these change the caller's world: {wrong}"


@each_file
def test_every_module_says_what_it_is(path: Path) -> None:
    assert ast.get_docstring(tree(path)), "start the file with one sentence"


def test_the_links_at_the_root_point_into_the_package() -> None:
    for name in ("patterns", "restrictions", "datasets"):
        link = ROOT / name
        assert link.is_symlink()
        assert os.readlink(link) == f"convexnn/{name}"


def test_importing_the_package_stays_light() -> None:
    code = "import sys; from convexnn import *; print(*(set(sys.argv[1:]) & set(sys.modules)))"
    heavy = sorted(HEAVY - {"pandas"})  # scikit-learn may look for pandas on its own
    out = subprocess.run([sys.executable, "-c", code, *heavy], capture_output=True, text=True, check=True, cwd=ROOT)
    assert not out.stdout.split(), f"the names of convexnn also imported {out.stdout.strip()}"


def test_the_public_page_names_things_not_modules() -> None:
    import convexnn

    assert len(set(convexnn.__all__)) == len(convexnn.__all__)
    modules = [name for name in convexnn.__all__ if isinstance(getattr(convexnn, name), types.ModuleType)]
    assert not modules, f"a module stands where a function or class of its name should: {modules}"


def test_the_reference_lists_every_public_name() -> None:
    import convexnn

    entries = re.findall(r"^   ([\w.]+)$", (ROOT / "docs" / "api.rst").read_text(encoding="utf-8"), flags=re.MULTILINE)
    listed = {entry.rpartition(".")[2] for entry in entries}
    assert not set(convexnn.__all__) - listed, f"add to docs/api.rst: {sorted(set(convexnn.__all__) - listed)}"


def test_the_suite_has_no_network() -> None:
    import socket

    with pytest.raises(ConnectionRefusedError, match="without a network"):
        socket.create_connection(("192.0.2.1", 80), timeout=0.1)
    with pytest.raises(ConnectionRefusedError, match="without a network"):
        socket.getaddrinfo("example.org", 443)


@pytest.mark.slow
def test_the_wheel_holds_the_package_once(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    source = tmp_path / "source"
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode:
        pytest.skip("needs a git checkout, to build from what is tracked")
    for name in filter(None, listed.stdout.split("\0")):
        _copy(ROOT / name, source / name)
    built = subprocess.run([*command, "-w", str(tmp_path), str(source)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    names = zipfile.ZipFile(next(tmp_path.glob("*.whl"))).namelist()
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {"convexnn"}
    assert len(names) == len(set(names))
    packaged = {name for name in names if name.startswith("convexnn/")}
    assert packaged == {path for path in listed.stdout.split("\0") if path.startswith("convexnn/")}


def _copy(source: Path, target: Path) -> None:
    if not source.exists() and not source.is_symlink():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_symlink():
        target.symlink_to(os.readlink(source))
    else:
        target.write_bytes(source.read_bytes())
