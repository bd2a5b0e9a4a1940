"""The max-gradient bound in the form of its paper: any vector q proves it, by one eigenvalue of size d + m + 1."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.inputs import real_or_nan
from convexnn.rigorous import ldexp_up, max_eigenvalue, norm_up, power_of_two, product_up, sum_up

Array = NDArray[np.float64]


def max_cut_matrix(B: Array) -> Array:
    """``M = [[0, B'], [B, 0]]``, shape (d + m + 1, d + m + 1), inputs first: ``a'Ma = 2 s'B t`` at ``a = (t, s)``."""
    rows, d = B.shape
    M = np.zeros((d + rows, d + rows))
    M[d:, :d], M[:d, d:] = B, B.T
    return M


def upper_bound_max_cut(B: ArrayLike, q: ArrayLike, error: ArrayLike | None = None) -> float:
    """Rigorous upper bound on ``1/2 max s'B t`` (s, t in [-1, 1]) from any vector q of any signs.

        L <= 1/4 ( D lambda_max^+(M - diag(q)) + sum max(q, 0) ),   D = d + m + 1,        for every q.

    Implements: Raghunathan et al. (2018a), eq. (15), with the rows of `convexnn.lipsdp.stack`.

    Parameters
    ----------
    B : array_like, shape (m + 1, d)
        Rows of `convexnn.lipsdp.stack`.
    q : array_like, shape (d + m + 1,)
        Multipliers of the inputs, then of the rows.
    error : array_like, shape (m + 1,), optional
        The bound then covers every B whose row i differs by at most ``error[i]`` (l2). Default: zero.

    Returns
    -------
    bound : float
        Upper bound on the l1 norm of every gradient, rounded up; ``inf`` for nan, inf or another shape.
    """
    rows, weights = np.asarray(B, dtype=np.float64), real_or_nan(q)
    spread = np.zeros(rows.shape[0]) if error is None else np.asarray(error, dtype=np.float64)
    if weights.shape != (sum(rows.shape),) or spread.shape != rows.shape[:1] or not (spread >= 0).all():
        return math.inf
    if not all(np.isfinite(part).all() for part in (rows, weights, spread)):
        return math.inf
    exponent = max(power_of_two(rows), power_of_two(weights))
    M = max_cut_matrix(np.ldexp(rows, -exponent))
    scaled = np.ldexp(weights, -exponent)
    M[np.diag_indices_from(M)] = -scaled
    drift = norm_up(np.ldexp(spread, -exponent)) + M.size * 2.0**-1060
    top = max(max_eigenvalue(M, drift), 0.0)
    total = sum_up([product_up(float(len(M)), top), sum_up(np.maximum(scaled, 0.0)), M.size * 2.0**-1060])
    return ldexp_up(total, exponent - 2)
