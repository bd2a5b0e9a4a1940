"""LipSDP multipliers q and the diagonal T = diag(t) of the matrix inequality they stand for, in both directions."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.inputs import real_or_nan
from convexnn.lipsdp.stacking import checked_weights

Array = NDArray[np.float64]
Slopes = tuple[float, float]


def multiplier_from_t(v: ArrayLike, t: ArrayLike) -> Array:
    """Multiplier ``q_0 = 1 - 1/2 sum v_i**2 / t_i, q_i = v_i**2 / (2 t_i)`` of a diagonal T = diag(t).

    Implements: convexnn, Proposition 3 of docs/theory/lipsdp.md.

    Parameters
    ----------
    v : array_like, shape (m,)
        Outer weights.
    t : array_like, shape (m,)
        Diagonal of T in the LMI of Fazlyab et al. (2019), slopes [0, 1].

    Returns
    -------
    q : array, shape (m + 1,)
        Nonnegative exactly when the LMI with this T can hold for some L; nan where t_i <= 0 < abs(v_i).
    """
    outer, diagonal = np.asarray(v, dtype=np.float64), real_or_nan(t)
    if diagonal.shape != outer.shape:
        return np.full(outer.size + 1, np.nan)
    q = np.where(outer == 0.0, 0.0, np.nan)
    valid = (outer != 0.0) & (diagonal > 0.0)
    with np.errstate(over="ignore", under="ignore"):
        q[valid] = 0.5 * outer[valid] * (outer[valid] / diagonal[valid])
    return np.concatenate([[1.0 - q.sum()], q])


def t_from_multiplier(v: ArrayLike, q: ArrayLike) -> Array:
    """Diagonal ``t_i = v_i**2 / (2 q_i)`` of T for a multiplier on the simplex; zero for units with v_i = 0.

    Implements: convexnn, Proposition 3 of docs/theory/lipsdp.md.

    Parameters
    ----------
    v : array_like, shape (m,)
        Outer weights.
    q : array_like, shape (m + 1,)
        Multiplier.

    Returns
    -------
    t : array, shape (m,)
        ``inf`` for a unit with q_i = 0 and v_i != 0 (its weights w_i are then zero, or q is no certificate).
    """
    outer, weights = np.asarray(v, dtype=np.float64), real_or_nan(q)
    weights = weights[1:] / weights.sum()
    t = np.where(outer == 0.0, 0.0, np.inf)
    valid = (outer != 0.0) & (weights > 0.0)
    with np.errstate(over="ignore", under="ignore"):
        t[valid] = 0.5 * outer[valid] * (outer[valid] / weights[valid])
    return t


def multiplier_from_t_vector(W: ArrayLike, V: ArrayLike, t: ArrayLike, slopes: Slopes = (0.0, 1.0)) -> Array:
    """Multiplier of a diagonal T = diag(t), L(t) the value of the LMI with this T (float64).

        L(t)**2 = lmax(h**2/2 W'TW + 1/4 U_0'(I - 1/2 V T^-1 V')^-1 U_0),   q = h t / L(t)

    Parameters
    ----------
    W : array_like, shape (m, d)
        Hidden weights.
    V : array_like, shape (k, m)
        Outer weights.
    t : array_like, shape (m,)
        Diagonal of T; entries of zero units are not read.
    slopes : tuple of float, default (0.0, 1.0)
        Slope interval of the activation.

    Returns
    -------
    q : array, shape (m,)
        All nan when the LMI does not hold for any L with this T, or leaves float64. Certify it with
        `upper_bound_vector`.
    """
    inner, outer = checked_weights(W, V)
    diagonal = real_or_nan(t)
    used = np.any(inner != 0.0, axis=1) & np.any(outer != 0.0, axis=0)
    if diagonal.shape != used.shape or not (np.isfinite(diagonal[used]).all() and (diagonal[used] > 0.0).all()):
        return np.full(len(inner), np.nan)
    low, high = slopes
    height = high - low if high > low else 1.0
    with np.errstate(over="ignore", invalid="ignore"):
        C = np.eye(len(outer)) - 0.5 * (outer[:, used] / diagonal[used]) @ outer[:, used].T
        if not (np.isfinite(C).all() and np.linalg.eigvalsh(C)[0] > 0.0):
            return np.full(len(inner), np.nan)
        U = (low + high) * outer @ inner
        A = 0.5 * (high - low) ** 2 * (inner[used].T * diagonal[used]) @ inner[used]
        A = A + 0.25 * U.T @ np.linalg.solve(C, U)
        if not np.isfinite(A).all():
            return np.full(len(inner), np.nan)
        square = float(np.linalg.eigvalsh(A)[-1])
        return np.where(used, height * diagonal, 1.0) / (math.sqrt(square) if square > 0.0 else 1.0)


def t_from_multiplier_vector(q: ArrayLike, bound: float, slopes: Slopes = (0.0, 1.0)) -> Array:
    """Diagonal ``t = bound * q / (hi - lo)`` of T that reaches ``bound`` in the LMI of Fazlyab et al. (2019).

    Parameters
    ----------
    q : array_like, shape (m,)
        Multiplier.
    bound : float
        ``upper_bound_vector`` at q.
    slopes : tuple of float, default (0.0, 1.0)
        Slope interval of the activation.

    Returns
    -------
    t : array, shape (m,)
        Diagonal of T.
    """
    height = slopes[1] - slopes[0]
    return bound * real_or_nan(q) / (height if height > 0.0 else 1.0)
