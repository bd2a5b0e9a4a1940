"""Exact distances to the zero set of a quadratic function, many samples at once."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

NEGLIGIBLE = 2.0**-450  # of the scale of a row: its square is still a number
SMALLEST = 1e-300
CLOSE = 4.0 * float(np.finfo(float).eps)
STEPS = 200


@dataclass(frozen=True, eq=False)
class Nearest:
    """Nearest points where ``margin + 2 linear'e + e' diag(curvature) e`` is not positive, one a row.

    Attributes
    ----------
    steps : array, shape (n, d)
        nan where there is no such point, zero where the margin is not positive.
    distances : array, shape (n,)
        Lengths of the steps; ``inf`` where there is none.
    excesses : array, shape (n,)
        Of the trust region with this radius: ``multiplier + min(curvature)``.
    """

    steps: Array = field(repr=False)
    distances: Array = field(repr=False)
    excesses: Array = field(repr=False)


def nearest_zero(margin: Array, linear: Array, curvature: Array) -> Nearest:
    """Nearest points with ``h + 2 g'e + sum L_k e_k^2 <= 0``, exact with the hard case.

    The multiplier of the trust region that touches the set solves the increasing equation::

        sum_k g_k^2 (L_k + 2 mu) / (L_k + mu)^2 = h,    mu > max(0, -min L)

    Newton's method on its power -1/2, kept in a bracket that bisection shrinks. Where the left side stays below h down
    to the end of the interval, either the lowest eigenvector leads to the set (``min L < 0``, the hard case) or there
    is no such point.

    Implements: convexnn, Proposition 5 of docs/theory/quadratic_worst_cases.md.

    Parameters
    ----------
    margin : array, shape (n,)
        h, the value at the sample.
    linear : array, shape (n, d)
        g, half of the gradient.
    curvature : array, shape (n, d)
        L.

    Returns
    -------
    Nearest
    """
    n, d = linear.shape
    steps, excesses = np.zeros((n, d)), np.zeros(n)
    todo = np.flatnonzero(margin > 0)
    if len(todo):
        h, g, L, length, height = _scaled(margin[todo], linear[todo], curvature[todo])
        found, excess = _solve(h, g, L)
        with np.errstate(over="ignore"):
            steps[todo] = np.ldexp(found, length[:, None])
            excesses[todo] = np.ldexp(excess, height - 2 * length)
    scale = np.maximum(np.abs(steps).max(axis=1), SMALLEST)
    with np.errstate(invalid="ignore"):
        distances = scale * np.linalg.norm(steps / scale[:, None], axis=1)
    return Nearest(steps, np.where(np.isnan(distances), np.inf, distances), excesses)


def _scaled(h: Array, g: Array, L: Array) -> tuple[Array, Array, Array, NDArray[np.int32], NDArray[np.int32]]:
    """Rows with h in [1/2, 1), entries of g and L at most one, the largest near it; exponents of length and height."""
    part, height = np.frexp(h)
    steep, flat = np.abs(L).max(axis=1), np.abs(g).max(axis=1)
    by_curvature = np.where(steep > 0, (np.frexp(steep)[1] - height + 1) // 2, -9999)
    by_slope = np.where(flat > 0, np.frexp(flat)[1] - height, -9999)
    length = np.maximum(by_curvature, by_slope)
    length = -np.where(length == -9999, 0, length)
    scaled_g = np.ldexp(g, (length - height)[:, None])
    scaled_L = np.ldexp(L, (2 * length - height)[:, None])
    scaled_g[np.abs(scaled_g) < NEGLIGIBLE] = 0.0
    return part, scaled_g, scaled_L, length, height


def _solve(h: Array, g: Array, L: Array) -> tuple[Array, Array]:
    """Steps (nan where there is no point) and excesses ``mu + min L`` of scaled rows."""
    lowest = L.min(axis=1)
    above, squares = L - lowest[:, None], g * g
    base = np.maximum(lowest, 0.0)
    excess = _root(h, squares, above, lowest, base)
    shifted = np.maximum(above + excess[:, None], SMALLEST)
    steps = -g / shifted
    ended = excess <= base
    left = h - (squares / shifted * (1.0 + (excess - lowest)[:, None] / shifted)).sum(axis=1)
    hard = np.flatnonzero(ended & (left > 0) & (lowest < 0))
    k = above[hard].argmin(axis=1)
    steps[hard, k] = np.sqrt(left[hard] / -lowest[hard])
    steps[ended & (left > 0) & (lowest >= 0)] = np.nan
    return steps, excess


def _root(h: Array, squares: Array, above: Array, lowest: Array, base: Array) -> Array:
    """Root of the increasing equation in the excess, or ``base`` where the left side is below h there."""
    low, high = _bracket(h, squares, above, lowest, base)
    found, x, rows = low.copy(), low, np.arange(len(h))
    for _ in range(STEPS):
        shifted = np.maximum(above + x[:, None], SMALLEST)
        multiplier = x - lowest
        ratio = squares / shifted
        curved = (ratio / shifted).sum(axis=1)
        total = ratio.sum(axis=1) + multiplier * curved
        fall = 2.0 * multiplier * (ratio / shifted / shifted).sum(axis=1)
        over = total > h
        low, high = np.where(over, x, low), np.where(over, high, x)
        slope = np.maximum(fall, SMALLEST)
        newton = x + 2.0 * total * (np.sqrt(total / h) - 1.0) / slope
        middle = np.where(low > 0, np.sqrt(low) * np.sqrt(high), 0.5 * high)
        following = np.where((newton >= low) & (newton <= high), newton, middle)
        going = (np.abs(total - h) > CLOSE * h) & (high - low > CLOSE * high) & (np.abs(following - x) > 0)
        found[rows] = x
        if not going.any():
            break
        rows, x = rows[going], following[going]
        h, squares, above, lowest = h[going], squares[going], above[going], lowest[going]
        low, high = low[going], high[going]
    return found


def _bracket(h: Array, squares: Array, above: Array, lowest: Array, base: Array) -> tuple[Array, Array]:
    """Ends between which the root lies: from the single terms below, from all of them at the lowest curvature above."""
    L = above + lowest[:, None]
    inner = squares - h[:, None] * L  # a term equals h where h D^2 - 2 g^2 D + g^2 L = 0
    reached = (squares + np.sqrt(squares) * np.sqrt(np.maximum(inner, 0.0))) / h[:, None] - above
    low = np.maximum(base, np.where((inner >= 0) & (squares > 0), reached, 0.0).max(axis=1))
    size = squares.sum(axis=1)
    high = (size + np.sqrt(size) * np.sqrt(size + h * np.maximum(-lowest, 0.0))) / h
    return low, np.maximum(high * (1.0 + 8.0 * CLOSE), low)
