"""One policy for every call of a generic conic solver: named, licensed, its errors wrapped, its accuracy stated."""

from __future__ import annotations

import functools
import importlib.util
import math
import warnings
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.memory import require_memory

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


OPTIONS: dict[str, Callable[[float, int, float | None], dict[str, Any]]] = {
    "clarabel": _clarabel_options,
    "scs": _scs_options,
    "mosek": _mosek_options,
}


def accuracy_of(tol: float, scale: float) -> float:
    """Accuracy to ask of a solver for a relative gap ``tol``: a hundredth of it, in the units of the program."""
    return min(1e-4, max(1e-13, 0.01 * tol * min(1.0, scale or 1.0)))


def require_usable(solver: str) -> None:
    """Raise :class:`SolverError` with the reason when a cvxpy solver is missing or unlicensed."""
    if solver not in OPTIONS:
        raise InvalidInputError(f"solver={solver!r} is no cvxpy solver known here; expected one of {sorted(OPTIONS)}")
    if solver == "mosek":
        reason = mosek_refusal()
        if reason is not None:
            raise SolverError(_LICENSE_HINT.format(reason=reason))
    elif not is_installed(solver):
        raise SolverError(f"solver={solver!r} was asked but is not installed; run `pip install {solver}`")


#: What a program too large for a generic solver is told.
STRUCTURED = (
    "Use solver='auto' or 'interior_point', which read the structure ('column_generation' for polynomial networks, "
    "'first_order' for the largest data)"
)


def run_problem(
    problem: cvxpy.Problem, solver: str, options: dict[str, Any], verbose: int, instead: str = STRUCTURED
) -> None:
    """Call the solver; every error of cvxpy or of the solver leaves as SolverError with its cause.

    A problem that the memory of this machine could not hold is refused before it is compiled, and ``instead`` is said.
    """
    import cvxpy

    require_memory(problem, solver, instead)

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
