"""Good diagonal multipliers for quadratics over boxes: Shor's relaxation by Newton's method, all samples at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.boxes import Boxes
from convexnn.quadratic.trust_region import minimize_over_ball

Array = NDArray[np.float64]

STEPS = 60
SHRINK = 0.1
ACCURACY = 1e-8  # final weight of the barrier, of the size of the problem
STAY = 0.95  # part of the way to the boundary that a step may go


def best_diagonal(boxes: Boxes, steps: int = STEPS) -> tuple[Array, Array]:
    """Multipliers near the best of the Shor bound of each box, and the relaxed minimizers.

    Maximizes ``-g'(s Q + diag D)^{-1} g - sum D + nu (logdet(s Q + diag D) + sum log D)`` by Newton's method with a
    falling weight nu, in the coordinates of the unit box. The length of a step is limited by the Frobenius norm of its
    change relative to the matrix, which keeps both barriers finite. Any result is a valid input of
    :func:`~convexnn.quadratic.boxes.diagonal_bounds`, which computes the bound.

    Parameters
    ----------
    boxes : Boxes
    steps : int
        Newton steps at most.

    Returns
    -------
    multipliers : array, shape (n, d)
    steps : array, shape (n, d)
        ``-(s Q + diag D)^{-1} g`` in input units: where the relaxation has its minimum, often outside of the box.
    """
    D, t = np.empty_like(boxes.centres), np.empty_like(boxes.centres)
    for rows in boxes.chunks():
        part = boxes.take(rows)
        D[rows], t[rows] = _path(*part.units(), steps)
    return D, t * boxes.halves


def _path(Q: Array, g: Array, steps: int) -> tuple[Array, Array]:
    n, d = g.shape
    size = np.maximum(np.abs(Q).sum(axis=2).max(axis=1), np.abs(g).max(axis=1))
    size = np.maximum(size, 1e-290)
    Q, g = Q / size[:, None, None], g / size[:, None]
    D = _dominant(Q, g)
    nu = np.full(n, 0.1)
    found, moved, rows, best = D.copy(), np.zeros((n, d)), np.arange(n), np.full(n, -np.inf)
    diagonal = np.arange(d)
    for _ in range(steps):
        A = Q.copy()
        A[:, diagonal, diagonal] += D
        try:
            inverse = np.linalg.inv(A)
        except np.linalg.LinAlgError:  # what was found so far is as valid as anything
            break
        t = -np.einsum("nij,nj->ni", inverse, g)
        value = (g * t).sum(axis=1) - D.sum(axis=1)
        better = value >= best[rows]  # a step that lost its digits does not replace a good one
        best[rows[better]], found[rows[better]], moved[rows[better]] = value[better], D[better], t[better]
        squares = inverse * inverse
        gradient = t * t - 1.0 + nu[:, None] * (inverse[:, diagonal, diagonal] + 1.0 / D)
        hessian = 2.0 * (t[:, :, None] * t[:, None, :]) * inverse + nu[:, None, None] * squares
        hessian[:, diagonal, diagonal] += nu[:, None] / (D * D)
        try:
            step = np.linalg.solve(hessian, gradient[:, :, None])[:, :, 0]
        except np.linalg.LinAlgError:
            break
        decrement = (gradient * step).sum(axis=1) / nu
        relative = np.sqrt(np.einsum("ni,nij,nj->n", step, squares, step) + ((step / D) ** 2).sum(axis=1))
        D = D + np.minimum(1.0, STAY / np.maximum(relative, 1e-300))[:, None] * step
        near = decrement < 1.0
        going = ~(near & (nu <= ACCURACY)) & np.isfinite(decrement)
        nu = np.where(near, np.maximum(SHRINK * nu, ACCURACY), nu)
        if not going.any():
            break
        rows, D, Q, g, nu = rows[going], D[going], Q[going], g[going], nu[going]
    return found * size[:, None], moved


def _dominant(Q: Array, g: Array) -> Array:
    """Multipliers that make the matrices diagonally dominant, shape (n, d): a start without factorization."""
    own = np.einsum("nii->ni", Q)
    others = np.abs(Q).sum(axis=2) - np.abs(own)
    return np.maximum(others - own, 0.0) + np.abs(g) + 0.1


def common_diagonal(boxes: Boxes, rounds: int = 20) -> Array:
    """One set of weights for all boxes and the best multiple of it for each: O(n d^2 + d^3) a round.

    The box lies in the ellipsoid ``sum D_k delta_k^2 <= sum D_k e_k^2``, a ball in scaled coordinates, whose trust
    region gives the multiple. The weights move to where the coordinates of the worst points are equally far out; the
    best in the mean bound is kept.

    Parameters
    ----------
    boxes : Boxes
    rounds : int

    Returns
    -------
    multipliers : array, shape (n, d)
        For :func:`~convexnn.quadratic.boxes.diagonal_bounds`, in the coordinates of the unit box.
    """
    d = boxes.centres.shape[1]
    e, Q, slopes, weights = boxes.halves, boxes.form.Q, boxes.slopes, np.ones(d)
    best, kept = -np.inf, np.zeros_like(e)
    for _ in range(rounds):
        root = np.sqrt(weights)
        values, V = np.linalg.eigh(Q / root / root[:, None])
        radius = np.sqrt((weights * e * e).sum(axis=1))
        found = minimize_over_ball(boxes.signs[:, None] * values, (slopes / root) @ V, radius)
        multipliers = found.multipliers[:, None] * weights * e * e
        if found.values.mean() > best:
            best, kept = found.values.mean(), multipliers
        steps = found.steps @ V.T / root
        price = found.multipliers[:, None]
        spread, room = (price * steps * steps).sum(axis=0), (price * e * e).sum(axis=0)
        if not (room > 0).all():
            break
        weights = weights * np.sqrt(np.maximum(spread / room, 1e-4))
        weights = weights / weights.mean()
    return kept
