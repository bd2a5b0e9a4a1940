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
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "convexnn"

# Later may import earlier; members of one row do not import each other. A sub-package is one member.
ARROWS: tuple[tuple[str, ...], ...] = (
    ("exceptions", "values", "monotone", "decimals"),
    ("inputs",),
    ("activations", "losses", "threats", "rigorous", "archive", "memory", "threads", "pages"),
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


def hold_everywhere(rule: Callable[[Path], Iterable[object]], advice: str, files: Iterable[Path] = FILES) -> None:
    """One assertion for all files: a rule yields what is wrong in a file, and every offender is listed."""
    wrong = [f"{path.relative_to(ROOT)}: {what}" for path in files for what in rule(path)]
    assert not wrong, "\n".join([advice, *wrong])


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def member(path: Path) -> str:
    """The member of the arrows a file belongs to: its module, or the sub-package it lies in."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


@cache
def imports(path: Path) -> tuple[Import, ...]:
    """Every import of a file, also inside functions; `if TYPE_CHECKING:` does not run, but it points somewhere."""

    def visit(node: ast.AST, at_top: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_top) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                yield Import("." * child.level + (child.module or ""), child.lineno, at_top)
            elif not isinstance(child, ast.expr):
                runs = at_top and not isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef)
                yield from visit(child, runs and not _is_type_checking(child))

    return tuple(visit(tree(path), True))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


@cache
def nodes(path: Path) -> tuple[ast.AST, ...]:
    return tuple(ast.walk(tree(path)))


@cache
def calls(path: Path) -> tuple[tuple[tuple[str, ...], ast.Call], ...]:
    """Every call of a file with the dotted name it calls; what is no name, as `f().g`, begins with a `()`."""
    return tuple((_dotted(node.func), node) for node in nodes(path) if isinstance(node, ast.Call))


def _dotted(node: ast.AST) -> tuple[str, ...]:
    if isinstance(node, ast.Attribute):
        return (*_dotted(node.value), node.attr)
    return (node.id,) if isinstance(node, ast.Name) else ("()",)


def test_names_are_read_from_the_source(tmp_path: Path) -> None:
    """The readers themselves: what they would overlook, no rule would see."""
    path = tmp_path / "example.py"
    path.write_text(
        "import a.b\nif x:\n    import c\ndef f():\n    from d import e\n    np.random.seed(g(1).h(print()))\n"
    )
    assert [(item.target, item.line, item.at_top) for item in imports(path)] == [
        ("a.b", 1, True),
        ("c", 3, True),
        ("d", 5, False),
    ]
    assert {name for name, _ in calls(path)} == {("np", "random", "seed"), ("()", "h"), ("g",), ("print",)}
    with pytest.raises(AssertionError, match="advice\n.*__init__.py: 7"):
        hold_everywhere(lambda _: [7], "advice", [PACKAGE / "__init__.py"])


def test_every_module_has_a_rank() -> None:
    unknown = {member(path) for path in FILES} - set(RANK) - APART - {"__init__"}
    assert not unknown, f"no place in the arrows for {sorted(unknown)}: give each a rank in tests/test_architecture.py"


def test_arrows_point_one_way() -> None:
    def against(path: Path) -> Iterator[str]:
        here = member(path)
        for item in imports(path):
            if item.target.startswith("convexnn.") and not _may_import(here, item.target.split(".")[1]):
                yield f"line {item.line}: {here} imports {item.target}"

    # the public page imports what it re-exports
    hold_everywhere(against, "the order of imports:", [path for path in FILES if member(path) != "__init__"])


def _may_import(here: str, there: str) -> bool:
    if here == there:
        return True
    if here in APART:
        return there == "exceptions"
    if there in APART:
        return here in BORDER
    return RANK.get(there, len(ARROWS)) < RANK.get(here, -1)


def test_imports_are_absolute_and_name_the_module() -> None:
    def vague(path: Path) -> Iterator[str]:
        for item in imports(path):
            if item.target == "convexnn" or item.target.startswith("."):
                yield f"line {item.line}: {item.target}"

    hold_everywhere(vague, "write `from convexnn.module import Name`:")


def test_heavy_packages_are_imported_inside_functions() -> None:
    def heavy_at_top(path: Path) -> Iterator[str]:
        heavy = HEAVY - HEAVY_AT_TOP.get(member(path), set())
        for item in imports(path):
            if item.at_top and item.target.partition(".")[0] in heavy:
                yield f"line {item.line}: {item.target}"

    hold_everywhere(heavy_at_top, "import these where they are used:")


def test_datasets_stand_apart() -> None:
    allowed = DATASETS_MAY_IMPORT | {"convexnn"} | set(sys.stdlib_module_names)

    def foreign(path: Path) -> set[str]:
        return {item.target for item in imports(path) if item.target.partition(".")[0] not in allowed}

    datasets = [path for path in FILES if member(path) == "datasets"]
    assert datasets
    hold_everywhere(foreign, f"datasets need only {sorted(DATASETS_MAY_IMPORT)}:", datasets)


def test_files_stay_short() -> None:
    def excess(path: Path) -> list[str]:
        lines = len(path.read_text(encoding="utf-8").splitlines())
        return [f"{lines} lines"] if lines > MAX_LINES else []

    hold_everywhere(excess, "look for the second idea in these files:")


def test_library_code_does_not_print() -> None:
    def prints(path: Path) -> list[int]:
        return [node.lineno for name, node in calls(path) if name == ("print",)]

    library = [path for path in FILES if member(path) not in MAY_PRINT]
    hold_everywhere(prints, "return values and let report show them; prints at lines", library)


def test_nothing_is_unpickled() -> None:
    def unsafe(path: Path) -> Iterator[str]:
        for item in imports(path):
            if item.target.partition(".")[0] in PICKLES:
                yield f"store arrays and JSON, not {item.target}"
        for name, node in calls(path):
            options = {
                key.arg: ast.unparse(key.value) for key in node.keywords if key.arg in {"weights_only", "allow_pickle"}
            }
            if name == ("torch", "load") and options.get("weights_only") != "True":
                yield f"line {node.lineno}: torch.load needs weights_only=True"
            if options.get("allow_pickle", "False") != "False":
                yield f"line {node.lineno}: allow_pickle stays False"
            if name[0] == "joblib" and name[-1] == "load":
                yield f"line {node.lineno}: joblib.load unpickles"

    hold_everywhere(unsafe, "files of others are data, not code:")


def test_errors_are_named() -> None:
    def unnamed(path: Path) -> Iterator[int]:
        for node in nodes(path):
            if isinstance(node, ast.ExceptHandler):
                names = ast.unparse(node.type).strip("()").split(", ") if node.type else ["Exception"]
                if {"Exception", "BaseException"} & set(names):
                    yield node.lineno

    hold_everywhere(unnamed, "name the errors that are expected at lines")


def test_global_state_is_left_alone() -> None:
    def changes(path: Path) -> list[str]:
        return [f"line {node.lineno}: {'.'.join(name)}" for name, node in calls(path) if name in GLOBAL_STATE]

    library = [path for path in FILES if member(path) not in {"cli", "__main__"}]
    hold_everywhere(changes, "these change the caller's world:", library)


def test_every_module_says_what_it_is() -> None:
    def silent(path: Path) -> list[str]:
        return [] if ast.get_docstring(tree(path)) else ["no docstring"]

    hold_everywhere(silent, "start the file with one sentence:")


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
