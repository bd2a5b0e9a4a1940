"""The semidefinite programs of region bounds in cvxpy: the specification, for small networks."""

from __future__ import annotations

from typing import Any

import numpy as np

from convexnn.memory import require_memory
from convexnn.regions.region import BALL
from convexnn.regions.ridges import Units

#: What a program too large for this machine is told.
STRUCTURED = "Use region_bound(network, region), which never forms this matrix"


def primal_problem(units: Units, *, opposite: bool = False) -> tuple[Any, dict[str, Any]]:
    """The moment relaxation of ``max outer'z + offset``, ``z = relu(W e + b)``, over the unit ball or box.

    ``P = [[1, e', z'], [e, X, Y'], [z, Y, Z]]`` is positive semidefinite with ``z >= 0``, ``z >= W e + b``,
    ``diag Z = diag(Y W') + b z`` and ``tr X <= 1`` (ball) or ``diag X <= 1`` (box).

    Implements: Soletskyi & Dalrymple (2024), the primal semidefinite program.

    Parameters
    ----------
    units : Units
        ReLU units.
    opposite : bool, default False
        For every two units of one group with opposite weights add one equality: never both on (``z_i z_j = 0`` where
        ``b_i + b_j <= 0``) or never both off (``(z - a)_i (z - a)_j = 0`` otherwise).

    Returns
    -------
    problem : cvxpy.Problem
    variables : dict
        ``"P"``.

    Raises
    ------
    SolverError
        When no solver on this machine could hold it.
    """
    import cvxpy as cp

    W, b, c = units.weights, units.biases, units.outer
    h, r = W.shape
    P = cp.Variable((1 + r + h, 1 + r + h), symmetric=True)
    e, z, X, Y, Z = P[0, 1 : 1 + r], P[0, 1 + r :], P[1 : 1 + r, 1 : 1 + r], P[1 + r :, 1 : 1 + r], P[1 + r :, 1 + r :]
    a = W @ e + b
    constraints = [P >> 0, P[0, 0] == 1, z >= 0, z >= a, cp.diag(Z) == cp.diag(Y @ W.T) + cp.multiply(b, z)]
    constraints += [cp.trace(X) <= 1] if units.kind == BALL else [cp.diag(X) <= 1]
    if opposite:
        A = W @ X @ W.T + cp.outer(b, W @ e) + cp.outer(W @ e, b) + np.outer(b, b)
        ZA = Y @ W.T + cp.outer(z, b)
        for i in range(h):
            for j in range(i):
                if units.groups[i] == units.groups[j] and np.array_equal(W[i], -W[j]):
                    off = Z[i, j] - ZA[i, j] - ZA[j, i] + A[i, j]
                    constraints.append((Z[i, j] if b[i] + b[j] <= 0 else off) == 0)
    problem = cp.Problem(cp.Maximize(c @ z + units.offset), constraints)
    require_memory(problem, "clarabel", STRUCTURED)
    return problem, {"P": P}


def dual_problem(units: Units) -> tuple[Any, dict[str, Any]]:
    """The dual of :func:`primal_problem`: the least gamma for which a matrix of multipliers is positive semidefinite.

    Implements: Soletskyi & Dalrymple (2024), the dual semidefinite program.

    Returns
    -------
    problem : cvxpy.Problem
    variables : dict
        ``"lam"``, ``"mu"``, ``"nu"``, ``"rho"``, ``"gamma"``.
    """
    import cvxpy as cp

    W, b, c = units.weights, units.biases, units.outer
    h, r = W.shape
    lam, mu, nu, gamma = cp.Variable(h, nonneg=True), cp.Variable(h, nonneg=True), cp.Variable(h), cp.Variable()
    rho = cp.Variable(1 if units.kind == BALL else r, nonneg=True)
    R = cp.diag(np.ones((r, 1)) @ rho if units.kind == BALL else rho)
    x = cp.reshape(0.5 * (W.T @ mu), (r, 1), order="F")
    z = cp.reshape(-0.5 * (c + lam + mu + cp.multiply(nu, b)), (h, 1), order="F")
    corner = cp.reshape(gamma - units.offset + b @ mu - cp.sum(rho), (1, 1), order="F")
    cross = -0.5 * W.T @ cp.diag(nu)
    S = cp.Variable((1 + r + h, 1 + r + h), PSD=True)
    M = cp.bmat([[corner, x.T, z.T], [x, R, cross], [z, cross.T, cp.diag(nu)]])
    names = {"lam": lam, "mu": mu, "nu": nu, "rho": rho, "gamma": gamma}
    problem = cp.Problem(cp.Minimize(gamma), [S == M])
    require_memory(problem, "clarabel", STRUCTURED)
    return problem, names
