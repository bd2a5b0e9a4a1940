"""What a table must look like, and a reader that names the row and the column that do not."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from convexnn.exceptions import DatasetError

COMMENTS = ("#", "***")

Line = tuple[int, list[str]]


@dataclass(frozen=True)
class Column:
    """The values that a column may hold.

    Parameters
    ----------
    name : str
    low, high : float
        Bounds of a number, both included.
    integer : bool
        Whether the number is a count.
    categories : tuple of str
        Nonempty: the only values allowed; the place in the tuple is the ordinal code.
    text : bool
        Whether any nonempty text is taken.
    """

    name: str
    low: float = -math.inf
    high: float = math.inf
    integer: bool = False
    categories: tuple[str, ...] = ()
    text: bool = False

    def fault(self, value: str) -> str | None:
        """What is wrong with a value, or None."""
        if value in ("", "?"):
            return "the value is missing"
        if self.text:
            return None
        if self.categories:
            return None if value in self.categories else f"{value!r} is not one of {', '.join(self.categories)}"
        try:
            number = float(value.replace("_", " _"))  # Python reads 1_0 as 10
        except ValueError:
            return f"{value!r} is not a number"
        if not self.low <= number <= self.high:  # also false for nan
            return f"{value} lies outside [{self.low:g}, {self.high:g}]"
        return f"{value} is not an integer" if self.integer and number != round(number) else None


@dataclass(frozen=True)
class Table:
    """A data set as its origin publishes it: where it lies, its columns in order, and how it is to be read.

    Parameters
    ----------
    name : str
        Also the name of the file in the cache, with ``.csv``.
    columns : tuple of Column
    n_rows : int
    features : tuple of str
    target : str
    url : str
        Address of the archive.
    member : str
        File in the archive.
    sha256 : str
        Of the table written by :func:`to_csv`, as it was when this was written; informative, not decisive.
    description : str
    titled : bool
        Whether the origin's file opens with a line of prose.
    """

    name: str
    columns: tuple[Column, ...]
    n_rows: int
    features: tuple[str, ...]
    target: str
    url: str
    member: str
    sha256: str
    description: str
    titled: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the columns, in order."""
        return tuple(column.name for column in self.columns)

    def column(self, name: str) -> Column:
        """The column of a name."""
        return self.columns[self.names.index(name)]


def parse(content: bytes, table: Table, origin: str) -> dict[str, list[str]]:
    """Values of every column as written, after every one of them was checked.

    Read are commas, semicolons and spaces, with a header in any order of columns or without one.

    Parameters
    ----------
    content : bytes
    table : Table
    origin : str
        Named in errors.

    Returns
    -------
    dict of str to list of str
        In the order of ``table.columns``.

    Raises
    ------
    DatasetError
        The file is no text, a column is missing or unknown, the number of rows differs, or a value is not allowed.
    """
    lines = _lines(content, table, origin)
    places, has_header = _places(lines[0], table, origin)
    rows = lines[1:] if has_header else lines
    width = len(lines[0][1])
    for row, (line, cells) in enumerate(rows, start=1):
        if len(cells) != width:
            raise DatasetError(f"{origin}, row {row} (line {line}): {len(cells)} values, expected {width}.")
        _check_values(row, line, cells, places, table, origin)
    if len(rows) != table.n_rows:
        raise DatasetError(f"{origin} holds {len(rows)} rows, but {table.name} has {table.n_rows}.")
    return {name: [cells[place] for _, cells in rows] for name, place in places.items()}


def to_csv(values: Mapping[str, list[str]]) -> bytes:
    """Comma-separated text with a header, line feeds at the ends: one form for every origin of the same table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(values)
    writer.writerows(zip(*values.values(), strict=True))
    return out.getvalue().encode()


def _lines(content: bytes, table: Table, origin: str) -> list[Line]:
    """Cells of every line that holds data, with the number of the line."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DatasetError(f"{origin} is not a text file: byte {error.start} is not UTF-8.") from error
    kept = [(n, line) for n, line in enumerate(text.split("\n"), start=1) if line.strip()]
    kept = [(n, line) for n, line in kept if not line.startswith(COMMENTS)]
    if not kept:
        raise DatasetError(f"{origin} is empty: it holds no row.")
    try:
        if table.titled and _is_title(kept, len(table.names)):
            kept = kept[1:]
        split = _splitter(kept[0][1])
        return [(n, [cell.strip() for cell in split(line.rstrip("\r"))]) for n, line in kept]
    except csv.Error as error:
        raise DatasetError(f"{origin} cannot be split into columns: {error}.") from error


def _is_title(lines: list[tuple[int, str]], width: int) -> bool:
    """Whether the first line has not the width of the table, but the second has."""
    widths = [len(_splitter(line)(line)) for _, line in lines[:2]]
    return len(widths) == 2 and widths[0] != width == widths[1]


def _splitter(line: str) -> Callable[[str], list[str]]:
    delimiter = next((mark for mark in ";," if mark in line), None)
    if delimiter is None:
        return str.split
    return lambda text: next(csv.reader([text], delimiter=delimiter))


def _places(first: Line, table: Table, origin: str) -> tuple[dict[str, int], bool]:
    """Where each column stands, and whether the first line is a header."""
    cells = [_plain(cell) for cell in first[1]]
    known = {_plain(name): name for name in table.names}
    if 2 * sum(cell in known for cell in cells) <= len(cells):  # C, M and X are flare classes and column names
        if len(cells) != len(table.names):
            raise DatasetError(
                f"{origin}, line {first[0]}: {len(cells)} values and no header; expected {len(table.names)} columns: "
                f"{', '.join(table.names)}."
            )
        return {name: place for place, name in enumerate(table.names)}, False
    missing = [name for plain, name in known.items() if plain not in cells]
    unknown = [cell for cell, plain in zip(first[1], cells, strict=True) if plain not in known]
    if missing or unknown or len(set(cells)) < len(cells):
        raise DatasetError(
            f"{origin} has the wrong columns: missing {missing}, unknown {unknown}, "
            f"repeated {sorted({cell for cell in cells if cells.count(cell) > 1})}; expected {', '.join(table.names)}."
        )
    return {name: cells.index(plain) for plain, name in known.items()}, True


def _plain(cell: str) -> str:
    return cell.strip().lower().replace(" ", "_")


def _check_values(row: int, line: int, cells: list[str], places: Mapping[str, int], table: Table, origin: str) -> None:
    for name, place in places.items():
        fault = table.column(name).fault(cells[place])
        if fault:
            raise DatasetError(f"{origin}, row {row} (line {line}), column {name!r}: {fault}.")
