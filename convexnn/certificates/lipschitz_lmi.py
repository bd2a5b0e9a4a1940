"""LipSDP as its paper states it, in cvxpy; the multiplier found is repaired, then certified like any other."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.conic.run import require_usable
from convexnn.exceptions import SolverError
from convexnn.lipsdp import multiplier_from_t, multiplier_from_t_vector
from convexnn.memory import require_memory
from convexnn.network import Network

Array = NDArray[np.float64]
FLOOR = 1e-11


def lmi_problem(network: Network) -> Any:
    """The matrix inequality of LipSDP-Neuron as a cvxpy problem with variables "t" and "L_squared".

        minimize L**2  over t >= 0,  T = diag(t)
        [[L**2 I + 2 lo hi W'TW, -(lo + hi) W'T, 0 ],
         [-(lo + hi) T W,         2 T,           V'],
         [0,                      V,             I ]] >= 0

    Implements: Fazlyab et al. (2019), Theorem 1 with diagonal T (one hidden layer, Schur complement taken);
    Yin and Lesage-Landry (2026), eqs. (2)-(3).

    Parameters
    ----------
    network : Network
        One hidden layer.

    Returns
    -------
    problem : cvxpy.Problem
        Its value is LipSDP squared.
    """
    import cvxpy as cp

    W, V = network.layers[0][0], network.layers[1][0]
    (m, d), k = W.shape, V.shape[0]
    low, high = network.activation.slopes
    L_squared = cp.Variable(name="L_squared")
    t = cp.Variable(m, nonneg=True, name="t")
    T = cp.diag(t)
    M = cp.bmat(
        [
            [L_squared * np.eye(d) + 2 * low * high * W.T @ T @ W, -(low + high) * W.T @ T, np.zeros((d, k))],
            [-(low + high) * T @ W, 2 * T, V.T],
            [np.zeros((k, d)), V, np.eye(k)],
        ]
    )
    return cp.Problem(cp.Minimize(L_squared), [(M + M.T) / 2 >> 0])


def lmi_reference(network: Network, solver: str = "auto", **options: Any) -> tuple[Array, float]:
    """Solve `lmi_problem` and return what the solver says, which is no certificate.

    Parameters
    ----------
    network : Network
        One hidden layer.
    solver : str, default "auto"
        "auto" is Clarabel; any solver name of cvxpy that takes matrix inequalities.
    **options
        Passed on to the solver.

    Returns
    -------
    t : array, shape (m,)
        Diagonal of T in the network's own scaling.
    value : float
        Square root of the reported optimum.

    Raises
    ------
    SolverError
        When the solver is not installed or returns no point.
    """
    scaled, w, v = _normalized(network)
    t, value = _solve(scaled, solver, options)
    with np.errstate(over="ignore", under="ignore"):
        return t * np.float64(v) ** 2, value * w * v


def _solve(network: Network, solver: str, options: dict[str, Any]) -> tuple[Array, float]:
    import cvxpy as cp

    problem = lmi_problem(network)
    name = "CLARABEL" if solver == "auto" else solver.upper()
    if name not in cp.installed_solvers():
        raise SolverError(f"The solver {solver!r} is not installed; installed: {cp.installed_solvers()}.")
    if name == "MOSEK":
        require_usable("mosek")
    require_memory(problem, name, "Use lipschitz(method='lipsdp') without a solver: it works with the merged units")
    try:
        problem.solve(solver=name, **options)
    except cp.error.SolverError as error:
        raise SolverError(f"{name} failed on the LipSDP matrix inequality: {error}") from error
    t = problem.var_dict["t"].value
    if t is None:
        raise SolverError(f"{name} returned no point for the LipSDP matrix inequality (status {problem.status}).")
    return np.asarray(t), math.sqrt(max(float(problem.value), 0.0))


def lmi_multiplier(network: Network, solver: str) -> tuple[dict[str, Array], float, dict[str, Any]]:
    """Multiplier q from the solver's T, repaired so that it proves a finite bound.

    Parameters
    ----------
    network : Network
        One hidden layer.
    solver : str
        As in `lmi_reference`.

    Returns
    -------
    multiplier : dict
        {"q": ...} for `check_lipsdp`.
    lower : float
        nan: a solver's primal value proves nothing.
    details : dict
        The solver and its own value of LipSDP.
    """
    scaled, w, v = _normalized(network)
    t, value = _solve(scaled, solver, {})
    with np.errstate(over="ignore", under="ignore"):
        q = _repaired(scaled, t) if network.n_outputs == 1 else _repaired_vector(scaled, t) * (v / w)
    return {"q": q}, math.nan, {"solver": solver, "solver_value": value * w * v}


def _repaired(network: Network, t: Array) -> Array:
    v, W = network.v, network.W
    dead = (v == 0.0) | ~np.any(W != 0.0, axis=1)
    t = np.where(dead, 1.0, np.maximum(t, FLOOR * max(float(t.max()), np.finfo(float).tiny)))
    q = np.maximum(multiplier_from_t(np.where(dead, 0.0, v), t), 0.0)
    q = q / q.sum()
    return (q + FLOOR) / (q + FLOOR).sum()


def _repaired_vector(network: Network, t: Array) -> Array:
    W, V, slopes = network.W, network.layers[1][0], network.activation.slopes
    t = np.maximum(t, FLOOR * max(float(t.max()), np.finfo(float).tiny))
    for growth in (0.0, 1e-10, 1e-9, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1.0, 1e2, 1e4):
        q = multiplier_from_t_vector(W, V, t * (1.0 + growth), slopes)
        if np.isfinite(q).all():
            return q
    return np.ones(len(t))


def _normalized(network: Network) -> tuple[Network, float, float]:
    """The network with weights of size one, and the factors taken out of W and V."""
    (W, b), (V, c) = network.layers
    w = float(np.abs(W).max()) or 1.0
    v = float(np.abs(V).max()) or 1.0
    return Network(((W / w, b / w), (V / v, c)), network.activation), w, v
