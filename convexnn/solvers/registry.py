"""Which solvers there are, and ``solve``: one door to all of them."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.conic.run import is_installed, mosek_refusal, package_version, require_usable
from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.program import Program, Proposal, Solution, evaluate
from convexnn.solvers.choice import interior_point_effort, is_quadratic
from convexnn.solvers.column_generation import solve_column_generation
from convexnn.solvers.cvx import solve_cvxpy
from convexnn.solvers.first_order import solve_first_order
from convexnn.solvers.interior_point import solve_interior_point
from convexnn.solvers.request import Request, checked_request, point_shape
from convexnn.threads import one_thread

Array = NDArray[np.float64]

SOLVER_NAMES = ("interior_point", "first_order", "column_generation", "clarabel", "scs", "mosek")
OWN_SOLVERS = ("interior_point", "first_order", "column_generation")

WORDS = {"interior_point": "the interior point method", "column_generation": "column generation"}

#: "auto" tries a generic solver when the interior point method ends this many times above the tolerance.
FALLBACK_FACTOR = 100.0

#: Relative violation up to which a start that no solver has moved into its cones still counts: ties and roundoff.
START_TOLERANCE = 1e-9

#: Variables up to which one BLAS thread is used.
SMALL_SYSTEM = 2000
#: Inputs of a polynomial network up to which one BLAS thread is used.
SMALL_MATRIX = 200


@dataclass(frozen=True)
class SolverInfo:
    """One row of :func:`available_solvers`: is it here, and may it be used."""

    name: str
    kind: str
    installed: bool
    licensed: bool
    version: str

    @property
    def usable(self) -> bool:
        """Installed and licensed."""
        return self.installed and self.licensed


@dataclass(frozen=True)
class SolverTable:
    """What :func:`available_solvers` returns: rows to iterate, index by name, or print."""

    rows: tuple[SolverInfo, ...]

    def __iter__(self) -> Iterator[SolverInfo]:
        """Iterate over the rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.rows)

    def __getitem__(self, name: str) -> SolverInfo:
        """Look a row up by the solver's name."""
        for row in self.rows:
            if row.name == name:
                return row
        raise KeyError(name)

    def __str__(self) -> str:
        """Format the rows as a text table."""
        header = f"{'solver':<19}{'installed':<11}{'licensed':<10}{'version':<10}kind"
        lines = [
            f"{row.name:<19}{_word(row.installed):<11}{_word(row.licensed):<10}{row.version or '-':<10}{row.kind}"
            for row in self.rows
        ]
        return "\n".join([header, *lines])


def _word(flag: bool) -> str:
    return "yes" if flag else "no"


def available_solvers() -> SolverTable:
    """Solvers that ``solve`` knows, whether they are installed and whether they may be used.

    Returns
    -------
    SolverTable
        Prints as a table; ``table["mosek"].licensed`` is the result of a licence checkout.
    """
    generic = [
        SolverInfo(
            "clarabel",
            "generic interior point, through cvxpy",
            is_installed("clarabel"),
            True,
            package_version("clarabel"),
        ),
        SolverInfo("scs", "generic first order, through cvxpy", is_installed("scs"), True, package_version("scs")),
        SolverInfo(
            "mosek",
            "generic interior point, commercial, through cvxpy",
            is_installed("mosek"),
            mosek_refusal() is None,
            package_version("mosek"),
        ),
    ]
    version = package_version("convexnn")
    own = [
        SolverInfo("interior_point", "interior point for training programs", True, True, version),
        SolverInfo(
            "first_order", "splitting for training programs with many rows", is_installed("torch"), True, version
        ),
        SolverInfo("column_generation", "neurons and their dual bound, for polynomial networks", True, True, version),
    ]
    return SolverTable((*own, *generic))


