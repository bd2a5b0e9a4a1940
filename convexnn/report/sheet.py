"""A table ready to be written, and its writers."""

from __future__ import annotations

import csv
import io
import math
from dataclasses import dataclass
from typing import Any, Literal

from convexnn.decimals import DOWN, UP, written

Cell = str | float | None


@dataclass(frozen=True)
class Sheet:
    """A table ready to be written: labels, cells and what must be said below it.

    Attributes
    ----------
    title : str
    columns : tuple of str
        Labels; a line break stands for a second line.
    rows : tuple of tuple
        Text, numbers, or None where there is nothing to say.
    notes : tuple of str
        Sentences that belong to the numbers.
    """

    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Plain text."""
        return to_text(self)


def shown(cell: Cell, label: str = "") -> str:
    """A cell in print: four digits, a bound rounded to the side on which it stays one."""
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    if not math.isfinite(cell):
        return str(cell)
    side = _side(label)
    kept = cell if side is None else float(written(cell, 4, side))
    return f"{kept:#.4g}".removesuffix(".")


def _side(label: str) -> bool | None:
    """Which way the numbers of a column are rounded: up for upper bounds, down for lower ones, None for neither."""
    if "<=" in label or label.startswith("certified"):
        return UP
    return DOWN if ">=" in label or label.startswith("attacked") else None


def _body(sheet: Sheet) -> list[list[str]]:
    return [[shown(cell, label) for cell, label in zip(row, sheet.columns, strict=True)] for row in sheet.rows]


def _is_text(sheet: Sheet, column: int) -> bool:
    """Whether a column holds words: words stand on the left, numbers on the right."""
    cells = [row[column] for row in sheet.rows if row[column] is not None]
    return column == 0 or (bool(cells) and not all(_is_number(cell) for cell in cells))


def _is_number(cell: Cell) -> bool:
    try:
        float(cell)  # type: ignore[arg-type]
    except ValueError:
        return False
    return True


def _turned(cell: Cell, label: str) -> Cell:
    """A bound as text, for a row does not know which way it is rounded; other cells stay."""
    return shown(cell, label) if isinstance(cell, float) and _side(label) is not None else cell


def transposed(sheet: Sheet) -> Sheet:
    """Rows become columns: for narrow pages."""
    labels = tuple(label.replace("\n", " ") for label in sheet.columns)
    names = tuple(shown(row[0]) for row in sheet.rows)
    cells = [[_turned(cell, label) for cell, label in zip(row, sheet.columns, strict=True)] for row in sheet.rows]
    rows = tuple((label, *(row[j] for row in cells)) for j, label in enumerate(labels) if j > 0)
    return Sheet(sheet.title, (labels[0], *names), rows, sheet.notes)


def to_text(sheet: Sheet) -> str:
    """Plain text: words to the left, numbers to the right, notes below."""
    header = [[label.split("\n") for label in sheet.columns]]
    depth = max((len(lines) for lines in header[0]), default=1)
    padded = [[""] * (depth - len(lines)) + lines for lines in header[0]]
    lines = [list(line) for line in zip(*padded, strict=True)]
    body = _body(sheet)
    left = [_is_text(sheet, j) for j in range(len(sheet.columns))]
    width = [max(len(line[j]) for line in lines + body) for j in range(len(sheet.columns))]

    def write(line: list[str]) -> str:
        cells = [c.ljust(w) if words else c.rjust(w) for c, w, words in zip(line, width, left, strict=True)]
        return "  ".join(cells).rstrip()

    rule = "  ".join("-" * w for w in width)
    return "\n".join([*map(write, lines), rule, *map(write, body), *sheet.notes])


def to_markdown(sheet: Sheet) -> str:
    """A Markdown table and its notes."""
    labels = [label.replace("\n", " ") for label in sheet.columns]
    rule = ["---" if _is_text(sheet, j) else "---:" for j in range(len(labels))]
    body = _body(sheet)
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in [labels, rule, *body]]
    notes = [f"- {note}" for note in sheet.notes]
    return "\n".join([*lines, "", *notes]).rstrip() + "\n"


def to_csv(sheet: Sheet) -> str:
    """Comma-separated values with all digits; empty where there is nothing to say; no notes."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(label.replace("\n", " ") for label in sheet.columns)
    writer.writerows([["" if cell is None else cell for cell in row] for row in sheet.rows])
    return file.getvalue()


def to_rich(sheet: Sheet) -> Any:
    """A :class:`rich.table.Table`; the notes are left to the caller."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True, title=sheet.title, title_justify="left")
    for index, label in enumerate(sheet.columns):
        justify: Literal["left", "right"] = "left" if _is_text(sheet, index) else "right"
        table.add_column(Text(label), justify=justify, no_wrap=True, vertical="bottom")
    for row in _body(sheet):
        table.add_row(*map(Text, row))
    return table
