"""docs/equations.md is kept true: every row names a function, its `Implements:` line and a test that exist."""

from __future__ import annotations

import ast
import contextlib
import functools
import importlib
import inspect
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

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
each_row = pytest.mark.parametrize("row", ROWS, ids=[f"{row.function}-{number}" for number, row in enumerate(ROWS)])


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


@each_row
def test_the_function_exists_and_names_its_source(row: Row) -> None:
    doc = inspect.getdoc(resolve(row.function)) or ""
    lines = re.findall(r"^Implements:.*(?:\n.+)*", doc, flags=re.MULTILINE)
    assert lines, f"the docstring of {row.function} needs a line `Implements: {row.source}, ...`"
    if not row.source.startswith(OWN):
        first = surnames(row.source)[0]
        assert any(first in line for line in lines), f"{row.function} does not name {first} in {lines}"


@each_row
def test_the_test_exists(row: Row) -> None:
    file, _, name = row.test.partition("::")
    name = re.sub(r"\[.*\]$", "", name).split("::")[-1]
    assert (ROOT / "tests" / file).is_file(), f"tests/{file} does not exist"
    assert name in test_names(file), f"tests/{file} has no {name}"


def test_no_implements_line_is_missing_from_the_table() -> None:
    listed = {row.function.rpartition(".")[2] for row in ROWS}
    missing = [
        f"{path.relative_to(ROOT)}: {node.name}"
        for path in sorted((ROOT / "convexnn").rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.ClassDef)
        and re.search(r"^\s*Implements:", ast.get_docstring(node) or "", flags=re.MULTILINE)
        and node.name not in listed
    ]
    assert not missing, f"add a row to docs/equations.md for {missing}"
