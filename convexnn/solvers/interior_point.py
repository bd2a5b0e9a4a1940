"""Interior point method for the training programs: about twenty factorizations to a verified gap of 1e-6.

Reads nothing of a program but its :class:`~convexnn.structure.ConeStructure`, its start, its objective and its
lower bound. The pieces: ``cone_problem`` (data), ``centre`` (strictly feasible start), ``path_following`` (steps),
``newton_system`` (linear algebra), the cone blocks (regularizers), ``evidence`` (what is handed over). A warm start
that leads nowhere is followed by one from the centres, and a matrix fraction that stalls by the whole inequality.
"""

from __future__ import annotations

import contextlib
import logging
import math
import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.program import FEASIBILITY_TOLERANCE, Dual, InteriorPair, Program, Proposal, Solution
from convexnn.solvers._clock import Clock, TimeUpError
from convexnn.solvers._full_block import spectral_block, whole_fits
from convexnn.solvers._norm_block import NormBlock
from convexnn.solvers._vector_parts import boundary, cone_problem, target_unit, vector_block
from convexnn.solvers._vector_problem import vector_zero_dual
from convexnn.solvers.centre import analytic_centres, interior_points
from convexnn.solvers.cone_block import ConeBlock
from convexnn.solvers.cone_problem import ConeProblem
from convexnn.solvers.evidence import Incumbent, polished_rows, push_inside, spread_variants, zero_dual
from convexnn.solvers.path_following import PathFollower
from convexnn.solvers.request import check_limits
from convexnn.structure import ConeStructure, FixedSpectral, GroupNorm, JointSpectral
from convexnn.vector_structure import VectorStructure

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

_NAME = "interior_point"
_LOGGER = logging.getLogger("convexnn")

#: The verified gap is looked at once the iteration believes in this many tolerances.
LOOK_FACTOR = 3.0
#: Looks below 0.3 tolerances that did not halve the verified gap before the method gives up.
PATIENCE = 3
#: A step shorter than this is no progress.
SHORTEST_STEP = 1e-5
#: Stricter tolerances look at every tenth of this as well, so that they never end with less than a milder one.
FIRST_LOOK = 1e-6
#: Relative complementarity at which a pair is kept for neighboring programs.
WARM_GAP = 0.1
#: A warm start whose first steps (so many) are shorter than this starts again from the centres.
WARM_TRIAL, WARM_STEP = 3, 0.1


def solve_interior_point(
    program: Program,
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    time_limit: float | None = None,
    start: Array | Solution | None = None,
    verbose: int = 0,
) -> Proposal:
    """Solve a training program by a feasible primal-dual interior point method.

    Parameters
    ----------
    program : Program
        Must offer a structure whose coupling is GroupNorm, JointSpectral or FixedSpectral.
    tol : float
        Relative gap between the program's objective and its lower bound.
    max_iter : int
        Newton iterations, those of all attempts together.
    time_limit : float or None
        Seconds; an iteration that has begun is finished.
    start : array, shape (p, d + 1), Solution or None
        Replaces ``program.start``. Units that lie strictly inside their cones need no search for an interior
        point. The start also competes as a solution, so the result is never worse than a feasible start.
    verbose : int
        Log a line an iteration to the logger ``convexnn``.

    Returns
    -------
    Proposal
        Feasible point and multipliers; a unit whose cone has no interior stays zero and is noted.

    Raises
    ------
    SolverError
        When the program offers no structure, an unknown coupling, or a regularizer without weight.
    """
    check_limits(tol, max_iter, time_limit)
    clock, structure = Clock(time_limit), _require_structure(program)
    point = start.z if isinstance(start, Solution) else start
    origin = program.start if point is None else _check_start(structure, point)
    pair = start.interior if isinstance(start, Solution) else None
    incumbent = _first_incumbent(program, structure)
    unit = target_unit(structure)
    if unit == 0 or structure.D.shape[1] == 0:
        return Proposal(incumbent.z, _zero_dual(structure), "solved", 0, _NAME)
    with np.errstate(divide="ignore", over="ignore", under="ignore", invalid="ignore"):
        return _Run(program, structure, unit, incumbent, clock, tol, max_iter, verbose).run(origin, pair)


def _require_structure(program: Program) -> ConeStructure:
    structure = program.structure()
    if not isinstance(structure, ConeStructure):
        raise SolverError(
            f"solver='interior_point' needs a program with cone structure and {program.name!r} offers none; "
            "use solver='clarabel', 'scs' or 'mosek'"
        )
    known = isinstance(structure.coupling, GroupNorm | JointSpectral | FixedSpectral)
    if not (known or isinstance(structure, VectorStructure)):
        raise SolverError(
            f"solver='interior_point' knows GroupNorm, JointSpectral and FixedSpectral couplings, not "
            f"{type(structure.coupling).__name__}; use solver='clarabel', 'scs' or 'mosek'"
        )
    if not structure.coupling.weight > 0:
        raise SolverError(
            f"solver='interior_point' needs a positive regularizer weight, {program.name!r} has "
            f"{structure.coupling.weight!r}; use a small positive lam, or solver='clarabel'"
        )
    return structure


