"""All rows of a query: worst linear bound first, states handed from row to row, stops, and what the moments tell."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.arrow.chart import chart_of
from convexnn.relaxations.arrow.evidence import has_relaxation, linear_bounds
from convexnn.relaxations.arrow.factors import Primal
from convexnn.relaxations.arrow.forms import compose, unstable
from convexnn.relaxations.arrow.method import Outcome, State, minimize
from convexnn.relaxations.arrow.problem import ArrowProblem, Relaxation
from convexnn.relaxations.arrow.rounding import rounded_points
from convexnn.relaxations.arrow.sharing import Watch

Array = NDArray[np.float64]
FINISHED = ("optimal", "below", "hopeless")
#: From the word that says most about a query to the one that says least.
WORDS = ("time_limit", "max_iter", "hopeless", "optimal", "below")


@dataclass(frozen=True, eq=False)
class RowResult:
    """What is known of one row.

    Attributes
    ----------
    bound : float
        The smaller of the linear bound and the value of the multipliers (the latter in float64, unrounded).
    status : str
        As in `Evidence`; "below" or "optimal" without iterations when the linear bound was enough; "skipped" after a
        first failure.
    iterations : int
    y, nu : array
        Multipliers; empty when there are none.
    points : array, shape (n, d)
        Inputs near which the relaxation is attained.
    layer, unit : array of int, shape (m,)
    score : array, shape (m,)
        Units by what their relaxation costs the row: the largest is the one to split.
    """

    bound: float
    status: str
    iterations: int = 0
    y: Array = field(default_factory=lambda: np.empty(0))
    nu: Array = field(default_factory=lambda: np.empty(0))
    points: Array = field(default_factory=lambda: np.empty((0, 0)))
    layer: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    unit: NDArray[np.intp] = field(default_factory=lambda: np.empty(0, dtype=np.intp))
    score: Array = field(default_factory=lambda: np.empty(0))


@dataclass(frozen=True, eq=False)
class QueryResult:
    """Results of all rows and a state from which a related query may start.

    Attributes
    ----------
    rows : tuple of RowResult
    state : State or None
        For queries with the same network, set, bounds and signs.
    """

    rows: tuple[RowResult, ...]
    state: State | None = None

    @property
    def bounds(self) -> Array:
        """Bounds of the rows, shape (q,); proposals, not rounded."""
        return np.array([row.bound for row in self.rows])

    @property
    def iterations(self) -> int:
        """Of all rows."""
        return sum(row.iterations for row in self.rows)

    @property
    def status(self) -> str:
        """One word for the query."""
        words = [row.status for row in self.rows]
        failed = next((word for word in words if word.startswith("failed")), None)
        return failed or next((word for word in WORDS if word in words), "optimal")

    @property
    def worst(self) -> int:
        """Row with the largest bound among those that were tried."""
        tried = [row.bound if row.status != "skipped" else -np.inf for row in self.rows]
        return int(np.argmax(tried))

    def multiplier(self) -> dict[str, Array]:
        """Keys ``row{r}/y`` and ``row{r}/nu`` of the rows that have multipliers."""
        found = {}
        for index, row in enumerate(self.rows):
            if len(row.y):
                found[f"row{index}/y"], found[f"row{index}/nu"] = row.y, row.nu
        return found


def relaxation_of(query: Query, bounds: LayerBounds, triangle: bool = False) -> Relaxation:
    """The relaxation of a query in few coordinates: the row space of the first layer for a ball."""
    chart = chart_of(query.inputs)
    if chart.is_ball:
        W = query.network.layers[0][0]
        live = bounds.upper[0] > 0 if query.signs is None else (bounds.upper[0] > 0) | (query.signs[0] != 0)
        chart = chart.reduced(W if query.network.activation.slopes[0] else W[live])
    with np.errstate(all="ignore"):
        return Relaxation(chart, compose(query, bounds, chart), triangle)


def count_unstable(query: Query, bounds: LayerBounds) -> int:
    """Number of unstable units without a sign."""
    ends = zip(bounds.lower, bounds.upper, strict=True)
    return sum(int(unstable(query, low, high, k).sum()) for k, (low, high) in enumerate(ends))


def bound_rows(
    query: Query, bounds: LayerBounds, effort: Effort, warm: State | None = None, *, triangle: bool = False
) -> QueryResult:
    """Semidefinite bounds of the rows, worst linear bound first; rows already below the target are left alone.

    Parameters
    ----------
    query : Query
    bounds : LayerBounds
    effort : Effort
    warm : State, optional
        Of an earlier result for the same network, set, bounds and signs.
    triangle : bool, default False
        Also the upper sides of the triangles as rows, which makes the relaxation at least as tight as the linear one.
    """
    if bounds.empty:
        return QueryResult(tuple(RowResult(-np.inf, "below") for _ in range(query.n_rows)))
    before = linear_bounds(query, bounds)
    rows = [RowResult(float(value), "optimal") for value in before]
    if not all(np.isfinite(ends).all() for ends in (*bounds.lower, *bounds.upper)):
        word = "failed: the bounds of some unit are infinite"
        return QueryResult(tuple(replace(row, status=word) for row in rows))
    if not has_relaxation(query, bounds):
        return QueryResult(tuple(rows))
    relaxation = relaxation_of(query, bounds, triangle)
    if relaxation.m == 0 and relaxation.extra == 0:  # linear on the set: the linear bound is exact
        return QueryResult(tuple(rows))
    target = -np.inf if effort.stop_below is None else effort.stop_below
    floors = _floors(query, bounds)
    todo = [int(row) for row in np.argsort(-before, kind="stable")]
    state = warm
    while todo:
        row = todo.pop(0)
        if rows[row].bound < target:
            rows[row] = replace(rows[row], status="below")
        elif effort.out_of_time():
            rows[row] = replace(rows[row], status="time_limit")
        else:
            problem = ArrowProblem(relaxation, relaxation.forms.outputs[row])
            waiting = [other for other in todo if not rows[other].bound < target]
            watch = Watch.over(relaxation.forms.outputs[waiting])
            outcome = _solve(problem, effort, state, watch if effort.stop_below is not None else None, floors[row])
            state = outcome.state or state
            rows[row] = _better(rows[row], _result(query.rows(row), problem, outcome, float(before[row]), effort.seed))
            for other, bound, v in zip(waiting, watch.best, watch.multipliers, strict=True):
                if bound < rows[other].bound:
                    rows[other] = replace(
                        rows[other], bound=float(bound), y=v[: relaxation.n_rows], nu=v[relaxation.n_rows :]
                    )
            if effort.first_failure and not rows[row].bound < target:
                for other in todo:
                    rows[other] = replace(rows[other], status="below" if rows[other].bound < target else "skipped")
                break
    return QueryResult(tuple(rows), state)


def _better(seen: RowResult, found: RowResult) -> RowResult:
    """The result of a row, with the multipliers that were met before where they prove more."""
    return found if found.bound <= seen.bound else replace(found, bound=seen.bound, y=seen.y, nu=seen.nu)


def _floors(query: Query, bounds: LayerBounds) -> Array:
    """Values that every input exceeds, if there is any; only signs can leave none."""
    if query.signs is None:
        return np.full(query.n_rows, -np.inf)
    return -linear_bounds(replace(query, weights=-query.weights, offset=-query.offset), bounds)


def _solve(problem: ArrowProblem, effort: Effort, state: State | None, watch: Watch | None, floor: float) -> Outcome:
    """Warm start first, and a cold one when that broke down."""
    if state is None or effort.stop_below is None:
        return minimize(problem, effort, None, watch, floor)
    found = minimize(problem, effort, state, watch, floor)
    if found.status in (*FINISHED, "time_limit"):
        return found
    again = minimize(problem, effort, None, watch, floor)
    return again if again.bound <= found.bound else found


def _result(query: Query, problem: ArrowProblem, outcome: Outcome, before: float, seed: int) -> RowResult:
    relaxation, forms = problem.relaxation, problem.relaxation.forms
    points, score = np.empty((0, len(relaxation.chart.centre))), np.zeros(relaxation.m)
    if outcome.primal is not None:
        points, score = rounded_points(query, relaxation, outcome.primal, seed), _scores(problem, outcome.primal)
    return RowResult(
        min(before, outcome.bound),
        outcome.status,
        outcome.iterations,
        outcome.v[: relaxation.n_rows],
        outcome.v[relaxation.n_rows :],
        points,
        forms.layer,
        forms.unit,
        score,
    )


def _scores(problem: ArrowProblem, primal: Primal) -> Array:
    """``|o_j| |E z_j - relu(E s_j)|``: how far the first moments are from a state of the network, as outputs see it."""
    relaxation, m, p = problem.relaxation, problem.relaxation.m, problem.relaxation.p
    units = relaxation.forms.units
    mean = units[:, :p] @ primal.Xhh[0] + units[:, p:] @ primal.Xx[:, 0]
    gap = np.abs(primal.Xhh[0, 1:] - np.maximum(mean, 0.0))
    return gap * (np.abs(problem.objective[1 : 1 + m]) + 1e-9)


def as_details(result: QueryResult) -> Mapping[str, object]:
    """What a report may print: proposals, iterations and the scores of the worst row."""
    worst = result.rows[result.worst]
    return {
        "proposals": result.bounds,
        "statuses": tuple(row.status for row in result.rows),
        "iterations": np.array([row.iterations for row in result.rows]),
        "worst_row": result.worst,
        "branching": (worst.layer, worst.unit, worst.score),
    }