def require_solver(solver: str) -> None:
    """Raise before any work when ``solver`` is unknown, missing or unlicensed; see :func:`solve`."""
    if solver not in ("auto", *SOLVER_NAMES):
        raise InvalidInputError(f"solver={solver!r} is unknown; expected one of {('auto', *SOLVER_NAMES)}")
    if solver not in ("auto", *OWN_SOLVERS):
        require_usable(solver)


def solve(
    program: Program,
    *,
    solver: str = "auto",
    tol: float = 1e-6,
    max_iter: int = 200,
    time_limit: float | None = None,
    start: ArrayLike | Solution | None = None,
    verbose: int = 0,
) -> Solution:
    """Solve a convex training program and recompute the evidence.

    Parameters
    ----------
    program : Program
        A program from :mod:`convexnn.restrictions`, or anything with the same methods.
    solver : {"auto", "interior_point", "first_order", "column_generation", "clarabel", "scs", "mosek"}
        A named solver never falls back to another. ``"auto"`` takes column generation for polynomial networks, the
        interior point method when the program offers another structure, and the first-order one where that would need
        more than 4 GiB or ten minutes (estimated; a note says so); else (or when that fails, with a
        :class:`SolverWarning`) MOSEK when a licence can be checked out, then Clarabel, then SCS.
    tol : float
        Relative gap between the objective and the verified lower bound.
    max_iter : int
        Interior-point iterations, rounds of twenty steps of the first-order method, or rounds of column generation.
    time_limit : float or None
        Wall-clock seconds; the best point so far comes back.
    start : array-like, Solution or None
        A point to start from instead of ``program.start``, strictly inside the cones if possible; or the solution
        of a neighbouring program of the same shape (another lam, a few flipped patterns, other weights), of which
        the interior point method uses points and multipliers. The generic solvers do not start from it. The result
        is never worse than a feasible start, by more than the tolerance.
    verbose : int
        1 logs a line an iteration to the logger ``convexnn`` at level INFO; 2 lets cvxpy solvers print.

    Returns
    -------
    Solution
        With objective, lower bound, gap and violation recomputed from the data; ``status`` is
        ``"optimal"`` only when the recomputed gap passes ``tol``.

    Raises
    ------
    InvalidInputError
        For an unknown solver or an unusable option.
    SolverError
        When the named solver is missing, unlicensed or failed; its own error is the cause.
    """
    require_solver(solver)
    request = checked_request(program, tol, max_iter, time_limit, start, verbose)
    with one_thread(_is_small(program)):
        return _solve_auto(program, request) if solver == "auto" else _solve_named(program, solver, request)


def _is_small(program: Program) -> bool:
    """Whether the Newton systems are too small to gain from threads."""
    structure = program.structure()
    if is_quadratic(structure):
        return bool(structure.n_features <= SMALL_MATRIX)
    return structure is not None and structure.D.shape[1] * structure.X.shape[1] <= SMALL_SYSTEM


def _solve_named(program: Program, solver: str, request: Request) -> Solution:
    proposal = (_own if solver in OWN_SOLVERS else _generic)(solver)(program, request)
    return evaluate(program, proposal, seconds=time.perf_counter() - request.began, tol=request.tol)


def _own(solver: str) -> Callable[[Program, Request], Proposal]:
    def run(program: Program, request: Request) -> Proposal:
        try:
            proposal = _method(solver)(
                program,
                tol=request.tol,
                max_iter=request.max_iter,
                time_limit=request.remaining(),
                start=request.start,
                verbose=request.verbose,
            )
        except KeyboardInterrupt:
            proposal = _nothing_yet(program, solver)
        return _no_worse(program, proposal, request)

    return run


def _method(solver: str) -> Callable[..., Proposal]:
    methods: dict[str, Callable[..., Proposal]] = {
        "interior_point": solve_interior_point,
        "first_order": solve_first_order,
        "column_generation": solve_column_generation,
    }
    return methods[solver]


def _nothing_yet(program: Program, solver: str) -> Proposal:
    """Return the zero network: all that is left by an interrupt before there was anything to hand over."""
    structure = program.structure()
    if structure is None:
        raise SolverError(f"{solver} was interrupted before it had a point of {program.name!r}")
    return Proposal(np.zeros(point_shape(structure)), None, "interrupted", 0, solver)


