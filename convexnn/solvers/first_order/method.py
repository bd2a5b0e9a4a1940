"""First-order solver for many rows: alternating directions on a few rows of every cone.

Nothing here decides what is published: a round of splitting steps is followed by a look, in which the program itself
recomputes objective and lower bound of a feasible point and of multipliers made from the iterate.
"""

from __future__ import annotations

import logging
import math
import time
import warnings
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.program import Program, Proposal, Solution
from convexnn.solvers.cone_problem import power_of_two_unit
from convexnn.solvers.evidence import Incumbent, zero_dual
from convexnn.solvers.first_order.cones import WorkingRows
from convexnn.solvers.first_order.evidence import Coordinates, Multipliers, feasible_point
from convexnn.solvers.first_order.quadratic import Quadratic
from convexnn.solvers.first_order.regularizers import spectral_split
from convexnn.solvers.first_order.splitting import Splitting
from convexnn.solvers.first_order.stream import RowStream
from convexnn.solvers.request import check_limits
from convexnn.structure import ConeStructure, FixedSpectral, GroupNorm, JointSpectral
from convexnn.threads import one_thread

Array = NDArray[np.float64]

_NAME = "first_order"
_LOGGER = logging.getLogger("convexnn")

#: Looks that should have passed and did not before the method gives up.
PATIENCE = 4
#: Rounds between looks where only a look tells the gap: the first ones, later this share of the rounds so far.
LOOK_SHARE = 0.25
#: A look is worth its passes once rows are violated by less than this, relatively.
NEARLY_FEASIBLE = 1e-6
#: Relative violation up to which a start competes as it is.
ROUNDOFF = 1e-9
#: Of two, in the scale of a feature: its square stays finite.
LARGEST_POWER = 300
#: Entries of the pattern matrix up to which one thread is used.
SMALL_PROBLEM = 2_000_000
OTHERS = "use solver='interior_point', 'clarabel' or 'scs'"


@dataclass(frozen=True)
class Computing:
    """Where and how sums over rows are computed.

    Parameters
    ----------
    device : str
        "auto" (CUDA when torch sees a device), "cpu", "cuda", "cuda:1", ...
    dtype : {"float64", "float32"}
        Of sums over rows. Slacks, evidence and everything that is published are float64.
    block : int or None
        Rows handled at a time.
    dense : bool or None
        Whether the loss Hessian of the distinct patterns is formed; None decides by its order.
    """

    device: str = "auto"
    dtype: str = "float64"
    block: int | None = None
    dense: bool | None = None


def solve_first_order(
    program: Program,
    *,
    tol: float = 1e-3,
    max_iter: int = 200,
    time_limit: float | None = None,
    start: Array | Solution | None = None,
    verbose: int = 0,
    computing: Computing | None = None,
) -> Proposal:
    """Solve a training program with many rows by alternating directions.

    Parameters
    ----------
    program : Program
        Must offer a structure with squared loss whose coupling is GroupNorm, JointSpectral or FixedSpectral.
    tol : float
        Relative gap between the program's objective and its lower bound.
    max_iter : int
        Rounds of twenty splitting steps.
    time_limit : float or None
        Seconds; a round that has begun is finished.
    start : array, shape (p, d + 1), Solution or None
        Replaces ``program.start``; warm start. It also competes as a solution.
    verbose : int
        Log a line a round to the logger ``convexnn``.
    computing : Computing or None
        Device, arithmetic and blocks of the passes over the rows.

    Returns
    -------
    Proposal
        Feasible point, no worse than a feasible start, and multipliers.

    Raises
    ------
    SolverError
        When the program is not of the kind above.
    """
    check_limits(tol, max_iter, time_limit)
    began = time.perf_counter()
    structure = _require_structure(program)
    origin = start.z if isinstance(start, Solution) else program.start if start is None else start
    shape = (structure.D.shape[1], structure.X.shape[1])
    if origin is not None and origin.shape != shape:
        raise InvalidInputError(f"start has shape {origin.shape}; expected (units, features + 1) = {shape}")
    zero = np.zeros(shape)
    incumbent = Incumbent(program, zero, program.objective(zero))
    if origin is not None and program.violation(origin) <= ROUNDOFF:
        incumbent.offer_point(origin, None)
    unit = power_of_two_unit(structure)
    if unit == 0 or shape[0] == 0:
        return Proposal(zero, zero_dual(structure), "solved", 0, _NAME)
    run = _Run(program, structure, unit, incumbent, tol, computing or Computing(), verbose)
    with _threads(structure):
        return run.run(origin, max_iter, math.inf if time_limit is None else began + time_limit)


