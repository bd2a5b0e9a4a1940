"""The certifier "alpha_crown": backward linear bounds with optimized slopes, and tensions for the signs of a query."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.backward import Choice
from convexnn.propagation.crown import checked_rows, last_layer, refuse_unknown_activation
from convexnn.propagation.layer_bounds import LayerBounds, checked_shape
from convexnn.propagation.optimized_bounds import optimized_bounds
from convexnn.propagation.query import Certifier, Effort, Evidence, Query
from convexnn.propagation.slope_descent import descend
from convexnn.propagation.slopes import SlopeProblem

Array = NDArray[np.float64]

#: Steps on the slopes when the effort says nothing: within a few thousandths of the best slopes.
STEPS = 100


def propose_slopes(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> Evidence:
    """Slopes of all layers for every row, and tensions where the query has signs, by projected descent.

    Parameters
    ----------
    query : Query
    effort : Effort
        ``max_iter`` steps; a row rests once it is below ``stop_below``, the descent ends when all rows are, when an
        input is found at which a row is not, at the deadline, or when steps do not help any more.
    bounds : LayerBounds, optional
        Default :func:`optimized_bounds`.
    """
    known = optimized_bounds(query, effort) if bounds is None else bounds
    if known.empty:
        return Evidence("alpha_crown", dict(known.multiplier), "optimal")
    layers = known.layers(query)
    A, c = last_layer(query, layers[-1].reach)
    found = descend(SlopeProblem(layers, query.inputs, A, c), query.signs, effort, STEPS, query.values)
    return Evidence(
        "alpha_crown",
        {**known.multiplier, **_as_multiplier(found.choice(query.network.n_hidden))},
        found.status,
        found.iterations,
        found.points,
    )


def check_slopes(query: Query, multiplier: Mapping[str, Array]) -> Array:
    """Upper bounds on the rows from ANY slopes and tensions, never above CROWN, rounded up, shape (q,).

    Slopes are moved into [0, 1]; nan and missing ones stand for those that are good for all; tensions that are not
    finite count as zero.

    Implements: Wang et al. (2021), Theorem 3.1, linear bounds with any slopes and any multipliers of signs.

    Parameters
    ----------
    query : Query
    multiplier : mapping
        ``"row{r}/slopes/{k}"`` and ``"row{r}/tension/{k}"`` of shape (units,) for row r and hidden layer k, and
        evidence for bounds.

    Raises
    ------
    CertificateError
        For arrays of wrong shapes.
    """
    return checked_rows(query, multiplier, read_choice(query, multiplier))


def read_choice(query: Query, multiplier: Mapping[str, Array]) -> Choice:
    """Slopes and tensions of all rows from a multiplier; missing ones are nan and zero."""
    shares = [_gather(query, multiplier, "slopes", k) for k in range(len(query.network.n_hidden))]
    tensions = [_gather(query, multiplier, "tension", k) for k in range(len(query.network.n_hidden))]
    zeros = [np.where(np.isfinite(tension), tension, 0.0) for tension in tensions]
    return Choice([np.clip(share, 0.0, 1.0) for share in shares], [zero if zero.any() else None for zero in zeros])


def _gather(query: Query, multiplier: Mapping[str, Array], kind: str, k: int) -> Array:
    units = query.network.n_hidden[k]
    found = np.full((query.n_rows, units), np.nan)
    for r in range(query.n_rows):
        key = f"row{r}/{kind}/{k}"
        if key in multiplier:
            found[r] = checked_shape(multiplier[key], key, (units,))
    return found


def _as_multiplier(choice: Choice) -> dict[str, Array]:
    arrays = {f"slopes/{k}": values for k, values in enumerate(choice.shares)}
    arrays |= {f"tension/{k}": values for k, values in enumerate(choice.tensions)}
    return {
        f"row{r}/{key}": row for key, values in arrays.items() if values is not None for r, row in enumerate(values)
    }


ALPHA_CROWN = Certifier("alpha_crown", propose_slopes, check_slopes, refuse_unknown_activation)
