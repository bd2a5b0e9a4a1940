"""docs/equations.md is kept true: every row names a function, its `Implements:` line and a test that exist."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import re
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "docs" / "equations.md"
OWN = "convexnn"  # the source of statements that are proved in docs/theory
COLUMNS = 5


@dataclass(frozen=True)
class Row:
    """One line of the table."""

    source: str
    statement: str
    function: str
    test: str
    asserts: str


def read_rows() -> list[Row]:
    """Rows of the table, without its header."""
    lines = [line.strip() for line in TABLE.read_text(encoding="utf-8").splitlines()]
    table = [line for line in lines if line.startswith("|")][2:]
    rows = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip("|"))] for line in table]
    wrong = [" | ".join(row) for row in rows if len(row) != COLUMNS or not all(row)]
    assert not wrong, f"a row has {COLUMNS} filled cells (write \\| for a bar inside one): {wrong}"
    return [Row(row[0], row[1], row[2].strip("`"), row[3].strip("`"), row[4]) for row in rows]


ROWS = read_rows()


def resolve(path: str) -> object:
    """The object at a dotted path; where a package exports a function named like its module, the function."""
    parts = path.split(".")
    for cut in range(1, len(parts)):
        with contextlib.suppress(ModuleNotFoundError, AttributeError):
            return functools.reduce(getattr, parts[cut:], importlib.import_module(".".join(parts[:cut])))
    raise AttributeError(f"docs/equations.md names {path}, which does not exist")


@functools.cache
def test_names(file: str) -> frozenset[str]:
    """Names of the test functions in a file, also those in classes."""
    tree = ast.parse((ROOT / "tests" / file).read_text(encoding="utf-8"))
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return frozenset(node.name for node in functions if node.name.startswith("test_"))


test_names.__test__ = False


def surnames(source: str) -> list[str]:
    """Names in a source, e.g. Fazlyab of "Fazlyab et al. (2019)"."""
    names = [word for word in re.findall(r"[^\W\d_]+", source) if word[0].isupper()]
    assert names, f"the source {source!r} is neither a paper nor {OWN} itself"
    return names


def test_the_table_has_rows() -> None:
    assert ROWS


def unnamed_source(row: Row) -> str:
    """What the docstring of the function of a row fails to say, or an empty text."""
    try:
        doc = inspect.getdoc(resolve(row.function)) or ""
    except AttributeError as missing:
        return str(missing)
    lines = re.findall(r"^Implements:.*(?:\n.+)*", doc, flags=re.MULTILINE)
    if not lines:
        return f"the docstring of {row.function} needs a line `Implements: {row.source}, ...`"
    if row.source.startswith(OWN):
        return ""
    first = surnames(row.source)[0]
    return "" if any(first in line for line in lines) else f"{row.function} does not name {first} in {lines}"


def missing_test(row: Row) -> str:
    """What is wrong with the test that a row names, or an empty text."""
    file, _, name = row.test.partition("::")
    name = re.sub(r"\[.*\]$", "", name).split("::")[-1]
    if not (ROOT / "tests" / file).is_file():
        return f"tests/{file} does not exist"
    return "" if name in test_names(file) else f"tests/{file} has no {name}"


def test_every_function_exists_and_names_its_source() -> None:
    wrong = [*filter(None, map(unnamed_source, ROWS))]
    assert not wrong, "\n".join(wrong)


def test_every_test_exists() -> None:
    wrong = [*filter(None, map(missing_test, ROWS))]
    assert not wrong, "\n".join(wrong)


def test_a_row_that_is_wrong_is_seen() -> None:
    row = ROWS[0]
    assert not unnamed_source(row)
    assert not missing_test(row)
    assert "does not exist" in unnamed_source(replace(row, function="convexnn.network.Nothing"))
    assert "needs a line" in unnamed_source(replace(row, function="convexnn.network.Network"))
    assert "does not name Nobody" in unnamed_source(replace(row, source="Nobody (1900)"))
    assert "does not exist" in missing_test(replace(row, test="test_nothing.py::test_it"))
    assert "has no test_it" in missing_test(replace(row, test="test_equations.py::test_it"))


def implementers(path: Path) -> list[str]:
    """Names of the functions and classes of a file that have an `Implements:` line."""
    text = path.read_text(encoding="utf-8")
    if "Implements:" not in text:
        return []
    return [
        node.name
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and re.search(r"^\s*Implements:", ast.get_docstring(node, clean=False) or "", flags=re.MULTILINE)
    ]


def test_no_implements_line_is_missing_from_the_table() -> None:
    listed = {row.function.rpartition(".")[2] for row in ROWS}
    files = sorted((ROOT / "convexnn").rglob("*.py"))
    found = [(path.relative_to(ROOT), name) for path in files for name in implementers(path)]
    assert len(found) > len(listed) / 2  # the reader sees them
    missing = [f"{path}: {name}" for path, name in found if name not in listed]
    assert not missing, f"add a row to docs/equations.md for {missing}"
