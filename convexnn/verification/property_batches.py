"""Backward linear bounds over many boxes at once: what bisection spends its time on. ReLU and LeakyReLU."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import LeakyReLU, ReLU
from convexnn.network import Network
from convexnn.rigorous import gamma
from convexnn.verification.property_attack import Rows

Array = NDArray[np.float64]
TINY = float(np.finfo(float).tiny)

#: Roundings of one pass beside those of the products, generously.
ROUNDINGS = 48


@dataclass(frozen=True, eq=False)
class Level:
    """A hidden layer over every box: weights, lines and sizes; arrays (boxes, 1, units).

    Attributes
    ----------
    W, b : array, shapes (units, below) and (units,)
    below, extra : array
        Slope of the line below the activation, and how much steeper the one above is.
    height : array
        Of the line above at zero.
    size : array
        Upper bounds on ``|act(s)| + |s| + |W| |h| + |b|``, s the pre-activations, h the inputs.
    image : pair of arrays, shape (boxes, units)
        Bounds on the outputs.
    """

    W: Array
    b: Array
    below: Array
    extra: Array
    height: Array
    size: Array
    image: tuple[Array, Array]

    @classmethod
    def of(cls, W: Array, b: Array, low: Array, high: Array, slope: float, size: Array) -> Level:
        """From bounds (boxes, units) and ``|W| |h| + |b|`` (boxes, units)."""
        ends = np.maximum(low, slope * low), np.maximum(high, slope * high)
        crossing = (low < 0) & (high > 0)
        straight = np.where(high > 0, 1.0, slope)
        chord = (ends[1] - ends[0]) / np.where(crossing, high - low, 1.0)
        below = np.where(crossing, np.where(high > -low, 1.0, slope), straight)
        above = np.where(crossing, chord, straight)
        height = np.where(crossing, np.maximum(ends[0] - above * low, 0.0), 0.0)
        # a product with the slope is rounded; with 1 or 0 it is not
        image = ends
        if slope:
            bottom, top = (np.nextafter(end, way) for end, way in zip(ends, (-np.inf, 0.0), strict=True))
            image = np.where(low < 0, bottom, ends[0]), np.where(high < 0, top, ends[1])
        total = 2.0 * np.maximum(np.abs(low), np.abs(high)) + size
        below, extra, height, total = (array[:, None] for array in (below, above - below, height, total))
        return cls(W, b, below, extra, height, total, image)

    def back(self, A: Array) -> tuple[Array, Array, Array]:
        """``A act(s) <= cost + D s`` up to few roundings of what is returned last: D, cost (boxes, rows), size.

        D is A times the line above where A is positive, which costs its height, else times the line below, which passes
        through zero. All slopes are at most one, so ``|D| <= |A|``.
        """
        positive = np.maximum(A, 0.0)
        cost = (positive @ self.height.swapaxes(1, 2))[..., 0]
        np.multiply(positive, self.extra, out=positive)
        size = (np.abs(A) @ self.size.swapaxes(1, 2))[..., 0]
        return A * self.below + positive, cost, size


@dataclass(frozen=True, eq=False)
class Boxes:
    """Bounds over boxes.

    Attributes
    ----------
    lower, upper : array, shape (boxes, d)
    levels : tuple of Level
    outputs : array, shape (boxes, k)
        Upper bounds on the absolute values of the outputs.
    last : pair of arrays
        Weights and biases of the output layer.
    """

    lower: Array
    upper: Array
    levels: tuple[Level, ...]
    outputs: Array
    last: tuple[Array, Array]

    @staticmethod
    def fit(network: Network) -> bool:
        """Whether the activation is one that is bounded here."""
        return isinstance(network.activation, ReLU | LeakyReLU)

    @classmethod
    def over(cls, network: Network, lower: Array, upper: Array) -> Boxes:
        """Bounds on all layers, each the better of intervals and of a backward pass.

        Parameters
        ----------
        network : Network
        lower, upper : array, shape (boxes, d)
        """
        slope = network.activation.slopes[0]
        levels: list[Level] = []
        image = lower, upper
        with np.errstate(all="ignore"):
            for W, b in network.layers[:-1]:
                size, low, high = _interval(W, b, *image)
                kinked = np.flatnonzero(((low < 0) & (high > 0)).any(axis=0)) if levels else np.arange(0)
                if len(kinked):  # the others are linear on every box already
                    rows, offset = np.vstack([W[kinked], -W[kinked]]), np.concatenate([b[kinked], -b[kinked]])
                    found = _backward(tuple(levels), (lower, upper), rows, offset)
                    low[:, kinked] = np.maximum(low[:, kinked], -found[:, len(kinked) :])
                    high[:, kinked] = np.minimum(high[:, kinked], found[:, : len(kinked)])
                levels.append(Level.of(W, b, low, high, slope, size))
                image = levels[-1].image
            outputs = _interval(*network.layers[-1], *image)[0]
        return cls(lower, upper, tuple(levels), np.nextafter(outputs * (1.0 + 1e-9), np.inf), network.layers[-1])

    def of_combinations(self, rows: Rows, weights: Array) -> Array:
        """Upper bounds on ``max weights (rows f(x) + input_rows x + offset)`` over each box, shape (boxes, p).

        Parameters
        ----------
        rows : Rows
        weights : array, shape (boxes, p, q)
            Any numbers; what rounding changes in the combinations is covered.
        """
        with np.errstate(all="ignore"):
            reach = np.maximum(np.abs(self.lower), np.abs(self.upper))
            sizes = self.outputs @ np.abs(rows.rows).T + reach @ np.abs(rows.input_rows).T + np.abs(rows.offset)
            size = (np.abs(weights) * sizes[:, None]).sum(axis=-1)
            terms = len(rows.offset) + max(rows.rows.shape[1], rows.input_rows.shape[1])
            slack = 4.0 * gamma(terms + 8) * size + TINY * (1.0 + size)
            return self.maximum(weights @ rows.rows, weights @ rows.input_rows, weights @ rows.offset + slack)

    def maximum(self, rows: Array, inner: Array, offset: Array) -> Array:
        """Upper bounds on ``rows f(x) + inner x + offset`` over each box, rounded up, shape (boxes, p).

        Parameters
        ----------
        rows, inner, offset : arrays, shapes (boxes, p, k), (boxes, p, d), (boxes, p)

        Returns
        -------
        array, shape (boxes, p)
            ``inf`` where nothing finite could be computed.
        """
        W, b = self.last
        with np.errstate(all="ignore"):
            size = (np.abs(rows) * self.outputs[:, None]).sum(axis=-1) + np.abs(offset)
            slack = 4.0 * gamma(len(b) + W.shape[1] + 8) * size + TINY * (1.0 + len(b) + W.shape[1])
            return _backward(self.levels, (self.lower, self.upper), rows @ W, rows @ b + offset + slack, inner)


def _interval(W: Array, b: Array, low: Array, high: Array) -> tuple[Array, Array, Array]:
    """``|W| |h| + |b|`` and the interval of ``W h + b``, rounded outward, arrays (boxes, units)."""
    middle = low + 0.5 * (high - low)
    half = np.nextafter(np.maximum(high - middle, middle - low), np.inf)
    size = np.maximum(np.abs(low), np.abs(high)) @ np.abs(W).T + np.abs(b)
    spread = half @ np.abs(W).T + 4.0 * gamma(W.shape[1] + 8) * size + TINY * (1.0 + W.shape[1])
    centre = middle @ W.T + b
    return size, np.nextafter(centre - spread, -np.inf), np.nextafter(centre + spread, np.inf)


def _backward(
    levels: tuple[Level, ...], box: tuple[Array, Array], A: Array, c: Array, inner: Array | None = None
) -> Array:
    """Upper bounds on ``A h + inner x + c`` over every box, h the outputs of the last level, shape (boxes, rows).

    The pass of :func:`convexnn.propagation.backward.upper_bounds`, for many boxes at once.
    """
    A = np.broadcast_to(A, (len(box[0]), *A.shape[-2:]))
    offset, total = np.asarray(c), np.abs(c)
    for level in reversed(levels):
        D, cost, size = level.back(A)
        offset = offset + cost + D @ level.b
        total = total + size + TINY * (1.0 + level.size.sum())
        A = D @ level.W
    A = A if inner is None else A + inner
    widest = max(max(level.W.shape) for level in levels)
    ends = np.where(A > 0, box[1][:, None], box[0][:, None])
    reach = np.maximum(np.abs(box[0]), np.abs(box[1]))
    size = (np.abs(A) @ reach[:, :, None])[..., 0] + np.abs(offset) + total
    if inner is not None:
        size = size + (np.abs(inner) @ reach[:, :, None])[..., 0]
    error = 4.0 * gamma(ROUNDINGS + 2 * widest + A.shape[-1] + 8 * len(levels)) * size + 4.0 * TINY * len(levels)
    found = np.nextafter((A * ends).sum(axis=-1) + offset + error, np.inf)
    return np.where(np.isnan(found), np.inf, found)
