"""The certifiers "ibp" and "crown": intervals, and backward linear bounds whose lines are chosen beforehand."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import ACTIVATIONS
from convexnn.propagation.backward import TINY, Choice, upper_bounds
from convexnn.propagation.layer_bounds import LayerBounds, crown_bounds, interval_bounds, next_interval, refined
from convexnn.propagation.lines import image
from convexnn.propagation.query import Certifier, Effort, Evidence, Query
from convexnn.rigorous import gamma

Array = NDArray[np.float64]


def row_bounds(query: Query, bounds: LayerBounds, choice: Choice | None = None) -> Array:
    """Upper bounds on the rows of the query by one backward pass, rounded up, shape (q,).

    Parameters
    ----------
    query : Query
    bounds : LayerBounds
        Rigorous ones; ``-inf`` is the answer where they are empty.
    choice : Choice, optional
        Slopes and tensions of every layer, each (q, units); ANY numbers give a valid bound.
    """
    if bounds.empty:
        return np.full(query.n_rows, -np.inf)
    layers = bounds.layers(query)
    A, c = last_layer(query, layers[-1].reach)
    return upper_bounds(layers, query.inputs, A, c, choice)


def interval_rows(query: Query, bounds: LayerBounds) -> Array:
    """Upper bounds on the rows of the query from the intervals of the last hidden layer, rounded up, shape (q,)."""
    if bounds.empty:
        return np.full(query.n_rows, -np.inf)
    with np.errstate(all="ignore"):
        low, high = image(query.network.activation, bounds.lower[-1], bounds.upper[-1])
    A, c = last_layer(query, np.maximum(np.abs(low), np.abs(high)))
    return next_interval((A, c), low, high)[1]


def last_layer(query: Query, reach: Array) -> tuple[Array, Array]:
    """Rows as forms ``A h + c`` of the last hidden outputs ``|h| <= reach``; c covers the rounding of the products."""
    W, b = query.network.layers[-1]
    with np.errstate(all="ignore"):
        total = np.abs(query.weights) @ (np.abs(W) @ reach + np.abs(b)) + np.abs(query.offset)
        error = 4.0 * gamma(len(b) + len(reach) + 8) * total + TINY * (1.0 + len(b) + reach.sum())
        return query.weights @ W, np.nextafter(query.weights @ b + query.offset + error, np.inf)


def refuse_unknown_activation(query: Query) -> str | None:
    """A sentence where the activation has no lines here."""
    activation = query.network.activation
    if type(activation) in ACTIVATIONS.values():
        return None
    return f"Bound propagation knows {', '.join(sorted(ACTIVATIONS))} units, not {activation.name!r}."


def propose_interval(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> Evidence:
    """Nothing is needed: the check computes the intervals."""
    del query, effort, bounds
    return Evidence("ibp", {})


def check_interval(query: Query, multiplier: Mapping[str, Array]) -> Array:
    """Interval bounds, shape (q,); the multiplier is ignored."""
    del multiplier
    return interval_rows(query, interval_bounds(query))


def propose_crown(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> Evidence:
    """Only the evidence of the bounds, where they have some."""
    del query, effort
    return Evidence("crown", {} if bounds is None else dict(bounds.multiplier))


def check_crown(query: Query, multiplier: Mapping[str, Array]) -> Array:
    """Backward linear bounds, never above intervals, shape (q,); the multiplier may hold evidence for bounds."""
    return checked_rows(query, multiplier)


def checked_rows(query: Query, multiplier: Mapping[str, Array], choice: Choice | None = None) -> Array:
    """The best of intervals, of linear bounds between plain bounds, and of both between those of the evidence.

    Lines that are drawn between better bounds need not be better, and neither need chosen ones: so all are computed.
    """
    bounds = [crown_bounds(query)]
    if any(key.startswith("bounds/") for key in multiplier):
        bounds.append(refined(query, bounds[0], multiplier))
    found = check_interval(query, {})
    for known in bounds:
        found = np.minimum(found, np.minimum(row_bounds(query, known), interval_rows(query, known)))
    return found if choice is None else np.minimum(found, row_bounds(query, bounds[-1], choice))


IBP = Certifier("ibp", propose_interval, check_interval, refuse_unknown_activation)
CROWN = Certifier("crown", propose_crown, check_crown, refuse_unknown_activation)
