"""A network in the unit variable of a region, and what the rounding of its first layer can change."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Polynomial
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.query import Query
from convexnn.regions.paired import parallel_groups
from convexnn.regions.region import BALL, Region
from convexnn.regions.ridges import Units, reach_up
from convexnn.rigorous import TINY, UNIT, gamma, sum_up

Array = NDArray[np.float64]


def folded_layer(network: Network, region: Region) -> tuple[Array, Array, Array]:
    """First layer ``W axes``, ``W center + b`` in float64, and how far its values can be from the exact ones (h,)."""
    W, b = network.layers[0]
    weights, biases = region.first_layer(W, b)
    axes = np.abs(region.axes)
    size = np.abs(W) * axes if axes.ndim == 1 else np.abs(W) @ axes
    reached = (W != 0) * (axes != 0) if axes.ndim == 1 else (W != 0).astype(float) @ (axes != 0)  # products may vanish
    used = bool((region.axes != (1.0 if axes.ndim == 1 else np.eye(*axes.shape))).any())
    terms = 2.0 * gamma((1 if axes.ndim == 1 else W.shape[1]) + 4)
    missed = reach_up(terms * size + TINY * (reached > 0), region.kind) * used
    moved = region.center.any()
    shift = 2.0 * gamma(W.shape[1] + 4) * (np.abs(W) @ np.abs(region.center) + np.abs(b)) + TINY * (W != 0).any(axis=1)
    return weights, biases, np.asarray((missed + shift * moved) * (1.0 + 8.0 * UNIT))


def folded_units(network: Network, region: Region, output: Array, groups: NDArray[np.intp] | None) -> Units:
    """The shallow network ``output'f`` in the unit variable, as :class:`Units` that cover the rounding of folding.

    Parameters
    ----------
    network : Network
        One hidden layer.
    region : Region
    output : array, shape (k,)
        Weights of the outputs.
    groups : array of int, shape (h,), or None
        By default units with parallel weights form a group.
    """
    weights, biases, error = folded_layer(network, region)
    V, v = network.layers[-1]
    outer, offset = output @ V, float(output @ v)
    if np.count_nonzero(output) > 1 or not np.isin(output, (-1.0, 0.0, 1.0)).all():
        if isinstance(network.activation, Polynomial):
            raise InvalidInputError("For polynomial units the statement is about one output.")
        rounding = 2.0 * gamma(len(output) + 4)
        largest = reach_up(weights, region.kind) + np.abs(biases) + error
        sizes = rounding * (np.abs(output) @ np.abs(V)) * largest
        offset = sum_up([offset, rounding * float(np.abs(output) @ np.abs(v)), *(sizes * (1.0 + 8.0 * UNIT))])
    chosen = parallel_groups(weights) if groups is None else groups
    return Units(weights, biases, outer, offset, region.kind, network.activation, error, chosen)


def folded_query(network: Network, region: Region, output: Array) -> tuple[Query, float]:
    """The question about ``output'f`` in the unit variable, and what folding can have changed at the output."""
    weights, biases, error = folded_layer(network, region)
    folded = Network(((weights, biases), *network.layers[1:]), network.activation)
    r = weights.shape[1]
    if region.kind == BALL:
        inputs = InputSet(np.full(r, -np.inf), np.full(r, np.inf), np.zeros(r), 1.0)
    else:
        inputs = InputSet.box(-np.ones(r), np.ones(r))
    steep = max(abs(s) for s in network.activation.slopes)
    reached, changed = error, 0.0
    for W, _ in network.layers[1:]:
        with np.errstate(all="ignore"):
            reached = (
                (np.abs(W) @ (steep * reached)) * (1.0 + 2.0 * gamma(W.shape[1] + 8)) + TINY
                if reached.any()
                else reached[:1]
            )
    changed = float(np.abs(output) @ np.broadcast_to(reached, output.shape)) * (1.0 + 2.0 * gamma(len(output) + 8))
    return Query(folded, inputs, output[None], np.zeros(1)), changed if np.isfinite(changed) else np.inf
