"""Small exact steps on one polyhedral cone ``{u : G u >= 0}``: nearest point, least distance, row multipliers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Array = NDArray[np.float64]

ROUNDS = 20


def nonnegative_fit(A: Array, b: Array) -> Array | None:
    """``argmin ||A x - b||`` over ``x >= 0``, or None when the active-set method does not end.

    Columns of A are scaled to unit length first; a zero column gets a zero entry.
    """
    if not A.size:
        return np.zeros(A.shape[1])  # scipy's nnls corrupts memory when there is no column
    length = np.linalg.norm(A, axis=0)
    scale = np.where(length > 0, length, 1.0)
    try:
        x = nnls(A / scale, b, maxiter=10 * sum(A.shape))[0]
    except RuntimeError:
        return None
    fit: Array = np.where(length > 0, x / scale, 0.0)
    return fit


def project(G: Array, u: Array) -> Array:
    """Nearest point to ``u`` in ``{u : G u >= 0}``.

    The dual is a nonnegative least-squares problem, ``u + G'a`` with ``a = argmin ||u + G'a||``. Only rows
    that are violated on the way enter it. When it does not end, ``u`` comes back unchanged.

    Parameters
    ----------
    G : array, shape (n, d)
    u : array, shape (d,)

    Returns
    -------
    array, shape (d,)
    """
    rows = np.flatnonzero(G @ u < 0)
    point = u
    for _ in range(ROUNDS):
        multipliers = nonnegative_fit(G[rows].T, -u)
        if multipliers is None:
            return u
        point = u + multipliers @ G[rows]
        fresh = np.setdiff1d(np.flatnonzero(G @ point < -1e-15 * np.linalg.norm(u)), rows)
        if not fresh.size:
            break
        rows = np.r_[rows, fresh]
    return point if np.linalg.norm(point) > 1e-12 * np.linalg.norm(u) else np.zeros_like(u)


def least_distance(G: Array, h: Array) -> Array | None:
    """Shortest ``u`` with ``G u >= h``, or None when there is none.

    One nonnegative least-squares problem (Lawson and Hanson, "Solving least squares problems", ch. 23).

    Parameters
    ----------
    G : array, shape (n, d)
    h : array, shape (n,)

    Returns
    -------
    array, shape (d,), or None
    """
    if not (h > 0).any():
        return np.zeros(G.shape[1])
    unit = float(np.max(h))
    target = np.r_[np.zeros(G.shape[1]), 1.0]
    system = np.vstack([G.T, h[None] / unit])
    multipliers = nonnegative_fit(system, target)
    if multipliers is None:
        return None
    remainder = system @ multipliers - target
    if abs(remainder[-1]) < 1e-12:  # the residual vanishes exactly when no u exists
        return None
    point: Array = -unit * remainder[:-1] / remainder[-1]
    return point if (G @ point - h).min() >= -1e-9 * unit else None
