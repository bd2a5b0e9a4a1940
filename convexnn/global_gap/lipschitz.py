r"""Training with ``lam LipSDP^2`` to a certified global gap, by column generation.

The restricted master is the joint Lipschitz program over the patterns so far. Its multipliers price new units; a
violated price is a new pattern, and a proof that no price is violated is a bound on every network of every width.
"""

from __future__ import annotations

import math
import time
import warnings
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.global_gap.lipschitz_bound import (
    DualBound,
    LipschitzBound,
    LipschitzMultipliers,
    bound_on_rows,
    pricing_problem,
)
from convexnn.global_gap.lipschitz_columns import Columns, units
from convexnn.global_gap.lipschitz_pricing import RampProblem, Ramps, local_search
from convexnn.global_gap.result import GlobalResult, GlobalRound
from convexnn.inputs import as_number, generator_of, whole_number
from convexnn.network import Network
from convexnn.program import Dual, Solution, global_gap_of, relative_gap
from convexnn.restrictions import LipschitzProgram
from convexnn.restrictions.base import positive
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from convexnn.restrictions.units import checked_network, hidden
from convexnn.solvers import solve

Array = NDArray[np.float64]

#: Shares of the trace tried to keep the metric of a multiplier well conditioned.
SHARES = (1e-9, 1e-6, 1e-4, 1e-2)
#: Units smaller than this share of the largest are idle; so many of their patterns are kept all the same at first.
SMALL, SPARE = 1e-2, 40
#: Weight of squared merged biases in the master: the bound holds without it, so a large one would show as a gap.
RIDGE = 1e-13
#: Directions from which local pricing starts.
DIRECTIONS = 400


def train_global_lipschitz(
    X: ArrayLike,
    y: ArrayLike,
    lam: float,
    *,
    start: Any = None,
    tol: float = 1e-3,
    time_limit: float | None = None,
    max_rounds: int = 200,
    random_state: int | None = None,
    sample_weight: ArrayLike | None = None,
) -> GlobalResult:
    """Train a ReLU network of any width on ``mean((f(x_i) - y_i)^2) + lam LipSDP(f)^2`` with a certified global gap.

    Rounds of the joint Lipschitz program over a growing set of patterns; its multipliers price new units by local
    search, and by branch and bound when that finds nothing. Exact for one input, practical up to three or four.

    Implements: docs/theory/global_lipschitz.md, Algorithm 1.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    lam : float
        Positive weight of the squared LipSDP bound.
    start : Network or any model that becomes one, optional
        The result is never worse.
    tol : float
        Relative global gap at which to stop with status ``"global"``.
    time_limit : float, optional
        Wall-clock seconds; the best network and the best bound so far come back.
    max_rounds : int
        At least 0.
    random_state : int, optional
        Of local pricing; the bound does not depend on chance.
    sample_weight : array-like, shape (n,), optional

    Returns
    -------
    GlobalResult
        ``multipliers`` is a :class:`LipschitzMultipliers`; :func:`lipschitz_global_bound` recomputes ``lower_bound``
        from it. The objective contains a ridge of 1e-13 on merged biases, the bound holds without it.

    Raises
    ------
    InvalidInputError
        For data or options that cannot be used.
    """
    if not (math.isfinite(as_number(tol, "tol")) and tol > 0):
        raise InvalidInputError(f"tol={tol!r} was given; expected a positive number such as 1e-3")
    max_rounds = whole_number(max_rounds, "max_rounds", 0)
    rows = distinct_rows(X, y, sample_weight)
    clock = _Clock(math.inf if time_limit is None else positive(time_limit, "time_limit"))
    run = _Run(rows, positive(lam, "lam"), tol, clock, generator_of(random_state))
    run.begin(None if start is None else checked_network(start, rows.X.shape[1]))
    return run.result(run.follow(max_rounds))


@dataclass
class _Clock:
    limit: float
    began: float = field(default_factory=time.perf_counter)

    @property
    def spent(self) -> float:
        return time.perf_counter() - self.began

    @property
    def left(self) -> float:
        return max(self.limit - self.spent, 1e-3)

    @property
    def over(self) -> bool:
        return self.spent >= self.limit


