"""Prices of the linear relaxation for rows whose semidefinite bound might be above it: the better of both is proved."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import ConvexNNError
from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.arrow.evidence import has_relaxation
from convexnn.relaxations.arrow.targets import QueryResult, count_unstable
from convexnn.relaxations.linear import propose_lp
from convexnn.relaxations.prices import slope_prices

Array = NDArray[np.float64]
#: Relative room for rounding where a pre-activation is compared with its bounds.
ROOM = 1e-9


def linear_prices(query: Query, bounds: LayerBounds, effort: Effort, result: QueryResult) -> dict[str, Array]:
    """Keys ``row{r}/price{layer}`` of the rows whose bound is not clearly below the linear relaxation.

    Where one is in doubt all rows are solved as "lp" does, so that the prices are the ones that "lp" finds. Rows below
    the target, and those that cannot get there, are left alone.

    Parameters
    ----------
    query : Query
    bounds : LayerBounds
    effort : Effort
    result : QueryResult
        Semidefinite bounds.
    """
    if bounds.empty or effort.out_of_time() or not has_relaxation(query, bounds):
        return {}
    if not count_unstable(query, bounds) and query.signs is None:  # one affine function: both are exact
        return {}
    found = result.bounds
    wanted = np.array([row.status not in ("below", "hopeless", "skipped") for row in result.rows])
    with np.errstate(all="ignore"):  # values that overflow are no values
        doubtful = wanted & ~(found <= triangle_values(query, bounds))
        if not doubtful.any():
            return {}
        try:
            evidence = propose_lp(query, effort, bounds)
        except ConvexNNError:  # the semidefinite bound stands without it
            return {}
    rows = {f"row{row}" for row in np.flatnonzero(doubtful)}
    return {key: value for key, value in evidence.multiplier.items() if key.partition("/")[0] in rows}


def triangle_values(query: Query, bounds: LayerBounds) -> Array:
    """Values that the triangle relaxation attains, shape (q,); ``-inf`` where this simple point is not feasible.

    The input that is worst for the backward linear bounds, and every unit at the side of its triangle that they take.

    Implements: convexnn, Proposition 4 of docs/theory/arrow_sdp.md.

    Parameters
    ----------
    query : Query
    bounds : LayerBounds
        Signs of the query are in them.
    """
    layers, activation = query.network.layers, query.network.activation
    prices = slope_prices(query, bounds)
    hidden = query.inputs.maximizer(prices[0] @ layers[0][0])
    feasible = np.isfinite(hidden).all(axis=1)
    for k, (low, high) in enumerate(zip(bounds.lower, bounds.upper, strict=True)):
        s = hidden @ layers[k][0].T + layers[k][1]
        room = ROOM * (high - low + np.abs(high) + np.abs(low))
        feasible &= ((s >= low - room) & (s <= high + room)).all(axis=1)
        wanted = (prices[k + 1] if k + 1 < len(prices) else query.weights) @ layers[k + 1][0]
        crossing = (low < 0) & (high > 0)
        low_end, high_end = activation(low), activation(high)
        slope = (high_end - low_end) / np.where(crossing, high - low, 1.0)
        hidden = np.where(crossing & (wanted > 0), low_end + slope * (s - low), activation(s))
    W, b = layers[-1]
    values = (hidden * (query.weights @ W)).sum(axis=1) + query.weights @ b + query.offset
    return np.where(feasible, values, -np.inf)
