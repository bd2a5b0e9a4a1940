"""The exact checks of the methods, one function each: what `convexnn.verification.exact` looks up by name."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError
from convexnn.propagation import LayerBounds, Query, read_bounds
from convexnn.propagation.alpha_crown import read_choice
from convexnn.propagation.backward import Choice
from convexnn.verification.exact_bounds import (
    ExactBounds,
    act,
    chosen_rule,
    crown_rule,
    exact_crown,
    exact_intervals,
    interval,
    outputs,
    priced,
)
from convexnn.verification.exact_numbers import Rationals
from convexnn.verification.exact_refined import exact_read
from convexnn.verification.exact_sdp import sdp_between

Array = NDArray[np.float64]
Multiplier = Mapping[str, Array]

#: (query, multiplier) -> rational bounds (q,), or None when no input of the set has the signs of the query.
ExactCheck = Callable[[Query, Multiplier], Rationals | None]
#: The same between bounds that are known, with the bounds in float64 by which multipliers are laid out.
Between = Callable[[Query, Multiplier, ExactBounds, LayerBounds], Rationals]


def _ibp(query: Query, multiplier: Multiplier) -> Rationals | None:
    """Intervals to the end; the last layer is bounded row by row."""
    del multiplier
    bounds = exact_intervals(query)
    return None if bounds.empty else _last_interval(bounds)


def _last_interval(bounds: ExactBounds) -> Rationals:
    activation = bounds.query.network.activation
    A, c = outputs(bounds.query)
    return interval(A, c, act(activation, bounds.lower[-1]), act(activation, bounds.upper[-1]))[1]


def _lp_between(query: Query, multiplier: Multiplier, bounds: ExactBounds, layout: LayerBounds) -> Rationals:
    """Prices under ``row{r}/price{layer}``, zero where they are missing (see `check_prices`)."""
    del layout
    shapes = [(query.n_rows, m) for m in query.network.n_hidden]
    prices = [
        np.array([vector(multiplier, f"row{row}/price{k}", units) for row in range(rows)])
        for k, (rows, units) in enumerate(shapes)
    ]
    return priced(bounds, *outputs(query), lambda k, _: prices[k])


def _read(method: str) -> ExactCheck:
    """The check of a method between the bounds that its multiplier proves."""

    def check(query: Query, multiplier: Multiplier) -> Rationals | None:
        bounds = exact_read(query, multiplier)
        if bounds.empty:
            return None
        return KNOWN_CHECKS[method](query, multiplier, bounds, read_bounds(query, multiplier))

    return check


def vector(multiplier: Multiplier, key: str, length: int) -> Array:
    """The array of a key, shape (length,); zeros where it is missing.

    Raises
    ------
    CertificateError
        When it has another shape.
    """
    values = np.asarray(multiplier.get(key, np.zeros(length)), dtype=np.float64)
    if values.shape != (length,):
        raise CertificateError(f"The multiplier {key!r} must have shape ({length},), got {values.shape}.")
    return values


def _crown(query: Query, multiplier: Multiplier) -> Rationals | None:
    """The least of intervals and of backward linear bounds, between plain bounds and those of the evidence."""
    return _checked_rows(query, multiplier)


def _alpha_crown(query: Query, multiplier: Multiplier) -> Rationals | None:
    """The same and backward linear bounds with the slopes and tensions of the multiplier (see `check_slopes`)."""
    return _checked_rows(query, multiplier, read_choice(query, multiplier))


def _checked_rows(query: Query, multiplier: Multiplier, choice: Choice | None = None) -> Rationals | None:
    """See `convexnn.propagation.crown.checked_rows`: all that is known to be a bound, the least of it."""
    plain, better = exact_crown(query), exact_read(query, multiplier)
    if better.empty:
        return None
    found = _last_interval(exact_intervals(query))
    for bounds in (plain, better):
        found = np.minimum(found, _last_interval(bounds))
        found = np.minimum(found, priced(bounds, *outputs(query), crown_rule(bounds)))
    if choice is not None:
        found = np.minimum(found, priced(better, *outputs(query), chosen_rule(better, choice)))
    return np.asarray(found)


KNOWN_CHECKS: dict[str, Between] = {"lp": _lp_between, "sdp": sdp_between}
METHOD_CHECKS: dict[str, ExactCheck] = {
    "ibp": _ibp,
    "crown": _crown,
    "alpha_crown": _alpha_crown,
    "lp": _read("lp"),
    "sdp": _read("sdp"),
}
