"""Bounds of a network from one price per hidden unit: what every linear relaxation proves, without its solver.

With prices ``nu_i`` for the equations ``s_i = W_i h_{i-1} + b_i`` the layers come apart (docs/theory/relaxations.md):

    max w'f + c  <=  c + w'b_out + sum_i nu_i'b_i + max_x (W_1'nu_1)'x + sum_units max_{l <= s <= u} (a act(s) - nu s)

with ``a = W_{i+1}'nu_{i+1}``, in the last layer ``W_out'w``. The maximum of a unit is at l, 0 or u.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.layer_bounds import LayerBounds, read_bounds
from convexnn.propagation.query import Query
from convexnn.rigorous import gamma

Array = NDArray[np.float64]


def priced_bounds(query: Query, bounds: LayerBounds, prices: Sequence[Array]) -> Array:
    """Rigorous upper bounds on the rows of a query from any prices.

    Implements: convexnn, Proposition 1 of docs/theory/relaxations.md; the dual of Dvijotham et al. (2018) for kinked
    activations, arXiv 1803.06567.

    Parameters
    ----------
    query : Query
        ReLU, LeakyReLU or linear units.
    bounds : LayerBounds
        Valid for the query.
    prices : sequence of arrays, shape (q, units)
        One a hidden layer; any numbers.

    Returns
    -------
    array, shape (q,)
        ``inf`` where the numbers overflow or are nan; ``-inf`` where the bounds say that the set is empty.
    """
    if bounds.empty:
        return np.full(query.n_rows, -np.inf)
    with np.errstate(over="ignore", invalid="ignore"):
        total, size = _priced(query, bounds, prices)
        n = query.network.n_inputs + sum(query.network.n_hidden) + query.network.n_outputs
        found = total + 2.0 * gamma(n + 8) * size + 1e-300
    return np.where(np.isfinite(size) & np.isfinite(found), found, np.inf)


def _priced(query: Query, bounds: LayerBounds, prices: Sequence[Array]) -> tuple[Array, Array]:
    """The bound in float64, errors of products included, and the sum of absolute values of what was added."""
    (W, b), act = query.network.layers[-1], query.network.activation
    incoming = query.weights
    total, size = incoming @ b + query.offset, np.abs(incoming) @ np.abs(b) + np.abs(query.offset)
    for layer in reversed(range(len(prices))):
        a, error = _product(incoming, W)
        low, high, nu = bounds.lower[layer], bounds.upper[layer], prices[layer]
        corners = np.array([low, high, np.clip(0.0, low, high)])
        values = act(corners)
        terms = a * values[:, None, :] - nu * corners[:, None, :]
        largest = np.abs(a) * np.abs(values).max(axis=0) + np.abs(nu) * np.abs(corners).max(axis=0)
        (W, b), incoming = query.network.layers[layer], nu
        total = total + (terms.max(axis=0) + error * np.abs(values).max(axis=0)).sum(axis=1) + nu @ b
        size = size + largest.sum(axis=1) + np.abs(nu) @ np.abs(b)
    a, error = _product(incoming, W)
    low, high = query.inputs.bounding_box()
    reach = np.maximum(np.abs(low), np.abs(high))
    inputs = query.inputs.maximum(a)
    return total + inputs + error @ reach, size + np.abs(inputs) + np.abs(a) @ reach


def _product(left: Array, W: Array) -> tuple[Array, Array]:
    """``left W`` and bounds on the rounding of each entry."""
    size = np.abs(left) @ np.abs(W)
    return left @ W, 2.0 * gamma(len(W) + 4) * size + np.finfo(float).tiny * len(W)


def slope_prices(query: Query, bounds: LayerBounds) -> list[Array]:
    """Prices of the CROWN bound: chords above, the nearer of the two lines below; what is used where a solver fails."""
    leak, found = float(query.network.activation.slopes[0]), []
    incoming = query.weights
    for layer in reversed(range(len(bounds.lower))):
        a = incoming @ query.network.layers[layer + 1][0]
        low, high = bounds.lower[layer], bounds.upper[layer]
        crossing = (low < 0) & (high > 0)
        chord = np.where(crossing, (high - leak * low) / np.where(crossing, high - low, 1.0), 0.0)
        below = np.where(crossing & (high <= -low), leak, 1.0)
        slope = np.where(crossing, np.where(a > 0, chord, below), np.where(low >= 0, 1.0, leak))
        incoming = a * slope
        found.append(incoming)
    return found[::-1]


def price_keys(prices: Sequence[Array]) -> dict[str, Array]:
    """Multiplier of prices, (q, units) a layer: keys ``row{r}/price{layer}``."""
    return {f"row{r}/price{i}": layer[r] for i, layer in enumerate(prices) for r in range(len(layer))}


def check_prices(query: Query, multiplier: Mapping[str, Array]) -> Array:
    """Rigorous upper bounds from a multiplier with prices and, where there is any, evidence for the bounds.

    Parameters
    ----------
    query : Query
    multiplier : mapping of str to array
        ``row{r}/price{layer}`` of shape (units,): any numbers; rows without keys have prices zero, which gives the
        interval bound of the last layer.

    Returns
    -------
    array, shape (q,)
        ``inf`` for wrong shapes and nan.
    """
    bounds = read_bounds(query, multiplier)
    if bounds.empty:
        return np.full(query.n_rows, -np.inf)
    return priced_bounds(query, bounds, read_prices(query, multiplier))


def read_prices(query: Query, multiplier: Mapping[str, Array]) -> list[Array]:
    """Prices (q, units) of every layer from the keys of `price_keys`: zero where missing, nan for wrong shapes."""
    prices = [np.zeros((query.n_rows, units)) for units in query.network.n_hidden]
    for row in range(query.n_rows):
        for layer, units in enumerate(query.network.n_hidden):
            given = np.asarray(multiplier.get(f"row{row}/price{layer}", np.zeros(units)), dtype=np.float64)
            prices[layer][row] = given if given.shape == (units,) else np.nan
    return prices
