"""Reference road: the program as the paper states it, handed to a generic conic solver through cvxpy.

Nothing a solver says about its result is believed: the status decides only whether there is a point
to read, and :func:`convexnn.program.evaluate` recomputes objective, bound, gap and violation.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from convexnn.conic.run import OPTIONS, accuracy_of, require_usable, run_problem
from convexnn.exceptions import SolverError
from convexnn.program import Program, Proposal
from convexnn.solvers.request import check_limits

if TYPE_CHECKING:
    import cvxpy


def _ending(problem: cvxpy.Problem, program: Program, solver: str, limited: bool) -> str:
    """Word for how the solver ended; raises when the status contradicts a feasible, bounded program."""
    status = str(problem.status)
    if status == "optimal":
        return "solved"
    if status == "optimal_inaccurate":
        return "inaccurate"
    if status == "user_limit":
        return "time_limit" if limited else "max_iter"
    raise SolverError(
        f"{solver} reports {status!r} for {program.name!r}, which is feasible and bounded by construction; "
        "rescale the data or use another solver"
    )


def solve_cvxpy(
    program: Program,
    solver: str = "clarabel",
    *,
    tol: float = 1e-6,
    max_iter: int = 200,
    time_limit: float | None = None,
    verbose: int = 0,
) -> Proposal:
    """Solve a program by a generic conic solver through cvxpy.

    Parameters
    ----------
    program : Program
        Anything with ``cvxpy_problem`` and ``read_cvxpy``.
    solver : {"clarabel", "scs", "mosek"}
        Never replaced by another one.
    tol : float
        Wanted relative gap; the solver is asked for a hundredth of it, in the units of ``program.scale``.
    max_iter : int
        Interior-point iterations; SCS gets ``SCS_STEPS_PER_ITERATION`` of its own steps for each.
    time_limit : float or None
        Seconds inside the solver, without cvxpy's own compilation.
    verbose : int
        Above 1 the solver prints its own log.

    Returns
    -------
    Proposal
        The point and multipliers as read; the program's start without multipliers when the solver
        was cut short before it had a point.

    Raises
    ------
    SolverError
        When the solver is missing, unlicensed, raises, or reports infeasible or unbounded.
    """
    check_limits(tol, max_iter, time_limit)
    require_usable(solver)
    accuracy = accuracy_of(tol, program.scale)
    problem = program.cvxpy_problem()
    began = time.perf_counter()
    try:
        run_problem(problem, solver, OPTIONS[solver](accuracy, max_iter, time_limit), verbose)
    except KeyboardInterrupt:
        return _from_start(program, "interrupted", solver)
    limited = time_limit is not None and time.perf_counter() - began >= time_limit
    status = _ending(problem, program, solver, limited)
    if any(variable.value is None for variable in problem.variables()):
        return _from_start(program, status, solver)
    z, dual = program.read_cvxpy(problem)
    return Proposal(z, dual, status, _iterations(problem), solver)


def _iterations(problem: cvxpy.Problem) -> int:
    statistics = problem.solver_stats
    return int(statistics.num_iters or 0) if statistics is not None else 0


def _from_start(program: Program, status: str, solver: str) -> Proposal:
    """Return the start with no evidence: all that is left when a solver was cut short."""
    if program.start is None:
        raise SolverError(f"{solver} ended with {status!r} before it had a point, and {program.name!r} has no start")
    return Proposal(program.start, None, status, 0, solver, ("the start is returned unchanged",))