def _threads(structure: ConeStructure) -> AbstractContextManager[Any]:
    """One thread, also of torch, unless there are many rows."""
    import torch  # noqa: F401  # its thread pool has to be there to be limited

    return one_thread(structure.D.size <= SMALL_PROBLEM)


def _require_structure(program: Program) -> ConeStructure:
    structure = program.structure()
    if not isinstance(structure, ConeStructure):
        raise SolverError(f"solver='first_order' needs a program with cone structure, not {program.name!r}; {OTHERS}")
    if not isinstance(structure.coupling, GroupNorm | JointSpectral | FixedSpectral):
        raise SolverError(
            f"solver='first_order' knows GroupNorm, JointSpectral and FixedSpectral couplings, not "
            f"{type(structure.coupling).__name__}; {OTHERS}"
        )
    if not structure.is_squared:
        raise SolverError(f"solver='first_order' knows the squared loss, not {structure.sample_loss.name!r}; {OTHERS}")
    if not structure.coupling.weight > 0:
        raise SolverError(f"solver='first_order' needs a positive regularizer weight; {OTHERS}")
    return structure


def _feature_scale(structure: ConeStructure) -> Array:
    """Powers of two near the root mean squares of the features; ones where the norm is that of the raw weights."""
    if isinstance(structure.coupling, GroupNorm):
        return np.ones(structure.X.shape[1])
    largest = np.abs(structure.X).max(axis=0)
    largest = np.where(largest > 0, largest, 1.0)
    size = largest * np.sqrt(structure.weight @ (structure.X / largest) ** 2)
    powers = np.round(np.log2(np.where(size > 0, size, 1.0)))
    return np.asarray(2.0 ** np.clip(powers, -LARGEST_POWER, LARGEST_POWER))


