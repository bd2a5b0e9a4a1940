"""Stages on the way from data to a certified network, judged side by side."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convexnn.certificates.robustness import RobustnessTable, robustness_table
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.pages.document import TRUTHS
from convexnn.program import Solution
from convexnn.report.sheet import Cell, Sheet, to_text


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
        ``mean((f(x_i) - y_i)^2) + lam_l2 sum_j (|(w_j, b_j)|^2 + v_j^2)`` on the training rows, with every unit
        rescaled so that the sum is smallest (``2 |v_j| |(w_j, b_j)|``); the function stays the same.
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
        Of :func:`convexnn.robustness_table`: ``method``, ``steps``, ``restarts``, ``n_jobs``.

    Returns
    -------
    StageTable
    """
    networks = {stage.name: stage.network for stage in stages}
    if len(networks) != len(stages):
        raise InvalidInputError(f"The names of the stages must differ, got {[stage.name for stage in stages]}.")
    table = robustness_table(networks, *test, radii, norm=norm, task="regression", random_state=random_state, **options)
    X, y = (np.asarray(part, dtype=float) for part in train)
    decay = lam if lam_l2 is None else lam_l2
    rows = []
    for index, stage in enumerate(stages):
        bound = table.certificates[index].check(stage.network)
        loss = float(np.mean((stage.network(X) - y) ** 2))
        objectives = loss + lam * bound**2, loss + decay * _balanced_decay(stage.network)
        rows.append(_stage_row(stage, index, table, bound, objectives))
    return StageTable(tuple(rows), table, lam, decay)


def _balanced_decay(network: Network) -> float:
    """Smallest sum of squared weights and hidden biases over the rescalings of units that keep the function."""
    return 2 * float(np.abs(network.v) @ np.sqrt((network.W**2).sum(axis=1) + network.b**2))


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
        f"objective l2 = training MSE + {table.lam_l2:g} (sum of squared weights and hidden biases, units balanced).",
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
    """Lay a robustness table out: one line per model and radius; "error" is the fraction that is misclassified."""
    error = "MSE" if table.task == "regression" else "error"
    names = (f"clean {error}", f"attacked {error} >=", f"certified {error} <=", "Lipschitz <=")
    columns = ("model", f"{table.norm} radius", *names)
    clean, low, high = (table.mean(kind).tolist() for kind in ("clean", "attacked", "certified"))
    rows = tuple(
        (name, f"{radius:g}", clean[i], low[i][j], high[i][j], float(table.lipschitz[i]))
        for i, name in enumerate(table.names)
        for j, radius in enumerate(table.radii.tolist())
    )
    return Sheet("Robustness", columns, rows, (TRUTHS[1],))