@dataclass
class _Price:
    """Multipliers, their ramp problem, the candidates found in it, and the bound they would give if those are all."""

    multipliers: LipschitzMultipliers
    problem: RampProblem
    ramps: Ramps
    hoped: float


class _Run:
    """Column generation: the network, the bound and the patterns so far."""

    def __init__(self, rows: DistinctRows, lam: float, tol: float, clock: _Clock, rng: np.random.Generator) -> None:
        self.rows, self.lam, self.tol, self.clock, self.rng = rows, lam, tol, clock, rng
        self.columns = Columns(rows.X)
        self.lower, self.multipliers = rows.proved_constant, _no_multipliers(rows)
        self.history: list[GlobalRound] = []
        self.spare, self.expected, self.sharper, self.accuracy = SPARE, 1.0, 1.0, 1e-3
        self.solution: Solution | None = None

    def begin(self, start: Network | None) -> None:
        """Take the start, or the best constant, as the network so far."""
        mean = float(self.rows.y[0] + self.rows.weight @ (self.rows.y - self.rows.y[0]))
        flat = Network.shallow(np.zeros((1, self.rows.X.shape[1])), np.zeros(1), np.zeros(1), mean)
        if start is not None:
            self._add_network(start)
        candidates = [flat] if start is None else [start, flat]
        program = self._program(None)
        values = [program.network_objective(network) + self.rows.constant for network in candidates]
        best = int(np.argmin(values))
        self.network, self.objective, self.unit = candidates[best], values[best], program.scale

    @property
    def gap(self) -> float:
        return global_gap_of(self.objective, self.lower, self.unit)

    def follow(self, max_rounds: int) -> str:
        """Rounds until the gap passes, nothing is left to try, or a limit is hit; returns the status."""
        try:
            while self.gap > self.tol:
                if self.clock.over:
                    return "time_limit"
                if len(self.history) >= max_rounds:
                    return "max_rounds"
                before = self.objective, self.lower
                new = self._round()
                self._record()
                if not new and (self.objective, self.lower) == before and self.gap > self.tol:
                    return "time_limit" if self.clock.over else "stalled"
        except KeyboardInterrupt:
            return "interrupted"
        return "global"

    def _round(self) -> int:
        """Solve the master, price, and add patterns; returns how many are new."""
        dual = self._master()
        if dual is None:
            return 0
        prices = self._prices(dual)
        self._drop_idle()
        self.expected = min(relative_gap(self.objective, prices[0].hoped, self.unit), 1.0)
        wanted = self.objective - 0.5 * self.tol * abs(self.objective)
        new = sum(self._add(price, price.ramps) for price in prices)
        if not new and prices[0].hoped < wanted and self.accuracy > 0.03 * self.tol:
            self.sharper *= 0.1  # nothing to add: the multipliers are not good enough yet
            return 1
        if prices[0].hoped >= wanted or not new:
            if self._search_longer(prices[0]):
                return 1
            found = self._certify(prices[0], wanted)
            new += self._add(prices[0], found.pricing.ramps)
        return new

    def _master(self) -> Dual | None:
        """The joint program over the patterns so far; the network it gives is kept when it is better."""
        self.accuracy = min(max(0.02 * self.expected * self.sharper, 0.02 * self.tol, 1e-8), 1e-3)
        program = self._program(None)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SolverWarning)  # a dropped pattern is no news to the caller
                solution = solve(program, solver="interior_point", tol=self.accuracy, time_limit=self._allowance())
        except SolverError:
            return None
        self.idle = np.linalg.norm(solution.z[:, :-1], axis=1)
        network = program.decode(solution.z)
        objective = program.network_objective(network) + self.rows.constant
        if objective > self.objective - 0.01 * self.expected * abs(self.objective):
            self.spare *= 2  # patterns may have been dropped too soon
        if objective < self.objective:
            self.network, self.objective, self.solution = network, objective, solution
        if solution.status == "interrupted":
            raise KeyboardInterrupt
        return solution.dual

    def _program(self, start: Network | None) -> LipschitzProgram:
        rows = self.rows
        return LipschitzProgram(
            rows.X,
            rows.y,
            self.columns.patterns(),
            self.lam,
            sample_weight=rows.weight,
            start=start,
            ridge=RIDGE,
        )

    def _allowance(self) -> float | None:
        return None if math.isinf(self.clock.limit) else self.clock.left

    def _drop_idle(self) -> None:
        """Keep the patterns of units that count and the largest of the others."""
        used = self.idle > SMALL * float(self.idle.max(initial=0.0))
        used[np.argsort(-np.where(used, 0.0, self.idle), kind="stable")[: self.spare]] = True
        self.columns.keep(used)

    def _add_network(self, network: Network) -> None:
        alive = (network.v != 0) & network.W.any(axis=1)
        signs = np.where(network.v >= 0, 1.0, -1.0)
        self.columns.add_units(network.W[alive], network.b[alive], signs[alive], both_sides=False)

    def _prices(self, dual: Dual) -> list[_Price]:
        """Several metrics, best first, judged by what local search finds.

        Near a singular metric the others hide what new units are worth along its null space.
        """
        d = self.rows.X.shape[1]
        seeds = hidden(self.network)[:, :-1]
        prices = []
        for share in SHARES[: 1 if d == 1 else None]:
            multipliers = LipschitzMultipliers.from_dual(dual, d, share)
            problem = pricing_problem(self.rows, multipliers)
            directions = np.linalg.solve(multipliers.root, seeds.T).T @ problem.basis.T
            ramps = local_search(problem, self.rng, directions, DIRECTIONS)
            bound = DualBound.of(self.rows, self.lam, multipliers)
            prices.append(_Price(multipliers, problem, ramps, bound.lower(problem.upper(float(ramps.values[0])))))
        return sorted(prices, key=lambda price: -price.hoped)

    def _search_longer(self, price: _Price) -> int:
        """Local search from many more directions: cheaper than to learn the same from branch and bound."""
        d = price.problem.rank
        if d == 1:
            return 0
        ramps = local_search(price.problem, self.rng, price.ramps.E, 8 * DIRECTIONS * d, climbed=60 * d)
        better = ramps.values > (1 + 0.1 * self.tol) * max(price.ramps.values[0], np.linalg.norm(price.problem.linear))
        price.ramps = ramps
        return self._add(price, ramps.head(int(better.sum())))

    def _add(self, price: _Price, ramps: Ramps) -> int:
        """Patterns of the ramps whose price is violated."""
        floor = float(np.linalg.norm(price.multipliers.linear))
        ramps = ramps.head(int((ramps.values > floor * (1 + 1e-9)).sum()))
        most = 6 + 3 * self.rows.X.shape[1]
        return self.columns.add_units(*units(price.problem, price.multipliers.root, ramps), most=most)

    def _certify(self, price: _Price, wanted: float) -> LipschitzBound:
        share = 1.0 if price.hoped >= wanted else 0.3
        limit = max(share * self.clock.left, 1.0) if math.isfinite(self.clock.limit) else 60.0
        found = bound_on_rows(
            self.rows,
            self.lam,
            price.multipliers,
            wanted=wanted,
            tol=0.1 * self.tol,
            time_limit=limit,
            seeds=price.ramps,
            give_up=self.clock.spent < 0.5 * self.clock.limit,
        )
        if found.lower > self.lower:
            self.lower, self.multipliers = found.lower, price.multipliers
        return found

    def _record(self) -> None:
        self.history.append(GlobalRound(self.objective, self.lower, self.gap, len(self.columns), self.clock.spent))

    def result(self, status: str) -> GlobalResult:
        """Everything so far as a value."""
        return GlobalResult(
            self.network,
            self.objective,
            self.lower,
            self.gap,
            status,
            self.columns.patterns(),
            self.solution,
            self.multipliers,
            tuple(self.history),
            self.clock.spent,
        )


def _no_multipliers(rows: DistinctRows) -> LipschitzMultipliers:
    n, d = rows.X.shape
    return LipschitzMultipliers(np.zeros(n), np.zeros(d), np.eye(d))
