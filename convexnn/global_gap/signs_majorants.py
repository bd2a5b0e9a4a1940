r"""Quadratic majorants of ``sum_i c_i relu(x_i'w)`` on a piece of the unit ball: any coefficients give a bound.

On a piece where ``l_i <= x_i'w <= u_i`` for all i, and ``s_i x_i'w >= 0`` for the units of fixed sign,

    sum_i c_i relu(a_i) <= sum_i (al_i a_i^2 + be_i a_i + de_i) + sum_{i<j fixed} pi_ij s_i s_j a_i a_j,    a_i = x_i'w,

with ``de_i`` the maximum of ``c_i relu(a) - al_i a^2 - be_i a`` on ``[l_i, u_i]``, in closed form, and ``pi_ij >= 0``.
The right side is one quadratic in w, whose maximum over the ball is bounded by one eigenvalue of size d + 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.rigorous import UNIT, gamma, max_eigenvalue, sum_up

Array = NDArray[np.float64]

#: A kink closer to the end of an interval than this share of its width is not relaxed.
THIN = 1e-9


@dataclass(frozen=True, eq=False)
class Piece:
    """A piece of the unit ball: units of fixed sign and intervals of pre-activations.

    Parameters
    ----------
    signs : array, shape (n,)
        -1, +1, or 0 where the sign is free.
    low, high : array, shape (n,)
        Valid bounds on ``x_i'w`` over the piece.
    """

    signs: Array
    low: Array
    high: Array

    @property
    def loose(self) -> NDArray[np.bool_]:
        """Units whose kink lies well inside the piece; what is left of the others is part of every bound."""
        width = THIN * (self.high - self.low)
        return (self.low < -width) & (self.high > width)


@dataclass(frozen=True, eq=False)
class Majorant:
    """Coefficients: ``quadratic`` and ``linear`` (n,), and ``pairs`` (f, f) of the f fixed units, upper triangle."""

    quadratic: Array
    linear: Array
    pairs: Array


def majorant_bound(X: Array, c: Array, piece: Piece, majorant: Majorant) -> float:
    """Upper bound on ``max F(w)`` over the piece from any coefficients; infinite for bad ones.

    Implements: docs/theory/sign_branching.md, Proposition 1.

    Parameters
    ----------
    X : array, shape (n, d)
    c : array, shape (n,)
    piece : Piece
    majorant : Majorant
        Negative pairs are clipped.

    Returns
    -------
    float
        Rounding of this computation is bounded and added.
    """
    al, be = majorant.quadratic, majorant.linear
    fixed = np.flatnonzero(piece.signs)
    pairs = np.maximum(np.triu(majorant.pairs, 1), 0.0)
    if not (np.isfinite(al).all() and np.isfinite(be).all() and np.isfinite(pairs).all()):
        return math.inf
    signed = piece.signs[fixed, None] * X[fixed]
    product = signed.T @ (pairs @ signed)
    A = (X.T * al) @ X + 0.5 * (product + product.T)
    g = X.T @ be
    squares, lengths = (X**2).sum(axis=1), np.sqrt((X**2).sum(axis=1))
    size = float(np.abs(al) @ squares + np.abs(be) @ lengths + lengths[fixed] @ pairs @ lengths[fixed])
    top = offsets(al, be, c, piece.low, piece.high)
    scale = np.abs(al) * piece_size(piece) ** 2 + (np.abs(be) + np.abs(c)) * piece_size(piece)
    rounding = 4 * gamma(2 * len(c) + 4 * len(g) + 64) * (size + float(scale.sum()))
    return sum_up([ball_maximum(A, g), *top, rounding])


def piece_size(piece: Piece) -> Array:
    """Largest magnitude of every pre-activation on the piece, shape (n,)."""
    size: Array = np.maximum(np.abs(piece.low), np.abs(piece.high))
    return size


def offsets(al: Array, be: Array, c: Array, low: Array, high: Array) -> Array:
    """``max_{a in [low, high]} c relu(a) - al a^2 - be a``, shape (n,)."""
    left = _parabola_maximum(-al, -be, low, np.minimum(high, 0.0))
    right = _parabola_maximum(-al, c - be, np.maximum(low, 0.0), high)
    return np.maximum(np.where(low <= 0, left, -np.inf), np.where(high >= 0, right, -np.inf))


def _parabola_maximum(p: Array, q: Array, low: Array, high: Array) -> Array:
    """``max p a^2 + q a`` over ``[low, high]``."""
    ends = np.maximum(p * low**2 + q * low, p * high**2 + q * high)
    top = np.where(p < 0, -q / np.where(p < 0, 2 * p, 1.0), low)
    inside = np.clip(top, low, high)
    return np.maximum(ends, p * inside**2 + q * inside)


def ball_maximum(A: Array, g: Array) -> float:
    """Upper bound on ``max_{|w| <= 1} w'Aw + g'w``, tight up to rounding.

    For every ``r >= 0`` and q it is at most ``r + q + 2 max(0, top eigenvalue of [[A - r, g/2], [., -q]])``.
    """
    values, vectors = np.linalg.eigh(A)
    roots = np.abs(vectors.T @ g) / 2
    length = float(np.linalg.norm(roots))
    floor = max(float(values[-1]), 0.0)
    low, high = floor, floor + length + 1e-300
    for _ in range(60):  # the derivative 1 - sum weights / (r - values)^2 rises with r
        middle = 0.5 * (low + high)
        rest = np.maximum(middle - values, 1e-100)
        if float(((roots / rest) ** 2).sum()) > 1:
            low = middle
        else:
            high = middle
    share = float((roots**2 / np.maximum(high - values, 1e-100)).sum())
    if not math.isfinite(share + high):
        return math.inf
    K = np.block([[A - high * np.eye(len(g)), g[:, None] / 2], [g[None] / 2, np.array([[-share]])]])
    error = 4 * UNIT * (float(np.abs(K).max(initial=0.0)) + high) * len(K)
    return high + share + 2 * max(max_eigenvalue(K, error), 0.0)
