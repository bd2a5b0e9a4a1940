"""Tables of stages and of robustness as values, and how they are written: text, rich, Markdown, CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.certificates.robustness import RobustnessTable, robustness_table
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.program import Solution
from convexnn.refinement import TrainingObjective

__all__ = [
    "TRUTHS",
    "RobustnessTable",
    "Sheet",
    "Stage",
    "StageRow",
    "StageTable",
    "robustness_sheet",
    "robustness_table",
    "stage_sheet",
    "stage_table",
    "to_csv",
    "to_markdown",
    "to_rich",
    "to_text",
    "transposed",
]

Array = NDArray[np.float64]
Cell = str | float | None

TRUTHS = (
    "The gap is of one convex program, with these activation patterns: it says how far the program's own "
    "objective is from its optimum, not how far training as a whole is.",
    "An attack is a lower bound on the worst case and a certificate is an upper bound: the truth lies between the two.",
    "A certificate is about the real-valued network that the stored weights define; inference in float32 "
    "computes a slightly different function.",
)


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


# -- stages ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Stage:
    """A network on the way from data to result, with what was paid for it.

    Attributes
    ----------
    name : str
    network : Network
        One output, takes the inputs of the table it enters.
    seconds : float
        Wall-clock time of the stage.
    solution : Solution or None
        Of the stage's own convex program, None when it has none.
    """

    name: str
    network: Network
    seconds: float
    solution: Solution | None = field(default=None, repr=False)


@dataclass(frozen=True)
class StageRow:
    """One line of a :class:`StageTable`; every number is recomputed from the network.

    Attributes
    ----------
    name : str
    objective : float
        ``mean((f(x_i) - y_i)^2) + lam L^2`` on the training rows, with the certified bound L.
    objective_l2 : float
        ``mean((f(x_i) - y_i)^2) + lam_l2 sum_j (|(w_j, b_j)|^2 + v_j^2)`` on the training rows.
    gap : float
        Verified relative gap of the stage's own convex program; ``inf`` without one.
    lipschitz : float
        Certified upper bound on the Lipschitz constant (l2).
    test_mse : float
    attacked : tuple of float
        Attacked test MSE at each radius: lower bounds on the worst case.
    certified : tuple of float
        Certified test MSE at each radius: upper bounds on the worst case.
    seconds : float
    """

    name: str
    objective: float
    objective_l2: float
    gap: float
    lipschitz: float
    test_mse: float
    attacked: tuple[float, ...]
    certified: tuple[float, ...]
    seconds: float


@dataclass(frozen=True, eq=False)
class StageTable:
    """Stages side by side, with the per-sample robustness results behind them."""

    rows: tuple[StageRow, ...]
    robustness: RobustnessTable = field(repr=False)
    lam: float
    lam_l2: float

    def __str__(self) -> str:
        """Plain text."""
        return to_text(stage_sheet(self))


def stage_table(
    stages: Sequence[Stage],
    train: tuple[ArrayLike, ArrayLike],
    test: tuple[ArrayLike, ArrayLike],
    radii: Sequence[float],
    *,
    lam: float,
    lam_l2: float | None = None,
    norm: str = "l2",
    random_state: Any = None,
    **options: Any,
) -> StageTable:
    """Judge the network of every stage by the same objectives, certificates and attacks.

    Parameters
    ----------
    stages : sequence of Stage
        With distinct names.
    train, test : pair (X, y)
        Objectives are of the training rows; errors, attacks and certificates of the test rows.
    radii : sequence of float
        Input units of the networks.
    lam : float
        Weight of the squared Lipschitz bound.
    lam_l2 : float, optional
        Weight of the sum of squared weights; ``lam`` by default.
    norm : {"l2", "linf"}
    random_state : int, Generator, RandomState or None
        Of the attacks.
    **options
        ``method``, ``steps``, ``restarts`` of :func:`convexnn.attacks.attack`.

    Returns
    -------
    StageTable
    """
    networks = {stage.name: stage.network for stage in stages}
    if len(networks) != len(stages):
        raise InvalidInputError(f"The names of the stages must differ, got {[stage.name for stage in stages]}.")
    table = robustness_table(networks, *test, radii, norm=norm, random_state=random_state, **options)
    X, y = (np.asarray(part, dtype=float) for part in train)
    decay = lam if lam_l2 is None else lam_l2
    objective_l2 = TrainingObjective(X, y, None, "l2", decay)
    rows = []
    for index, stage in enumerate(stages):
        bound = table.certificates[index].check(stage.network)
        objective = float(np.mean((stage.network(X) - y) ** 2)) + lam * bound**2
        rows.append(_stage_row(stage, index, table, bound, (objective, objective_l2(stage.network))))
    return StageTable(tuple(rows), table, lam, decay)


def _stage_row(
    stage: Stage, index: int, table: RobustnessTable, bound: float, objectives: tuple[float, float]
) -> StageRow:
    return StageRow(
        name=stage.name,
        objective=objectives[0],
        objective_l2=objectives[1],
        gap=math.inf if stage.solution is None else stage.solution.gap,
        lipschitz=bound,
        test_mse=float(table.clean_mse[index]),
        attacked=tuple(table.attacked_mse[index].tolist()),
        certified=tuple(table.certified_mse[index].tolist()),
        seconds=stage.seconds,
    )


# -- sheets ---------------------------------------------------------------------------------------


def stage_sheet(table: StageTable, certified_radius: float | None = None) -> Sheet:
    """Lay a stage table out; the certified error is shown at one radius (the second, or the only one)."""
    radii = table.robustness.radii.tolist()
    shown = radii[min(1, len(radii) - 1)] if certified_radius is None else certified_radius
    if shown not in radii:
        raise InvalidInputError(f"The certified radius must be one of {radii}, got {shown!r}.")
    columns = (
        "stage",
        "objective\nLipschitz",
        "objective\nl2",
        "verified\ngap",
        "certified\nL <=",
        "test\nMSE",
        *(f"attacked\n{radius:g}" for radius in radii),
        f"certified\n{shown:g}",
        "seconds",
    )
    rows = tuple(_stage_cells(row, radii.index(shown)) for row in table.rows)
    notes = (
        f"objective Lipschitz = training MSE + {table.lam:g} L^2 with the certified L; "
        f"objective l2 = training MSE + {table.lam_l2:g} (sum of squared weights and hidden biases).",
        "verified gap: of the stage's own convex program, recomputed from the data; - where a stage has no program.",
        f"attacked, certified: test MSE under perturbations of this {table.robustness.norm} radius, "
        "from below and from above.",
    )
    return Sheet("Stages", columns, rows, notes)


def _stage_cells(row: StageRow, shown: int) -> tuple[Cell, ...]:
    gap = f"{row.gap:.1e}" if math.isfinite(row.gap) else None
    head = (row.name, row.objective, row.objective_l2, gap, row.lipschitz, row.test_mse)
    return (*head, *row.attacked, row.certified[shown], f"{row.seconds:.1f}")


def robustness_sheet(table: RobustnessTable) -> Sheet:
    """Lay a robustness table out: one line per model and radius."""
    columns = ("model", f"{table.norm} radius", "clean MSE", "attacked MSE >=", "certified MSE <=", "Lipschitz <=")
    clean, low, high = table.clean_mse.tolist(), table.attacked_mse.tolist(), table.certified_mse.tolist()
    rows = tuple(
        (name, f"{radius:g}", clean[i], low[i][j], high[i][j], float(table.lipschitz[i]))
        for i, name in enumerate(table.names)
        for j, radius in enumerate(table.radii.tolist())
    )
    return Sheet("Robustness", columns, rows, (TRUTHS[1],))


# -- writing --------------------------------------------------------------------------------------


def _shown(cell: Cell) -> str:
    if cell is None:
        return "-"
    if isinstance(cell, str):
        return cell
    return f"{cell:#.4g}".removesuffix(".") if math.isfinite(cell) else str(cell)


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


def transposed(sheet: Sheet) -> Sheet:
    """Rows become columns: for narrow pages."""
    labels = tuple(label.replace("\n", " ") for label in sheet.columns)
    names = tuple(_shown(row[0]) for row in sheet.rows)
    rows = tuple((label, *(row[j] for row in sheet.rows)) for j, label in enumerate(labels) if j > 0)
    return Sheet(sheet.title, (labels[0], *names), rows, sheet.notes)


def to_text(sheet: Sheet) -> str:
    """Plain text: words to the left, numbers to the right, notes below."""
    header = [[label.split("\n") for label in sheet.columns]]
    depth = max((len(lines) for lines in header[0]), default=1)
    padded = [[""] * (depth - len(lines)) + lines for lines in header[0]]
    lines = [list(line) for line in zip(*padded, strict=True)]
    body = [[_shown(cell) for cell in row] for row in sheet.rows]
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
    body = [[_shown(cell) for cell in row] for row in sheet.rows]
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
    for row in sheet.rows:
        table.add_row(*(Text(_shown(cell)) for cell in row))
    return table