@dataclass
class _Run:
    """One run of the method: the pieces and how it ended."""

    program: Program
    structure: ConeStructure
    unit: float
    incumbent: Incumbent
    tol: float
    computing: Computing
    verbose: int
    iterations: int = 0
    notes: tuple[str, ...] = ()
    splitting: Splitting | None = field(default=None, repr=False)
    next_look: int = 1
    fruitless: int = 0

    def run(self, origin: Array | None, max_iter: int, deadline: float) -> Proposal:
        with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
            try:
                self.splitting = self._prepare(origin)
                status = self._follow(max_iter, deadline)
            except KeyboardInterrupt:
                status = "interrupted"
            except np.linalg.LinAlgError:
                status = "stalled"
            if self.incumbent.gap > self.tol and self.splitting is not None and self._is_finite():
                status = self._last_look(status)
            if self.incumbent.dual is None:
                self.incumbent.offer_dual(zero_dual(self.structure))
        return Proposal(self.incumbent.z, self.incumbent.dual, status, self.iterations, _NAME, self.notes)

    def _prepare(self, origin: Array | None) -> Splitting:
        structure, computing = self.structure, self.computing
        scale = _feature_scale(structure)
        self.coordinates = Coordinates(structure, scale, self.unit)
        stream = RowStream(
            structure, scale, self.unit, device=computing.device, dtype=computing.dtype, block=computing.block
        )
        self.working = WorkingRows(stream)
        begin = np.zeros((stream.p, stream.d1)) if origin is None else self._offer_start(origin)
        quadratic = Quadratic(stream, structure.ridge, dense=computing.dense)
        norm = isinstance(structure.coupling, GroupNorm)
        self.weight = structure.coupling.weight / self.unit if norm else 0.0
        split = None if norm else spectral_split(structure, scale)
        self.multipliers = Multipliers(self.coordinates, quadratic, self.working, self.weight)
        return Splitting(quadratic, self.working, self.weight, split, begin)

    def _offer_start(self, origin: Array) -> Array:
        """Let the start compete, moved off rows that it leaves; the start in the solver's coordinates."""
        begin = self.coordinates.scaled(origin)
        if self.program.violation(origin) > 0:
            inside = self.coordinates.original(feasible_point(self.working, begin.copy())[0])
            upper = self.program.objective(inside)
            if upper < self.incumbent.upper + 1e-9 * abs(self.incumbent.upper):
                self.incumbent.z, self.incumbent.upper = inside, upper
        return begin

    def _follow(self, max_iter: int, deadline: float) -> str:
        """Rounds until the verified gap passes, a limit is hit, or looks no longer help; returns the status."""
        assert self.splitting is not None
        slowest = 0.0
        for self.iterations in range(1, max_iter + 1):
            before = time.perf_counter()
            self.splitting.round()
            if not self._is_finite():
                return "stalled"
            if self._is_time_to_look() and self._look():
                return "solved"
            self._log()
            if self.fruitless >= PATIENCE:
                return "stalled"
            now = time.perf_counter()
            slowest = max(slowest, now - before)
            if now + slowest > deadline:
                return "time_limit"
        return "max_iter"

    def _is_finite(self) -> bool:
        splitting = self.splitting
        return splitting is not None and bool(np.isfinite(splitting.V).all() and np.isfinite(splitting.U).all())

    def _is_time_to_look(self) -> bool:
        splitting = self.splitting
        assert splitting is not None
        if splitting.split is not None:
            return self.iterations >= self.next_look
        self.estimate = self._estimate(splitting)
        return (
            self.estimate <= self.tol
            and splitting.worst_slack > -NEARLY_FEASIBLE
            and (self.iterations >= self.next_look)
        )

    def _estimate(self, splitting: Splitting) -> float:
        """Relative gap of a group-norm program as the solver's own arithmetic sees it."""
        V = splitting.V
        upper = splitting.quadratic.loss(V) + self.weight * float(np.linalg.norm(V, axis=1).sum())
        lower = max(self.multipliers.norm_bound(splitting.U), self.multipliers.norm_bound(V))
        rest = self.structure.constant / self.unit**2
        return (upper - lower) / max(upper + rest, 1e-6 * (splitting.quadratic.stream.variance + rest))

    def _look(self) -> bool:
        """Offer the iterate to the incumbent; True when the verified gap passes."""
        splitting = self.splitting
        assert splitting is not None
        before = self.incumbent.gap
        V, empty = feasible_point(self.working, splitting.V.copy())
        self._drop(empty)
        points = (splitting.U, V)
        for U in points:
            norm = splitting.split is None
            dual = self.multipliers.norm_dual(U) if norm else self.multipliers.spectral_dual(U, splitting)
            if all(np.isfinite(a).all() for a in (dual.residual, dual.rows)):
                self.incumbent.offer_dual(dual)
        self.incumbent.offer_point(self.coordinates.original(V), self.incumbent.dual)
        passed = self.incumbent.gap <= self.tol
        if splitting.split is None:
            self.fruitless += not self.incumbent.gap < 0.7 * before
        self.next_look = self.iterations + max(1, int(LOOK_SHARE * self.iterations))
        return passed

    def _last_look(self, status: str) -> str:
        """One more look after the loop ended, so that what was reached is not lost."""
        try:
            return "solved" if self._look() else status
        except KeyboardInterrupt:
            return "interrupted"
        except np.linalg.LinAlgError:
            return status

    def _drop(self, empty: NDArray[np.bool_]) -> None:
        """Leave units at zero for which no interior point was found."""
        assert self.splitting is not None
        fresh = int((empty & ~self.splitting.dropped).sum())
        self.splitting.dropped |= empty
        if fresh:
            note = f"{fresh} unit(s) left at zero: the cone of their pattern has no interior"
            self.notes = (*self.notes, note)
            warnings.warn(note, SolverWarning, stacklevel=2)

    def _log(self) -> None:
        splitting = self.splitting
        if self.verbose and splitting is not None:
            largest = max(splitting.residuals.largest, splitting.split_residuals.largest)
            _LOGGER.info(
                "%3d  objective %.9g  gap %.2e  residual %.1e  worst slack %.1e  rows %d",
                self.iterations,
                self.incumbent.upper,
                self.incumbent.gap,
                largest,
                splitting.worst_slack,
                sum(len(index) for index in self.working.index),
            )
