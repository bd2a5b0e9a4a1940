"""The interior point loop of one row: start, directions, steps, stops. It proposes multipliers and believes nothing."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.query import Effort
from convexnn.relaxations.arrow.directions import Direction, Point, corrector_of, direction
from convexnn.relaxations.arrow.factors import (
    Completion,
    NotPositiveError,
    Primal,
    Slack,
    grams,
)
from convexnn.relaxations.arrow.problem import ArrowProblem
from convexnn.relaxations.arrow.schur import schur_factor
from convexnn.relaxations.arrow.sharing import Watch
from convexnn.relaxations.arrow.starts import dual_start, moved_to, primal_start
from convexnn.relaxations.arrow.steps import dual_step, primal_step

Array = NDArray[np.float64]
MAX_ITER = 60
#: A state may start another row only while its relative gap is above this: later states are too close to the boundary.
KEEP_GAP = 1.0
FRACTION = 0.95
#: Primal residuals below which the gap, or a primal value above the target, is believed.
RESIDUAL, RESIDUAL_HOPELESS = 1e-3, 1e-4
SHORTEST_STEP = 1e-6


@dataclass(frozen=True, eq=False)
class State:
    """Multipliers and primal point from which another row of the same query may start."""

    v: Array
    primal: Primal


@dataclass(frozen=True, eq=False)
class Outcome:
    """What the loop found for one row.

    Attributes
    ----------
    v : array, shape (n_rows + n_nu,)
        Multipliers (y, nu) of the best bound; empty when there is none.
    bound : float
        Their value in float64, ``inf`` without any; not rounded, not believed.
    status : str
        As in `Evidence`.
    iterations : int
    gap : float
        Complementarity at the end.
    primal : Primal or None
        The last moments.
    state : State or None
        Where to start other rows.
    """

    v: Array
    bound: float
    status: str
    iterations: int = 0
    gap: float = np.inf
    primal: Primal | None = None
    state: State | None = None


@dataclass
class _Run:
    """The moving parts of the loop; the constant of the objective is kept apart, since it may dwarf the rest."""

    problem: ArrowProblem
    constant: float
    effort: Effort
    slack: Slack
    primal: Primal
    best: float = np.inf
    best_v: Array = field(default_factory=lambda: np.empty(0))
    gap: float = np.inf
    state: State | None = None
    watch: Watch | None = None
    floor: float = -np.inf

    def outcome(self, status: str, iterations: int) -> Outcome:
        """Freeze."""
        v = self.best_v.copy()
        v[:1] += self.constant
        return Outcome(v, self.bound, status, iterations, self.gap, self.primal, self.state)

    @property
    def bound(self) -> float:
        """The best one, constant included."""
        return self.best + self.constant

    @property
    def size(self) -> float:
        """What gaps are relative to."""
        return max(self.problem.unit, abs(self.bound))


def minimize(
    problem: ArrowProblem, effort: Effort, warm: State | None = None, watch: Watch | None = None, floor: float = -np.inf
) -> Outcome:
    """Minimise ``cost (y, nu)`` over the multipliers with Z >= 0; breakdowns end the loop, they never raise.

    Every iterate is strictly feasible, so the best one is a bound whenever the loop ends.

    Parameters
    ----------
    problem : ArrowProblem
        With at least one unstable unit or sign row.
    effort : Effort
    warm : State, optional
        Of another row of the same query (or a neighbouring one with the same shapes).
    watch : Watch, optional
        Other rows of the same relaxation, which see every iterate.
    floor : float
        Value that every input of the set exceeds: a bound below it says that there is none, and ends the loop.
    """
    constant, problem = float(problem.objective[0]), problem.without_constant()
    with np.errstate(all="ignore"):
        v, primal = _start(problem, effort, warm)
        if v is None or primal is None:
            return Outcome(np.empty(0), np.inf, "failed: no strictly feasible start")
        run = _Run(problem, constant, effort, Slack.at(problem, v), primal, watch=watch, floor=floor)
        limit = MAX_ITER if effort.max_iter is None else effort.max_iter
        for iteration in range(limit):
            try:
                status = _iterate(run)
            except (NotPositiveError, ValueError, FloatingPointError) as error:
                status = f"failed: the Newton system broke down ({type(error).__name__})"
            if status is not None:
                return run.outcome(status, iteration + 1)
        return run.outcome("max_iter", limit)


def _start(problem: ArrowProblem, effort: Effort, warm: State | None) -> tuple[Array | None, Primal | None]:
    """Multipliers and moments: those of another row where they can be moved, else fresh ones."""
    try:
        v = None if warm is None else moved_to(problem, warm.v)
        if warm is not None and v is not None:
            return v, warm.primal
        return dual_start(problem), primal_start(problem.relaxation, effort.seed)
    except (NotPositiveError, ValueError, FloatingPointError):  # numbers out of range
        return None, None


def _iterate(run: _Run) -> str | None:
    """One iteration; a status ends the loop."""
    problem, slack, primal, relaxation = run.problem, run.slack, run.primal, run.problem.relaxation
    value = float(relaxation.cost @ slack.v)
    _keep_best(run, value)
    if run.watch is not None:
        run.watch.look(problem, slack)
    if run.effort.stop_below is not None and run.bound < run.effort.stop_below:
        return "below"
    if run.bound < run.floor:
        return "optimal"
    if run.effort.out_of_time():
        return "time_limit"
    size = relaxation.p + relaxation.d + int(relaxation.positive.sum())
    run.gap = _complementarity(slack, primal)
    mu = run.gap / size
    if run.gap > KEEP_GAP * run.size or run.state is None:
        run.state = State(slack.v, primal)
    done = Completion.of(primal)
    products = grams(relaxation, primal, done, slack)
    residual = relaxation.cost - relaxation.adjoint(products.X, primal.Xd) - primal.s
    error = float(np.abs(residual).max())
    status = _stop(run, value, error)
    if status is not None:
        return status
    point = Point.of(relaxation, primal, done, slack, products)
    factor = schur_factor(relaxation, primal, done, slack, products)
    affine = direction(point, factor, 0.0)
    sigma = _centring(point, affine, mu, size)
    way = direction(point, factor, sigma * mu, corrector_of(point, affine))
    step_x, step_z = primal_step(point, way, FRACTION), dual_step(point, way, FRACTION)
    if max(step_x, step_z) < SHORTEST_STEP:
        return "failed: the steps became too short"
    Xhh = primal.Xhh + step_x * way.dXhh
    run.primal = Primal(
        0.5 * (Xhh + Xhh.T),
        primal.Xx + step_x * way.dXx,
        primal.Xd + step_x * way.dXd,
        primal.s + step_x * way.ds,
    )
    run.slack = Slack.at(problem, slack.v + step_z * way.dv)
    return None


def _keep_best(run: _Run, value: float) -> None:
    """Lower t to the boundary: feasible still, and the bound improves at once."""
    S = run.slack.S
    spare = max(1.0 / run.slack.G[0, 0] - 1e-10 * abs(S[0, 0]), 0.0)  # the Schur complement of slot 0
    if value - spare < run.best:
        run.best = value - spare
        run.best_v = run.slack.v.copy()
        run.best_v[0] -= spare


def _complementarity(slack: Slack, primal: Primal) -> float:
    return float(
        (primal.Xhh * slack.Zhh).sum()
        + 2.0 * np.einsum("ij,ji->", primal.Xx, slack.B)
        + slack.N @ primal.Xd
        + primal.s @ slack.v
    )


def _stop(run: _Run, value: float, error: float) -> str | None:
    """Gap closed, or the primal value shows that the target cannot be reached."""
    effort = run.effort
    if error < RESIDUAL and run.gap < effort.tol * run.size:
        return "optimal"
    if effort.stop_below is not None and error < RESIDUAL_HOPELESS:
        margin = max(1e-6 * run.problem.unit, 10.0 * error * float(np.abs(run.slack.v).sum()))
        if value + run.constant - run.gap - effort.stop_below > margin:
            return "hopeless"
    return None


def _centring(point: Point, affine: Direction, mu: float, size: int) -> float:
    """Mehrotra's choice from the affine step."""
    step_x, step_z = primal_step(point, affine, 1.0), dual_step(point, affine, 1.0)
    primal, slack = point.primal, point.slack
    left = ((primal.Xhh + step_x * affine.dXhh) * (slack.Zhh + step_z * affine.dZ)).sum()
    left += 2.0 * np.einsum("ij,ji->", primal.Xx + step_x * affine.dXx, slack.B + step_z * affine.dB)
    left += (primal.Xd + step_x * affine.dXd) @ (slack.N + step_z * affine.dN)
    left += (primal.s + step_x * affine.ds) @ (slack.v + step_z * affine.dv)
    return min(1.0, max(1e-6, (max(left / size, 0.0) / mu) ** 2))
