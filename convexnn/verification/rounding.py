"""How far float64 margins can be from those of the real-valued network, over a whole threat set."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Polynomial
from convexnn.certificates.regression import evaluation_error, largest_size
from convexnn.network import Network
from convexnn.propagation import Query
from convexnn.rigorous import gamma
from convexnn.threats import Threat

Array = NDArray[np.float64]


def margin_rounding(query: Query, x: Array, threat: Threat) -> Array:
    """Upper bounds (q,) on ``|computed - exact|`` of every row of a query, anywhere in the threat set of x (d,).

    The computed outputs may come from any order of summation. A difference of two floats has the right sign, so a row
    whose bound is below minus this number is negative in float64 as well.
    """
    size, rule = largest_size(x[None], threat), evaluation_error
    if isinstance(query.network.activation, Polynomial):
        rule = _polynomial_error
    with np.errstate(over="ignore", invalid="ignore"):
        outputs = rule(query.network, size)[0]
        found = (np.abs(query.weights) @ outputs) * (1.0 + 4.0 * gamma(query.weights.shape[1] + 4))
    return np.where(np.isnan(found), np.inf, found)


def _polynomial_error(network: Network, size: Array) -> Array:
    """The same as :func:`evaluation_error` for polynomial activations, whose slope grows with their argument."""
    a, b, c = np.abs(np.asarray(network.activation.parameters, dtype=float))
    error = np.zeros_like(size)
    *hidden, (V, offset) = network.layers
    for W, bias in hidden:
        total = size @ np.abs(W).T + np.abs(bias)
        moved = error @ np.abs(W).T + gamma(W.shape[1] + 2) * total
        reach = total + moved
        value = (a * reach + b) * reach + c
        error = (2.0 * a * reach + b) * moved + gamma(12) * value
        size = value + error
    total = size @ np.abs(V).T + np.abs(offset)
    found: Array = error @ np.abs(V).T + gamma(V.shape[1] + 2) * total
    return 1.01 * found