def _check_start(structure: ConeStructure, start: Array) -> Array:
    shape = (structure.D.shape[1], structure.X.shape[1])
    if start.shape != shape:
        raise InvalidInputError(f"start has shape {start.shape}; expected (units, features + 1) = {shape}")
    return start


def _first_incumbent(program: Program, structure: ConeStructure) -> Incumbent:
    """Return the zero network, feasible for every program of this shape."""
    z = np.zeros((structure.D.shape[1], structure.X.shape[1]))
    return Incumbent(program, z, program.objective(z))


def _zero_dual(structure: ConeStructure) -> Dual:
    """Multipliers of the zero network for constant targets."""
    if isinstance(structure, VectorStructure):
        return vector_zero_dual(structure)
    return zero_dual(structure)


@dataclass
class _Run:
    """One run of the method: the pieces and how it ended."""

    program: Program
    structure: ConeStructure
    unit: float
    incumbent: Incumbent
    clock: Clock
    tol: float
    max_iter: int
    verbose: int
    iterations: int = 0
    notes: tuple[str, ...] = ()
    interior: InteriorPair | None = None
    follower: PathFollower | None = None

    def run(self, origin: Array | None, pair: InteriorPair | None) -> Proposal:
        try:
            status = self._solve(origin, pair)
        except KeyboardInterrupt:
            status = "interrupted"
        except TimeUpError:
            status = "time_limit"
        except np.linalg.LinAlgError as error:
            raise SolverError(f"the interior point method could not start on {self.program.name!r}: {error}") from error
        with contextlib.suppress(KeyboardInterrupt):
            self._last_look()
        z, dual = self.incumbent.z, self.incumbent.dual
        return Proposal(z, dual, status, self.iterations, _NAME, self.notes, self.interior)

    def _solve(self, origin: Array | None, pair: InteriorPair | None) -> str:
        prepared = self._prepare(origin)
        if prepared is None:
            return "solved"
        problem, centre = prepared
        status = self._attempt(problem, centre, self._fitting(pair))
        was_warm = self.follower is not None and self.follower.is_warm
        if was_warm and self.interior is None and status not in ("cold", "stalled"):
            self.interior = pair
        if was_warm and status in ("cold", "stalled"):
            status = self._again(problem, centre)
        if status == "stalled" and whole_fits(problem, self.structure.coupling):
            status = self._again(problem, centre, whole=True)
        return status

    def _again(self, problem: ConeProblem, centre: Array, *, whole: bool = False) -> str:
        """Another attempt, from the centre, after a look at what the one before has reached; iterations count on."""
        if self.follower is not None:
            self._look(self.follower)
        if self.verbose:
            _LOGGER.info("again from the centre%s", ", with the whole matrix inequality" if whole else "")
        try:
            return self._attempt(problem, centre, None, whole=whole)
        except np.linalg.LinAlgError:  # what the attempts before have found stands
            return "stalled"

    def _attempt(self, problem: ConeProblem, centre: Array, pair: InteriorPair | None, *, whole: bool = False) -> str:
        """Follow the path from a pair or from the centre; the cone of the regularizer by choice as a whole."""
        block = _block(problem, self.structure, self.unit, whole=whole)
        self.follower = PathFollower(problem, block, centre, pair)
        return self._follow(self.follower)

    def _fitting(self, pair: InteriorPair | None) -> InteriorPair | None:
        """The pair when it has the shape and the units of this program."""
        n, p = self.structure.D.shape
        fits = pair is not None and pair.rows.shape == (n, p) and pair.unit == self.unit
        return pair if fits and pair is not None and pair.z.shape == (p, self.structure.X.shape[1]) else None

    def _last_look(self) -> None:
        """What the last iterate is worth, where the run ended before its tolerance."""
        if self.follower is not None and self.incumbent.gap > self.tol:
            self._look(self.follower)
        if self.incumbent.dual is None:
            self.incumbent.offer_dual(_zero_dual(self.structure))

    def _prepare(self, origin: Array | None) -> tuple[ConeProblem, Array] | None:
        """Find interior points, leave out units without, centre; None when no unit remains."""
        structure, p = self.structure, self.structure.D.shape[1]
        offered = origin is not None and self._offer(origin)
        everything = self._problem(np.arange(p))
        begin = np.zeros((p, everything.d1)) if origin is None else origin
        points, found = interior_points(everything, everything.shifted(begin.T))
        keep = np.flatnonzero(found)
        self._note_left_out(p - len(keep))
        problem = everything if len(keep) == p else self._problem(keep)
        centre = analytic_centres(problem, points[:, keep]) if len(keep) else points[:, keep]
        inside = np.zeros((p, everything.d1))
        inside[keep] = problem.original(centre).T
        self.boundary = boundary(structure, self.unit, keep, inside)
        if origin is not None and not offered:
            self._offer(push_inside(structure, origin, inside))
        if len(keep) == 0:
            self.incumbent.offer_dual(self.boundary.with_left_out_rows(_zero_dual(structure)))
            return None
        return problem, centre

    def _problem(self, keep: IntArray) -> ConeProblem:
        problem = cone_problem(self.structure, self.unit, keep)
        problem.pulse = self.clock.pulse
        return problem

    def _note_left_out(self, count: int) -> None:
        if count:
            note = f"{count} unit(s) left at zero: the cone of their pattern has no interior"
            self.notes = (*self.notes, note)
            warnings.warn(note, SolverWarning, stacklevel=2)

    def _offer(self, z: Array) -> bool:
        """Let a point compete as a solution if it is feasible."""
        feasible = bool(self.structure.slack(z).min(initial=0.0) >= 0)
        if feasible:
            self.incumbent.offer_point(z, None)
        return feasible

    def _follow(self, follower: PathFollower) -> str:
        """Step until the verified gap passes, a limit is hit, or nothing moves; returns the status."""
        fruitless, next_look = 0, FIRST_LOOK
        for iteration in range(self.max_iter + 1):
            self.iterations += iteration > 0
            gap, objective = follower.gap(), follower.objective()
            self._log(gap, objective)
            scale = max(abs(objective), 1e-6 * follower.problem.loss_at_zero())
            self._keep_interior(follower, gap / scale)
            if gap < LOOK_FACTOR * max(self.tol, next_look) * scale:
                done, before = gap < 0.3 * max(self.tol, next_look) * scale, self.incumbent.gap
                if self._look(follower, polish=done):
                    return "solved"
                next_look *= 0.1 if done else 1.0
                fruitless += gap < 0.3 * self.tol * scale and self.incumbent.gap > 0.5 * before
            if self.iterations >= self.max_iter:
                return "max_iter"
            self.clock.tick()
            if self.clock.expired():
                return "time_limit"
            moves = fruitless < PATIENCE and self._advance(follower)
            if follower.is_warm and iteration < WARM_TRIAL and (not moves or follower.length < WARM_STEP):
                return "cold"
            if not moves:
                return "stalled"
        raise AssertionError("unreachable")

    def _keep_interior(self, follower: PathFollower, gap: float) -> None:
        """Keep a pair for neighboring programs from where the path is still well inside.

        A warm start that passes there too fast hands its own pair on.
        """
        everything = follower.problem.p == self.structure.D.shape[1]
        wanted = self.interior is None and everything and gap < WARM_GAP and follower.is_settled
        if wanted and not (follower.is_warm and gap < 0.1 * WARM_GAP) and follower.block.state():
            self.interior = follower.pair(self.unit)

    def _advance(self, follower: PathFollower) -> bool:
        """Take one step; False when there is none or it leads nowhere."""
        try:
            return follower.step() > SHORTEST_STEP and math.isfinite(follower.gap())
        except np.linalg.LinAlgError:
            return False

    def _look(self, follower: PathFollower, *, polish: bool = False) -> bool:
        """Offer the iterate to the incumbent; True when the verified gap passes."""
        problem, block = follower.problem, follower.block
        z = self.boundary.point(problem, follower.U)
        dual = self.boundary.dual(problem, follower.U, follower.rows, block.matrix())
        if not (np.isfinite(z).all() and np.isfinite(dual.rows).all()):
            return False
        self.incumbent.offer_dual(dual)
        if self.program.violation(z) <= FEASIBILITY_TOLERANCE:
            self.incumbent.offer_point(z, dual)
        if polish and self.incumbent.gap > self.tol:
            rows = polished_rows(problem, follower.U, follower.slack, follower.rows, block.dual_gradient())
            polished = self.boundary.dual(problem, follower.U, rows, block.matrix())
            for variant in [polished, *spread_variants(dual, polished, problem.n_weights)]:
                self.incumbent.offer_dual(variant)
        return self.incumbent.gap <= self.tol

    def _log(self, gap: float, objective: float) -> None:
        if self.verbose:
            square = self.unit**2
            _LOGGER.info("%3d  objective %.9g  gap %.2e", self.iterations, square * objective, square * gap)


def _block(problem: ConeProblem, structure: ConeStructure, unit: float, *, whole: bool = False) -> ConeBlock:
    """Build the cone of the regularizer, in the solver's units and without the units left out."""
    if isinstance(structure, VectorStructure):
        return vector_block(problem, structure, unit)
    coupling = structure.coupling
    if isinstance(coupling, GroupNorm):
        return NormBlock(problem, coupling.weight / unit)
    return spectral_block(problem, coupling, whole=whole)
