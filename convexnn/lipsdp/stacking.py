"""The rows b_0, ..., b_m that carry a scalar shallow network into LipSDP, with their rounding errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.rigorous import UNIT, column_sums, norm_up, row_norms_up


@dataclass(frozen=True)
class Stack:
    """Rows ``B * 2**exponent`` of a network, known up to ``error`` per row.

    Attributes
    ----------
    B : array, shape (m + 1, d)
        Scaled rows.
    error : array, shape (m + 1,)
        Bounds on the Euclidean norm of the rounding error of each row of B.
    exponent : int
        Power of two that was taken out.
    """

    B: NDArray[np.float64]
    error: NDArray[np.float64]
    exponent: int


def stack(W: ArrayLike, v: ArrayLike, slopes: tuple[float, float] = (0.0, 1.0)) -> NDArray[np.float64]:
    """Rows of LipSDP: ``b_0 = (lo + hi) sum_i u_i`` and ``b_i = (hi - lo) u_i`` with ``u_i = v_i w_i``.

    With slopes ``lo + (hi - lo) (1 + s_i) / 2`` and s_i in [-1, 1] the gradient of ``v' phi(W x + b)`` is
    ``(b_0 + sum_i s_i b_i) / 2``: for ReLU b_0 is the sum of the units and b_i the unit itself.

    Parameters
    ----------
    W : array_like, shape (m, d)
        Hidden weights, without the bias column.
    v : array_like, shape (m,)
        Outer weights.
    slopes : tuple of float, default (0.0, 1.0)
        Smallest and largest slope of the activation.

    Returns
    -------
    B : array, shape (m + 1, d)
        In float64, without scaling: see `stack_rounded` for weights near the limits of float64.
    """
    weights, v_array = _weights(W, v)
    low, high = slopes
    U = v_array[:, None] * weights
    return np.concatenate([(low + high) * U.sum(axis=0)[None], (high - low) * U])


def stack_rounded(W: ArrayLike, v: ArrayLike, slopes: tuple[float, float] = (0.0, 1.0)) -> Stack:
    """Rows of `stack` with bounds on their rounding errors, scaled by a power of two so that nothing overflows.

    Parameters
    ----------
    W : array_like, shape (m, d)
        Hidden weights, without the bias column.
    v : array_like, shape (m,)
        Outer weights.
    slopes : tuple of float, default (0.0, 1.0)
        Smallest and largest slope of the activation.

    Returns
    -------
    rows : Stack
        The exact rows are within ``error`` of ``B`` (both times ``2**exponent``).
    """
    weights, v_array = _weights(W, v)
    low, high = (float(slope) for slope in slopes)
    inner = np.frexp(np.max(np.abs(weights), axis=1, initial=0.0))[1]
    outer = np.frexp(v_array)[1]
    alive = (v_array != 0.0) & np.any(weights != 0.0, axis=1)
    total = inner + outer
    exponent = int(total[alive].max()) if alive.any() else 0
    shift = np.where(alive, np.maximum(total - exponent, -1200), 0)
    U = np.ldexp(np.ldexp(v_array, -outer)[:, None] * np.ldexp(weights, -inner[:, None]), shift[:, None])
    U[~alive] = 0.0
    sums, sum_error = column_sums(U)
    B = np.concatenate([(low + high) * sums[None], (high - low) * U])
    units = np.where(alive, 4.0 * UNIT * row_norms_up(U) + np.sqrt(U.shape[1]) * 2.0**-1070, 0.0)
    first = abs(low + high) * (2.0 * norm_up(sum_error) + 2.0 * float(units.sum()) + 4.0 * UNIT * norm_up(sums))
    return Stack(B, np.concatenate([[first], 2.0 * abs(high - low) * units]), exponent)


def _weights(W: ArrayLike, v: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    weights, outer = np.asarray(W, dtype=np.float64), np.asarray(v, dtype=np.float64)
    if weights.ndim != 2 or outer.shape != (weights.shape[0],):
        raise InvalidInputError(
            f"LipSDP of a scalar network needs W of shape (m, d) and v of shape (m,); got "
            f"{weights.shape} and {outer.shape}."
        )
    if not (np.isfinite(weights).all() and np.isfinite(outer).all()):
        raise InvalidInputError("LipSDP needs finite weights; W or v contains nan or inf.")
    return weights, outer


def checked_weights(W: ArrayLike, V: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Finite float64 arrays W (m, d) and V (k, m), or a sentence about what is wrong with them."""
    inner, outer = np.asarray(W, dtype=np.float64), np.atleast_2d(np.asarray(V, dtype=np.float64))
    if inner.ndim != 2 or outer.ndim != 2 or outer.shape[1] != inner.shape[0]:
        raise InvalidInputError(
            f"LipSDP needs W of shape (m, d) and V of shape (k, m); got {inner.shape} and {outer.shape}."
        )
    if not (np.isfinite(inner).all() and np.isfinite(outer).all()):
        raise InvalidInputError("LipSDP needs finite weights; W or V contains nan or inf.")
    return inner, outer
