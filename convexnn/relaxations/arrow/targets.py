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
from convexnn.relaxations.arrow.products import stored, with_products
from convexnn.relaxations.arrow.rounding import rounded_points
from convexnn.relaxations.arrow.sharing import Watch

Array = NDArray[np.float64]
FINISHED = ("optimal", "below", "hopeless")
#: Distance to an attained value, relative to the bound, from which on more rows are worth a second run.
OPEN_GAP = 0.01
#: From the word that says most about a query to the one that says least.
WORDS = ("time_limit", "max_iter", "hopeless", "optimal", "below")


@dataclass(frozen=True)
class Strengthening:
    """What is added to the published relaxation.

    Attributes
    ----------
    triangle : bool
        The upper sides of the triangles as rows, from the start.
    products : bool
        A second run, with products of pairs of units and the triangles, for rows whose bound is well above what their
        moments attain.
    linear : bool
        Prices of the linear relaxation for rows that might be above it (`propose_sdp`).
    largest : int
        Multipliers of the first run beyond which there is no second one: with 784 inputs it would double the time for
        a fifth of the gap.
    """

    triangle: bool = False
    products: bool = True
    linear: bool = True
    largest: int = 400


#: The published relaxation and nothing else.
PLAIN = Strengthening(products=False, linear=False)


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
    y, nu, products : array
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
    products: Array = field(default_factory=lambda: np.empty((0, 3)))
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
        """Keys ``row{r}/y``, ``row{r}/nu`` and ``row{r}/products`` of the rows that have multipliers."""
        found = {}
        for index, row in enumerate(self.rows):
            if len(row.y):
                found[f"row{index}/y"], found[f"row{index}/nu"] = row.y, row.nu
            if len(row.products):
                found[f"row{index}/products"] = row.products
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
    query: Query,
    bounds: LayerBounds,
    effort: Effort,
    warm: State | None = None,
    extra: Strengthening = PLAIN,
) -> QueryResult:
    """Semidefinite bounds of the rows, worst linear bound first; rows already below the target are left alone.

    Parameters
    ----------
    query : Query
    bounds : LayerBounds
    effort : Effort
    warm : State, optional
        Of an earlier result for the same network, set, bounds and signs.
    extra : Strengthening
        More rows than the published ones. The upper sides of the triangles make the relaxation at least as tight as
        the linear one.
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
    relaxation = relaxation_of(query, bounds, extra.triangle)
    if relaxation.m == 0 and relaxation.extra == 0:  # linear on the set: the linear bound is exact
        return QueryResult(tuple(rows))
    run = _Run(query, relaxation, effort, _floors(query, bounds), rows, warm, extra)
    run.all_rows([int(row) for row in np.argsort(-before, kind="stable")])
    return QueryResult(tuple(run.rows), run.state)


@dataclass
class _Run:
    """Rows of a query while they are solved one after the other."""

    query: Query
    relaxation: Relaxation
    effort: Effort
    floors: Array
    rows: list[RowResult]
    state: State | None
    extra: Strengthening

    @property
    def target(self) -> float:
        return -np.inf if self.effort.stop_below is None else self.effort.stop_below

    def all_rows(self, todo: list[int]) -> None:
        """In this order, up to the first failure where one is enough."""
        while todo:
            row = todo.pop(0)
            if self.rows[row].bound < self.target:
                self.rows[row] = replace(self.rows[row], status="below")
            elif self.effort.out_of_time():
                self.rows[row] = replace(self.rows[row], status="time_limit")
            else:
                waiting = [other for other in todo if not self.rows[other].bound < self.target]
                self.one_row(row, waiting)
                if self.effort.first_failure and not self.rows[row].bound < self.target:
                    for other in todo:
                        word = "below" if self.rows[other].bound < self.target else "skipped"
                        self.rows[other] = replace(self.rows[other], status=word)
                    return

    def one_row(self, row: int, waiting: list[int]) -> None:
        """Solve a row, and again with products of units where that promises something."""
        primal = self.solve(row, self.relaxation, waiting, self.state)
        small = self.relaxation.n_rows + self.relaxation.n_nu <= self.extra.largest
        if primal is None or not (self.extra.products and small and self.is_open(row)):
            return
        stronger = with_products(relaxation_with_triangles(self.relaxation), primal)
        if stronger is not None:
            self.solve(row, stronger, waiting, None)

    def is_open(self, row: int) -> bool:
        """Whether the bound is above what the moments attain, and could get below the target."""
        found = self.rows[row]
        if found.bound < self.target or found.status not in FINISHED or not found.points.size:
            return False
        reached = float(self.query.rows(row).values(found.points).max())
        size = max(float(np.abs(self.relaxation.forms.outputs[row, 1:]).max(initial=0.0)), abs(found.bound))
        open_ = found.bound - reached > max(OPEN_GAP, self.effort.tol) * size
        return open_ and (self.effort.stop_below is None or reached < self.target) and not self.effort.out_of_time()

    def solve(self, row: int, relaxation: Relaxation, waiting: list[int], warm: State | None) -> Primal | None:
        """Run the loop on a row, keep what it finds for this row and for those that wait; the last moments."""
        problem = ArrowProblem(relaxation, relaxation.forms.outputs[row])
        watch = None if self.effort.stop_below is None else Watch.over(relaxation.forms.outputs[waiting])
        outcome = _solve(problem, self.effort, warm, watch, self.floors[row])
        if relaxation is self.relaxation:
            self.state = outcome.state or self.state
        before = self.rows[row]
        found = _result(self.query.rows(row), problem, outcome, before.bound, self.effort.seed)
        self.rows[row] = _better(before, found)
        if watch is not None:
            for other, bound, v in zip(waiting, watch.best, watch.multipliers, strict=True):
                if bound < self.rows[other].bound:
                    y, nu, products = stored(relaxation, v)
                    self.rows[other] = replace(self.rows[other], bound=float(bound), y=y, nu=nu, products=products)
        return outcome.primal


def relaxation_with_triangles(relaxation: Relaxation) -> Relaxation:
    """The same with the upper sides of the triangles."""
    return relaxation if relaxation.triangle else replace(relaxation, triangle=True)


def _better(seen: RowResult, found: RowResult) -> RowResult:
    """The result of a row, with what was met before where that proves more."""
    found = replace(found, iterations=seen.iterations + found.iterations)
    if found.bound < seen.bound or (found.bound == seen.bound and not len(seen.y)):
        return found
    status = seen.status if seen.iterations else found.status
    return replace(found, bound=seen.bound, y=seen.y, nu=seen.nu, products=seen.products, status=status)


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
        *(stored(relaxation, outcome.v) if len(outcome.v) else (np.empty(0), np.empty(0), np.empty((0, 3)))),
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