def _no_worse(program: Program, proposal: Proposal, request: Request) -> Proposal:
    """Put the start into a proposal that was cut short before it could do better."""
    start = request.start_of(program)
    if proposal.status == "solved" or start is None or program.violation(start) > START_TOLERANCE:
        return proposal
    if program.objective(start, proposal.dual) >= program.objective(proposal.z, proposal.dual):
        return proposal
    return replace(proposal, z=start, notes=(*proposal.notes, "the start is returned unchanged"))


def _generic(solver: str) -> Callable[[Program, Request], Proposal]:
    def run(program: Program, request: Request) -> Proposal:
        proposal = solve_cvxpy(
            program,
            solver,
            tol=request.tol,
            max_iter=request.max_iter,
            time_limit=request.remaining(),
            verbose=request.verbose,
        )
        return _no_worse(program, proposal, request)

    return run


def _solve_auto(program: Program, request: Request) -> Solution:
    """One of the own solvers when there is a structure, else the generic solvers in order of trust."""
    large = _solve_large(program, request)
    if large is not None:
        return large
    own: Solution | None = None
    if program.structure() is not None:
        name = "column_generation" if is_quadratic(program.structure()) else "interior_point"
        try:
            own = _solve_named(program, name, request)
            if isinstance(request.start, Solution) and _is_poor(own, request):  # misled by a start far away
                cold = _solve_named(program, name, replace(request, start=None))
                own = min(own, cold, key=lambda solution: (solution.gap, solution.objective))
        except SolverError as error:
            _warn(f"{WORDS[name]} failed ({error}); falling back to a generic solver")
        else:
            if not _is_poor(own, request):
                return own
            _warn(f"{WORDS[name]} ended {own.status!r} at gap {own.gap:.1e}; trying a generic solver")
    other = _solve_generic(program, request, required=own is None)
    candidates = [solution for solution in (own, other) if solution is not None]
    return min(candidates, key=lambda solution: (solution.gap, solution.objective))


def _solve_large(program: Program, request: Request) -> Solution | None:
    """Solution by the first-order solver where the interior point method would need too much; None where it would not.

    Also None where the first-order solver does not know the program.
    """
    structure = program.structure()
    effort = None if structure is None or is_quadratic(structure) else interior_point_effort(structure)
    if effort is None or effort.is_affordable:
        return None
    need = f"about {effort.memory / 2**30:.1f} GiB and {effort.seconds:.0f} s"
    try:
        solution = _solve_named(program, "first_order", request)
    except SolverError as error:
        _warn(f"{error}; the interior point method will need {need}")
        return None
    if solution.gap > FALLBACK_FACTOR * request.tol:
        _warn(f"the first-order solver ended {solution.status!r} at gap {solution.gap:.1e}")
    return replace(solution, notes=(*solution.notes, f"first_order, since interior_point would need {need}"))


def _is_poor(solution: Solution, request: Request) -> bool:
    """Whether a generic solver may do better: not optimal although it was not cut short."""
    stopped = solution.status in ("time_limit", "interrupted", "max_iter")
    return not stopped and solution.gap > FALLBACK_FACTOR * request.tol


def _solve_generic(program: Program, request: Request, *, required: bool) -> Solution | None:
    causes: list[SolverError] = []
    for name in ("mosek", "clarabel", "scs"):
        if name == "mosek" and mosek_refusal() is not None:
            continue
        try:
            require_usable(name)
            return _solve_named(program, name, request)
        except SolverError as error:
            causes.append(error)
            _warn(f"{error}; trying the next solver")
    if required:
        raise SolverError(f"no solver could handle {program.name!r}; the last one said: {causes[-1]}") from causes[-1]
    return None


def _warn(message: str) -> None:
    warnings.warn(message, SolverWarning, stacklevel=4)
