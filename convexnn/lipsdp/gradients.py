"""Gradients of LipSDP with respect to the weights (Danskin), from the maximizing factors."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.lipsdp.stacking import checked_weights, stack

Array = NDArray[np.float64]
Slopes = tuple[float, float]


def gradient(W: ArrayLike, v: ArrayLike, S: ArrayLike, slopes: Slopes = (0.0, 1.0)) -> tuple[Array, Array]:
    """Gradient of LipSDP with respect to the weights, from the optimal factor S.

        dL/db_i = 1/2 S S'b_i / ||S'b_i||  (||S||_F = 1), chained through b_0 = (lo + hi) sum u_i, b_i = (hi - lo) u_i.

    Implements: convexnn, Proposition 4 of docs/theory/lipsdp.md (Danskin).

    Parameters
    ----------
    W : array_like, shape (m, d)
        Hidden weights.
    v : array_like, shape (m,)
        Outer weights.
    S : array_like, shape (d, r)
        Optimal factor, `LipSDPResult.factor`.
    slopes : tuple of float, default (0.0, 1.0)
        Slope interval of the activation.

    Returns
    -------
    dW : array, shape (m, d)
        Derivative in W; where LipSDP is not differentiable, a subgradient of it in the products v_i w_i, chained.
    dv : array, shape (m,)
        Derivative in v.
    """
    weights, outer, factor = (np.asarray(a, dtype=np.float64) for a in (W, v, S))
    low, high = slopes
    B = stack(weights, outer, slopes)
    M = B @ factor
    y = np.linalg.norm(M, axis=1)
    N = np.divide(M, y[:, None], out=np.zeros_like(M), where=y[:, None] > 0.0)
    dB = 0.5 * (N @ factor.T) / np.linalg.norm(factor)
    dU = (low + high) * dB[0] + (high - low) * dB[1:]
    return outer[:, None] * dU, np.einsum("ij,ij->i", weights, dU)


def gradient_vector(
    W: ArrayLike, V: ArrayLike, factors: tuple[ArrayLike, ArrayLike], slopes: Slopes = (0.0, 1.0)
) -> tuple[Array, Array]:
    """Gradient of LipSDP with several outputs with respect to the weights, from the optimal factors.

    Implements: convexnn, Proposition 5 of docs/theory/lipsdp.md (Danskin).

    Parameters
    ----------
    W : array_like, shape (m, d)
        Hidden weights.
    V : array_like, shape (k, m)
        Outer weights.
    factors : tuple of array_like, shapes (d, r) and (k, r)
        ``VectorLipSDPResult.factors``.
    slopes : tuple of float, default (0.0, 1.0)
        Slope interval of the activation.

    Returns
    -------
    dW : array, shape (m, d)
        Derivative in W.
    dV : array, shape (k, m)
        Derivative in V.
    """
    inner, outer = checked_weights(W, V)
    X, Y = (np.asarray(F, dtype=np.float64) / np.linalg.norm(F) for F in factors)
    low, high = slopes
    A, C = inner @ X, outer.T @ Y
    a, c = np.linalg.norm(A, axis=1)[:, None], np.linalg.norm(C, axis=1)[:, None]
    A_unit = np.divide(A, a, out=np.zeros_like(A), where=a > 0.0)
    C_unit = np.divide(C, c, out=np.zeros_like(C), where=c > 0.0)
    dW = 0.5 * ((low + high) * C + (high - low) * c * A_unit) @ X.T
    dV = 0.5 * ((low + high) * A + (high - low) * a * C_unit) @ Y.T
    return dW, dV.T
