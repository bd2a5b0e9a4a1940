"""Linear forms of a hidden layer bounded over the input set, by going back through the layers (CROWN)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation
from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.lines import ROUNDINGS, Lines, image, lines_of, price, size
from convexnn.rigorous import gamma

Array = NDArray[np.float64]
Index = NDArray[np.intp]
TINY = float(np.finfo(float).tiny)


@dataclass(frozen=True, eq=False)
class Layer:
    """A hidden layer with bounds on its pre-activations: weights, lines, and how large its numbers get.

    Attributes
    ----------
    W, b : array, shapes (units, below) and (units,)
    activation : Activation
    lower, upper : array, shape (units,)
        Of the pre-activations; ordered.
    lines : Lines
    sizes : pair of arrays (units,)
        What roundings are relative to: the numbers met in ``act(s)``, and ``|s| + |W| |h| + |b|`` over the inputs h.
    extent : float
        One plus the sum of the absolute values of all inputs, pre-activations and outputs: for underflow.
    """

    W: Array
    b: Array
    activation: Activation
    lower: Array
    upper: Array
    lines: Lines
    sizes: tuple[Array, Array]
    extent: float

    @classmethod
    def of(cls, network: Network, k: int, lower: Array, upper: Array, reach: Array) -> Layer:
        """Hidden layer k with bounds (put in order); reach (below,) bounds the absolute values of its inputs."""
        W, b = network.layers[k]
        low, high = np.minimum(lower, upper), np.maximum(lower, upper)
        farthest = np.maximum(np.abs(low), np.abs(high))
        with np.errstate(all="ignore"):
            sizes = (size(network.activation, farthest), farthest + np.abs(W) @ reach + np.abs(b))
            extent = 1.0 + float(reach.sum() + farthest.sum() + sizes[0].sum())
            return cls(W, b, network.activation, low, high, lines_of(network.activation, low, high), sizes, extent)

    def part(self, units: Index, below: Index | None) -> Layer:
        """Some of the units, on some of the units of the layer below."""
        first, second = self.sizes
        W = self.W[units] if below is None else self.W[np.ix_(units, below)]
        arrays = (self.b[units], self.activation, self.lower[units], self.upper[units])
        return Layer(W, *arrays, self.lines.part(units), (first[units], second[units]), self.extent)

    @property
    def reach(self) -> Array:
        """Upper bounds on the absolute values of the outputs, shape (units,)."""
        with np.errstate(all="ignore"):
            low, high = image(self.activation, self.lower, self.upper)
        return np.maximum(np.abs(low), np.abs(high))

    def slopes(self, A: Array, shares: Array | None = None) -> Array:
        """Slope of the line of every unit, shape (q, units): above where its weight A is positive, else below.

        shares (q, units) in [0, 1] choose within the ranges; without them, and where they are nan, the slopes that are
        good for all.
        """
        lines = self.lines
        usual = np.where(A > 0, lines.above, lines.below)
        if shares is None:
            return usual
        first = np.where(A > 0, lines.above_range[0], lines.below_range[0])
        return np.where(np.isnan(shares), usual, first + shares * self.widths(A))

    def widths(self, A: Array) -> Array:
        """Lengths of the ranges of slopes, shape (q, units)."""
        (first, last), (first_below, last_below) = self.lines.above_range, self.lines.below_range
        return np.where(A > 0, last - first, last_below - first_below)

    def shares(self, A: Array) -> Array:
        """Shares that give the slopes that are good for all, shape (q, units)."""
        lines, widths = self.lines, self.widths(A)
        offset = np.where(A > 0, lines.above - lines.above_range[0], lines.below - lines.below_range[0])
        return np.where(widths > 0, np.clip(offset / np.where(widths > 0, widths, 1.0), 0.0, 1.0), 0.0)


@dataclass(frozen=True, eq=False)
class Choice:
    """Free numbers of a backward pass, one pair of arrays a layer, each (q, units) or None; ANY numbers are valid.

    Attributes
    ----------
    shares : sequence
        Positions in [0, 1] of the slopes in their ranges.
    tensions : sequence
        Added to the weights of the pre-activations: multipliers of signs.
    """

    shares: Sequence[Array | None]
    tensions: Sequence[Array | None]

    @classmethod
    def none(cls, n_layers: int) -> Choice:
        """Slopes that are good for all."""
        return cls((None,) * n_layers, (None,) * n_layers)


def upper_bounds(layers: Sequence[Layer], inputs: InputSet, A: Array, c: Array, choice: Choice | None = None) -> Array:
    """Upper bounds on ``A h + c`` over the input set, h the outputs of the last of the layers, rounded up.

    The weight of a unit on its pre-activation may be any number D, at the price ``max {A act(s) - D s}`` over its
    bounds; what the rounded products differ from the true ones is bounded with the largest absolute values.

    Implements: Zhang et al. (2018), CROWN, Theorem 3.2.

    Parameters
    ----------
    layers : sequence of Layer
        Hidden layers from the first on.
    inputs : InputSet
    A : array, shape (q, units)
    c : array, shape (q,)
    choice : Choice, optional

    Returns
    -------
    array, shape (q,)
        ``inf`` where nothing finite could be computed.
    """
    given = Choice.none(len(layers)) if choice is None else choice
    with np.errstate(all="ignore"):
        offset, total = np.asarray(c, dtype=np.float64), np.abs(c)  # the total bounds what roundings are relative to
        for k in range(len(layers) - 1, -1, -1):
            layer, shares, tension = layers[k], given.shares[k], given.tensions[k]
            D = A * layer.slopes(A, shares)
            D = D if tension is None else D + tension
            costs, _ = price(layer.activation, A, D, layer.lower, layer.upper)
            offset = offset + costs.sum(axis=1) + D @ layer.b
            total = total + np.abs(A) @ layer.sizes[0] + np.abs(D) @ layer.sizes[1]
            A = _product(D, layer.W)
        widest = max(max(layer.W.shape) for layer in layers)
        error = 4.0 * gamma(ROUNDINGS + 2 * widest + 8 * len(layers)) * total
        error = error + TINY * sum(layer.extent for layer in layers)  # products that underflow
        found = inputs.maximum(A, offset + error)
    return np.where(np.isnan(found), np.inf, found)


def _product(D: Array, W: Array) -> Array:
    """``D @ W`` without the columns of D that are zero: dead units."""
    live = np.flatnonzero(D.any(axis=0))
    return np.asarray(D @ W if 4 * len(live) > 3 * len(W) else D[:, live] @ W[live])
