"""Sums of tanh and logistic units of one variable, bounded from above by parabolas, cell by cell, rounding included."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation, Sigmoid, Tanh
from convexnn.rigorous import UNIT, gamma

Array = NDArray[np.float64]

Pieces = tuple[Array, Array, Array, Array, Array]  # q, k, e, lower, upper, shapes (G, P)
ELEMENTARY = 2.0**-46  # error of one value of tanh, and of what is made of it by a few operations

LOST = 2.0**-1070  # of a few products that underflow


def smooth_pieces(
    activation: Activation, group: NDArray[np.intp], c: Array, sigma: Array, b: Array, reach: Array, pieces: int
) -> Pieces:
    """Parabolas above ``sum_i c_i act(sigma_i a + b_i)`` on cells that cover ``[-reach, reach]``, one group a row.

    On every cell each unit is its Taylor polynomial of second order in the middle plus the largest remainder, or a
    constant where that is closer (in the tails).

    Implements: convexnn, Proposition 5 of theory/region_bounds.md, parabolas above smooth units.

    Parameters
    ----------
    activation : Tanh or Sigmoid
    group : array of int, shape (h,)
    c, sigma, b : array, shape (h,)
    reach : array, shape (G,)
    pieces : int
        Cells of each group, P.
    """
    nodes = _nodes(activation, group, sigma, b, reach, pieces)
    low, high = nodes[:, :-1], nodes[:, 1:]
    middle = 0.5 * (low + high)
    half = np.maximum(high - middle, middle - low) * (1.0 + 4.0 * UNIT)
    unit = np.zeros((5, *low.shape))  # constants, slopes, curvatures, remainders and sizes of the sums
    for i in np.argsort(group, kind="stable"):
        g = group[i]
        unit[:, g] += _expansion(activation, c[i], sigma[i], b[i], (low[g], high[g], middle[g], half[g]))
    p0, p1, p2, rest, size = unit
    rounding = 4.0 * gamma(int(np.bincount(group, minlength=1).max()) + 16) * size
    return p2, p1 - 2.0 * p2 * middle, p0 - p1 * middle + p2 * middle * middle + rest + rounding, low, high


def _expansion(
    activation: Activation, c: float, sigma: float, b: float, cells: tuple[Array, Array, Array, Array]
) -> Array:
    """Numbers of one unit on the cells of its group, about their middles."""
    low, high, middle, half = cells
    far = np.abs(middle) + half
    slip = 8.0 * UNIT * (np.abs(sigma) * far + np.abs(b))  # rounding of the pre-activations
    first, last = (activation(sigma * end + b) for end in (low, high))
    bottom, top = np.minimum(first, last) - slip - ELEMENTARY, np.maximum(first, last) + slip + ELEMENTARY
    value, slope, bend = _jet(activation, sigma * middle + b)
    reached = np.abs(sigma) * half
    rest = _third(activation, bottom, top) * reached**3 / 6.0 * (1.0 + 16.0 * UNIT)
    rest += 4.0 * (slip + ELEMENTARY) * (1.0 + reached + reached * reached)
    flat = ~(top - bottom > 2.0 * rest)  # also where the remainder overflows
    p0 = np.where(flat, top if c > 0 else bottom, value)
    p1, p2, rest = (np.where(flat, 0.0, part) for part in (sigma * slope, sigma * sigma * bend, rest))
    size = np.abs(p0) + np.abs(p1) * far + np.abs(p2) * far * far + rest
    lost = LOST * (1.0 + far) * (1.0 + far)
    return np.stack([c * p0, c * p1, c * p2, np.abs(c) * (rest + lost) + lost, np.abs(c) * size])


def _jet(activation: Activation, s: Array) -> tuple[Array, Array, Array]:
    """Value, slope and half of the second derivative."""
    value = activation(s)
    if isinstance(activation, Tanh):
        slope = 1.0 - value * value
        return value, slope, -value * slope
    slope = value * (1.0 - value)
    return value, slope, slope * (0.5 - value)


def _third(activation: Activation, bottom: Array, top: Array) -> Array:
    """Upper bound on the third derivative where the values lie between two numbers."""
    if isinstance(activation, Tanh):
        square = np.sort([bottom * bottom, top * top], axis=0)
        square[0] = np.where((bottom < 0) & (top > 0), 0.0, square[0])
        factor = 2.0 * np.maximum(1.0 - square[0], 0.0)
        return np.asarray(factor * np.abs(1.0 - 3.0 * square).max(axis=0) + ELEMENTARY)
    product = np.sort([bottom * (1.0 - bottom), top * (1.0 - top)], axis=0)
    product[1] = np.where((bottom < 0.5) & (top > 0.5), 0.25, product[1])
    return np.asarray(np.maximum(product[1], 0.0) * np.abs(1.0 - 6.0 * product).max(axis=0) + ELEMENTARY)


def _nodes(activation: Activation, group: NDArray[np.intp], sigma: Array, b: Array, reach: Array, pieces: int) -> Array:
    """Ends of the cells of every group, sorted, from -reach to reach; dense where units bend. Shape (G, P + 1)."""
    scale = 1.0 if isinstance(activation, Sigmoid) else 2.0
    own = reach[group]
    ends = [np.arcsinh(scale * (b + sign * np.abs(sigma) * own)) for sign in (-1.0, 1.0)]
    share = np.linspace(0.0, 1.0, pieces + 1)
    bent = np.sinh(ends[0][:, None] + share * (ends[1] - ends[0])[:, None]) / scale
    steep = np.abs(sigma) * own > 0
    a = np.where(steep[:, None], (bent - b[:, None]) / np.where(steep, sigma, 1.0)[:, None], 0.0)
    a = np.where(np.isfinite(a) & steep[:, None], a, (2.0 * share - 1.0) * own[:, None])
    a = np.sort(np.clip(a, -own[:, None], own[:, None]), axis=1)
    nodes = np.empty((len(reach), pieces + 1))
    order = np.argsort(group, kind="stable")
    for g, rows in enumerate(np.split(order, np.cumsum(np.bincount(group, minlength=len(reach)))[:-1])):
        merged = a[rows[0]] if len(rows) == 1 else np.sort(a[rows], axis=None)
        nodes[g] = merged[np.linspace(0, len(merged) - 1, pieces + 1).round().astype(int)]
    nodes[:, 0], nodes[:, -1] = -reach, reach
    return nodes
