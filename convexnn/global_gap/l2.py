r"""Training with weight decay to a certified global gap, by column generation.

The restricted master is the l2 program over the patterns so far. Its residual prices new units; a violated price is a
new pattern, and a proof that none is violated (boxes, or signs for larger ranks) bounds every network of every width.
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
from convexnn.global_gap.descent import descend
from convexnn.global_gap.dual_point import relaxed_bound
from convexnn.global_gap.kappa import KappaBracket, reduce_rows
from convexnn.global_gap.l2_bound import DualBound, centred, homogeneous, network_multipliers
from convexnn.global_gap.lipschitz_columns import Columns
from convexnn.global_gap.oracle import kappa_upper
from convexnn.global_gap.pricing import Candidates, candidates, cell_ascent, local_search
from convexnn.global_gap.pruning import drop_idle, prune
from convexnn.global_gap.result import GlobalResult, GlobalRound
from convexnn.global_gap.training_rows import TrainingRows
from convexnn.inputs import as_number, generator_of
from convexnn.network import Network
from convexnn.program import Solution, global_gap_of, with_global_bound
from convexnn.restrictions import ReluGroupLasso
from convexnn.restrictions.base import positive
from convexnn.restrictions.units import balanced, checked_network, hidden
from convexnn.solvers import solve

Array = NDArray[np.float64]

#: Units and descents of a start that nobody gave.
UNITS, DESCENTS = 30, 3
#: Merged units smaller than this share of the largest are idle.
IDLE = 1e-6
#: New units a round.
NEW = 16
#: Columns from which, and rows up to which, one conic program is tried before a search, and its cuts a row.
RELAXED_RANK, RELAXED_ROWS, NEIGHBOURS = 8, 400, 8
#: Relative gap of the master below which nothing is gained by more accuracy.
FINEST = 1e-11


def train_global(
    X: ArrayLike,
    y: ArrayLike,
    lam: float,
    *,
    start: Any = None,
    tol: float = 1e-3,
    time_limit: float | None = None,
    random_state: int | None = None,
    sample_weight: ArrayLike | None = None,
) -> GlobalResult:
    """Train a ReLU network of any width on ``mean((f(x_i) - y_i)^2) + lam (|W|^2 + |b|^2 + |v|^2)``, globally.

    Rounds of the convex program over a growing set of patterns, each followed by a non-convex descent that moves units
    over pattern boundaries. New patterns come from multi-start pricing, and from branch and bound when that finds none;
    what branch and bound proves is a bound on every network.

    Implements: docs/theory/global_gap.md, Algorithm 1.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    lam : float
        Positive weight of the squared norm of all weights but the output bias.
    start : Network or any model that becomes one, optional
        The result is never worse; without one, short local trainings.
    tol : float
        Relative global gap at which to stop with status ``"global"``.
    time_limit : float, optional
        Wall-clock seconds; the best network and the best bound so far come back.
    random_state : int, optional
        Of starts and local pricing; the bound does not depend on chance.
    sample_weight : array-like, shape (n,), optional

    Returns
    -------
    GlobalResult
        ``multipliers``, shape (n,), prove ``lower_bound`` again through :func:`l2_global_bound`.

    Raises
    ------
    InvalidInputError
        For data or options that cannot be used.
    """
    if not (math.isfinite(as_number(tol, "tol")) and tol > 0):
        raise InvalidInputError(f"tol={tol!r} was given; expected a positive number such as 1e-3")
    data = TrainingRows.of(X, y, sample_weight)
    limit = math.inf if time_limit is None else positive(time_limit, "time_limit")
    run = _Run(data, positive(lam, "lam"), tol, limit, generator_of(random_state))
    return run.result(run.follow(None if start is None else checked_network(start, data.distinct.X.shape[1])))


@dataclass
class _Run:
    """Column generation: the network, the bound and the patterns so far."""

    source: TrainingRows
    lam: float
    tol: float
    limit: float
    rng: np.random.Generator
    lower: float = 0.0
    history: list[GlobalRound] = field(default_factory=list)
    relaxed: bool = False
    solved: tuple[ReluGroupLasso, Solution] | None = None

    def __post_init__(self) -> None:
        """Take the best constant as the network so far."""
        self.rows = self.source.distinct
        self.began, self.accuracy = time.perf_counter(), min(max(0.01 * self.tol, 1e-9), 1e-4)
        self.X1 = homogeneous(self.rows)
        self.columns = Columns(self.rows.X)
        self.lower, self.nu = self.rows.proved_constant, np.zeros(len(self.X1))
        self.reference = self._program()
        self.data, self.unit = self.reference.structure(), self.reference.scale
        mean = float(self.rows.y[0] + self.rows.weight @ (self.rows.y - self.rows.y[0]))
        self.network = Network.shallow(np.zeros((1, self.rows.X.shape[1])), np.zeros(1), np.zeros(1), mean)
        self.objective = self.value(self.network)

    # -- what is so far ------------------------------------------------------------------------------
    def value(self, network: Network) -> float:
        """Training objective of a network."""
        return self.reference.network_objective(network)

    @property
    def gap(self) -> float:
        """Relative global gap so far."""
        return global_gap_of(self.objective, self.lower, self.unit)

    @property
    def left(self) -> float:
        """Seconds left."""
        return self.limit - (time.perf_counter() - self.began)

    @property
    def allowance(self) -> float | None:
        """The time limit of a step."""
        return None if math.isinf(self.limit) else max(self.left, 1e-3)

    def offer(self, network: Network) -> bool:
        """Keep a network that is better."""
        objective = self.value(network)
        better = objective < self.objective
        if better:
            self.network, self.objective = network, objective
        return better

    def result(self, status: str) -> GlobalResult:
        """Everything so far as a value."""
        solution = None
        if self.solved is not None:
            solution = with_global_bound(self.solved[1], self.lower, scale=self.unit, tol=self.tol)
        return GlobalResult(
            self.network,
            self.objective,
            self.lower,
            self.gap,
            status,
            self.columns.patterns() if self.solved is None else self.solved[0].patterns,
            solution,
            self.source.given(self.nu),
            tuple(self.history),
            time.perf_counter() - self.began,
        )

    # -- the method ----------------------------------------------------------------------------------
    def follow(self, start: Network | None) -> str:
        """Rounds until the gap passes, nothing is left to try, or a limit is hit; returns the status."""
        try:
            self._begin(start)
            while self.gap > self.tol:
                if self.left <= 0:
                    return "time_limit"
                more = self._round()
                self._record()
                if not more and self.gap > self.tol:
                    return "time_limit" if self.left <= 0 else "stalled"
            self._settle()
        except KeyboardInterrupt:
            return "interrupted"
        return "global" if self.gap <= self.tol else "stalled"

    def _settle(self) -> None:
        """When a descent had the last word, solve over the patterns of its network: a solution as good as it."""
        shown = math.inf if self.solved is None else self.solved[1].objective
        proved = global_gap_of(shown, self.lower, self.unit) <= self.tol
        if not proved or shown > self.objective * (1 + 0.1 * self.tol):
            self.accuracy = max(min(self.accuracy, 0.5 * (self.tol - self.gap)), FINEST)
            self.columns = Columns(self.rows.X)
            self._add_units(self.network)
            self._master(always=True)
            self._record()

    def _add_units(self, network: Network) -> None:
        alive = network.v != 0
        self.columns.add_units(network.W[alive], network.b[alive], np.sign(network.v[alive]), both_sides=False)

    def _begin(self, start: Network | None) -> None:
        if start is not None:
            self.offer(start)
            self._descend(hidden(start), start.v)
            return
        width = self.X1.shape[1]
        scale = np.maximum(np.abs(self.X1).max(axis=0), np.finfo(float).tiny)
        for _ in range(DESCENTS):
            if self.left > 0:
                W = self.rng.standard_normal((UNITS, width)) / scale
                self._descend(W, self.rng.standard_normal(UNITS) * math.sqrt(self.unit) / UNITS)

    def _round(self) -> bool:
        """Master, pricing, descent; whether there is anything left to try."""
        nu = self._master()
        found = self._price(nu)
        wanted = self.objective - self.tol * max(abs(self.objective), 1e-6 * self.unit)
        dual = DualBound.of(self.rows, self.lam, nu)
        if dual.lower(max(found.best, 2 * self.lam)) < wanted and self._add(found):
            return True
        self._relax()
        if self.gap <= self.tol:
            return True
        bracket = self._certify(nu, dual, wanted, stop_above=True)
        if self.gap <= self.tol or self._add(self._improved(nu, bracket)):
            return True
        if bracket.status == "above":  # a price of a pattern that is there already: the master is not exact enough
            self._add(self._improved(nu, self._certify(nu, dual, wanted, stop_above=False)))
        self.accuracy *= 0.1
        return self.accuracy > FINEST

    def _program(self) -> ReluGroupLasso:
        return self.source.program(self.columns.patterns(), self.lam)

    def _master(self, *, always: bool = False) -> Array:
        """Solve over the patterns so far; keep its network when it is better, forget idle patterns; multipliers."""
        program = self._program()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", SolverWarning)  # a dropped pattern is no news to the caller
                solution = solve(program, solver="interior_point", tol=self.accuracy, time_limit=self.allowance)
        except SolverError:
            return network_multipliers(self.rows, self.network)
        size = np.linalg.norm(solution.z, axis=1)
        self.columns.keep(size > IDLE * float(size.max(initial=0.0)))
        if self.offer(self._pruned(program.decode(solution.z))) or always:
            self.solved = program, solution
        if solution.dual is None:
            return network_multipliers(self.rows, self.network)
        return centred(self.rows, solution.dual.residual)

    def _pruned(self, network: Network) -> Network:
        """With as few units as cost (almost) nothing; a basic solution where there are more units than rows."""
        network = prune(network, self.rows.X)
        allowed = self.value(network) + 1e-2 * self.tol * self.objective
        for share in (1e-2, 1e-3, 1e-4, IDLE):
            fewer = self._rebiased(drop_idle(network, share))
            if self.value(fewer) <= allowed:
                return fewer
        return network

    def _rebiased(self, network: Network) -> Network:
        """Network with the best output bias."""
        residual = self.rows.y - network(self.rows.X)
        return Network.shallow(network.W, network.b, network.v, network.c + float(self.rows.weight @ residual))

    def _price(self, nu: Array) -> Candidates:
        reduced = reduce_rows(self.X1, nu)
        seeds = hidden(self.network) @ reduced.basis.T
        return cell_ascent(reduced, local_search(reduced, self.rng, seeds), self.rng).mapped(reduced.basis)

    def _improved(self, nu: Array, bracket: KappaBracket) -> Candidates:
        reduced = reduce_rows(self.X1, nu)
        start = candidates(reduced, bracket.directions @ reduced.basis.T, bracket.signs)
        return cell_ascent(reduced, start, self.rng).mapped(reduced.basis)

    def _relax(self) -> None:
        """For ranks at which a search may not end, once: the bound of one conic program."""
        if self.relaxed or self.X1.shape[1] < RELAXED_RANK or len(self.X1) > RELAXED_ROWS:
            return
        self.relaxed = True
        try:
            bound = relaxed_bound(self.rows, self.lam, NEIGHBOURS)
        except SolverError:  # more than this machine could hold: the search goes on without
            return
        if bound.lower > self.lower:
            self.lower, self.nu = bound.lower, bound.nu

    def _certify(self, nu: Array, dual: DualBound, wanted: float, *, stop_above: bool) -> KappaBracket:
        """Branch and bound until ``wanted`` is proved or, if asked, a violated price is found."""
        bracket = kappa_upper(
            self.X1,
            nu,
            target=dual.kappa_for(wanted),
            tol=1e-2 * self.tol,
            time_limit=self.allowance,
            stop_above=stop_above,
        )
        lower = dual.lower(bracket.upper)
        if lower > self.lower:
            self.lower, self.nu = lower, nu
        return bracket

    def _add(self, found: Candidates) -> int:
        """Patterns of candidates with a violated price, and those to which a descent from there leads."""
        violated = found.above(2 * self.lam * (1 + 1e-7))
        if not len(violated.values):
            return 0
        W = violated.directions[:NEW]
        signs = -violated.signs[:NEW]
        new = self.columns.add_units(W[:, :-1], W[:, -1], signs)
        self._descend(np.vstack([hidden(self.network), 1e-2 * W]), np.r_[self.network.v, 1e-2 * signs])
        return new

    def _descend(self, W: Array, v: Array) -> None:
        W, v = descend(self.data, self.lam, W, v)
        moved = np.linalg.norm(W, axis=1) * np.abs(v)
        keep = moved > IDLE * float(moved.max(initial=0.0))
        if not keep.any():
            return
        W, v = W[keep], v[keep]
        U = np.abs(v)[:, None] * W
        units, outer = balanced(U * np.sign(v)[:, None], np.sign(v))
        raw = np.maximum(self.X1 @ units.T, 0.0) @ outer
        bias = float(self.rows.y[0] + self.rows.weight @ (self.rows.y - self.rows.y[0] - raw))
        self.offer(prune(Network.shallow(units[:, :-1], units[:, -1], outer, bias), self.rows.X))
        self.columns.add_units(units[:, :-1], units[:, -1], np.sign(outer))

    def _record(self) -> None:
        seconds = time.perf_counter() - self.began
        self.history.append(GlobalRound(self.objective, self.lower, self.gap, len(self.columns), seconds))
