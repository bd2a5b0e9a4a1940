"""Reference road: the program as the paper states it, handed to a generic conic solver through cvxpy.

Nothing a solver says about its result is believed: the status decides only whether there is a point
to read, and :func:`convexnn.program.evaluate` recomputes objective, bound, gap and violation.
"""

from __future__ import annotations

import functools
import importlib.util
import math
import time
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.program import Program, Proposal

if TYPE_CHECKING:
    import cvxpy

#: SCS counts cheap first-order steps; it gets this many for every interior-point iteration asked.
SCS_STEPS_PER_ITERATION = 500

_LICENSE_HINT = (
    "solver='mosek' was asked but no MOSEK licence could be checked out ({reason}); set MOSEKLM_LICENSE_FILE "
    "or put mosek.lic into ~/mosek before Python starts, or use solver='interior_point' or solver='clarabel'"
)


def is_installed(name: str) -> bool:
    """Whether the solver's own package can be imported."""
    return importlib.util.find_spec(name) is not None


def package_version(name: str) -> str:
    """Version of an installed distribution, or an empty string."""
    try:
        return version(name)
    except PackageNotFoundError:
        return ""


@functools.cache
def mosek_refusal() -> str | None:
    """Why MOSEK cannot be used, or None when a licence could be checked out.

    cvxpy lists MOSEK as installed without looking for a licence, so the ``pton`` feature is checked
    out and back in once a process.

    Returns
    -------
    str or None
        The reason as one clause, None when MOSEK is usable.
    """
    if not is_installed("mosek"):
        return "the package mosek is not installed"
    import mosek

    try:
        with mosek.Env() as environment:
            environment.checkoutlicense(mosek.feature.pton)
            environment.checkinlicense(mosek.feature.pton)
    except mosek.Error as error:
        return f"mosek reports {error.errno!r}"
    return None


def _clarabel_options(accuracy: float, max_iter: int, time_limit: float | None) -> dict[str, Any]:
    return {
        "tol_gap_abs": accuracy,
        "tol_gap_rel": accuracy,
        "tol_feas": accuracy,
        "max_iter": max_iter,
        "time_limit": math.inf if time_limit is None else time_limit,
    }


def _scs_options(accuracy: float, max_iter: int, time_limit: float | None) -> dict[str, Any]:
    limit = {} if time_limit is None else {"time_limit_secs": time_limit}
    return {"eps_abs": accuracy, "eps_rel": accuracy, "max_iters": SCS_STEPS_PER_ITERATION * max_iter, **limit}


def _mosek_options(accuracy: float, max_iter: int, time_limit: float | None) -> dict[str, Any]:
    params: dict[str, Any] = {
        "MSK_DPAR_INTPNT_CO_TOL_REL_GAP": accuracy,
        "MSK_DPAR_INTPNT_CO_TOL_PFEAS": accuracy,
        "MSK_DPAR_INTPNT_CO_TOL_DFEAS": accuracy,
        "MSK_IPAR_INTPNT_MAX_ITERATIONS": max_iter,
    }
    if time_limit is not None:
        params["MSK_DPAR_OPTIMIZER_MAX_TIME"] = time_limit
    return {"mosek_params": params}


_OPTIONS: dict[str, Callable[[float, int, float | None], dict[str, Any]]] = {
    "clarabel": _clarabel_options,
    "scs": _scs_options,
    "mosek": _mosek_options,
}


def require_usable(solver: str) -> None:
    """Raise :class:`SolverError` with the reason when a cvxpy solver is missing or unlicensed."""
    if solver not in _OPTIONS:
        raise InvalidInputError(f"solver={solver!r} is no cvxpy solver known here; expected one of {sorted(_OPTIONS)}")
    if solver == "mosek":
        reason = mosek_refusal()
        if reason is not None:
            raise SolverError(_LICENSE_HINT.format(reason=reason))
    elif not is_installed(solver):
        raise SolverError(f"solver={solver!r} was asked but is not installed; run `pip install {solver}`")


def _run(problem: cvxpy.Problem, solver: str, options: dict[str, Any], verbose: int) -> None:
    """Call the solver; every error of cvxpy or of the solver leaves as SolverError with its cause."""
    import cvxpy

    known: tuple[type[BaseException], ...] = (cvxpy.SolverError, ArithmeticError, ValueError, TypeError, RuntimeError)
    if solver == "mosek":
        import mosek

        known = (*known, mosek.Error)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "may be inaccurate": judged by evaluate() instead
            problem.solve(solver=solver.upper(), verbose=verbose > 1, **options)
    except known as error:
        raise SolverError(f"{solver} failed on this program: {error}") from error


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
        Anything with ``as_cvxpy`` and ``read_cvxpy``.
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
    require_usable(solver)
    accuracy = min(1e-4, max(1e-13, 0.01 * tol * min(1.0, program.scale or 1.0)))
    problem = program.as_cvxpy()
    began = time.perf_counter()
    try:
        _run(problem, solver, _OPTIONS[solver](accuracy, max_iter, time_limit), verbose)
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
