"""Checks of evidence in rational numbers: the bounds that a multiplier proves, with no rounding at all.

Every number in a network, a set of inputs and a multiplier is a float64, hence rational; sums, products and comparisons
are exact, square roots and a few divisions are bounded from the safe side by rational numbers. For small networks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import CertificateError
from convexnn.propagation import Query
from convexnn.propagation.alpha_crown import read_choice
from convexnn.verification.exact_bounds import (
    ExactBounds,
    Rule,
    act,
    crown_rule,
    exact_crown,
    exact_intervals,
    interval,
    outputs,
    priced,
    rule_of,
)
from convexnn.verification.exact_numbers import Rationals, floats_up
from convexnn.verification.exact_sdp import exact_sdp

Array = NDArray[np.float64]
Multiplier = Mapping[str, Array]

#: (query, multiplier) -> rational bounds (q,), or None when no input of the set has the signs of the query.
ExactCheck = Callable[[Query, Multiplier], Rationals | None]


def exact_values(query: Query, method: str, multiplier: Multiplier) -> Rationals | None:
    """Rational upper bounds (q,) on the rows of the query that this multiplier proves; None where the set is empty.

    Raises
    ------
    CertificateError
        When the method has no exact check, or it does not apply to the activation.
    """
    if method not in EXACT:
        raise CertificateError(f"There is no exact check of {method!r}; there is one of {sorted(EXACT)}.")
    return EXACT[method](query, multiplier)


def exact_bounds(query: Query, method: str, multiplier: Multiplier) -> Array:
    """:func:`exact_values` rounded up to float64, ``-inf`` where the set is empty."""
    found = exact_values(query, method, multiplier)
    return np.full(query.n_rows, -np.inf) if found is None else floats_up(found)


def _ibp(query: Query, multiplier: Multiplier) -> Rationals | None:
    """Intervals to the end; the last layer is bounded row by row."""
    del multiplier
    bounds = exact_intervals(query)
    return None if bounds.empty else _last_interval(bounds)


def _last_interval(bounds: ExactBounds) -> Rationals:
    activation = bounds.query.network.activation
    A, c = outputs(bounds.query)
    return interval(A, c, act(activation, bounds.lower[-1]), act(activation, bounds.upper[-1]))[1]


def _lp(query: Query, multiplier: Multiplier) -> Rationals | None:
    """Prices under ``row{r}/price{layer}``, zero where they are missing (see `check_prices`)."""
    bounds = exact_crown(query)
    if bounds.empty:
        return None
    shapes = [(query.n_rows, m) for m in query.network.n_hidden]
    prices = [
        np.array([vector(multiplier, f"row{row}/price{k}", units) for row in range(rows)])
        for k, (rows, units) in enumerate(shapes)
    ]
    return priced(bounds, *outputs(query), lambda k, _: prices[k])


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
    """The least of intervals, of backward linear bounds, and of intervals between these (see `checked_rows`)."""
    del multiplier
    bounds = exact_crown(query)
    return None if bounds.empty else _least(bounds, crown_rule(bounds))


def _alpha_crown(query: Query, multiplier: Multiplier) -> Rationals | None:
    """The same and backward linear bounds with the slopes and tensions of the multiplier (see `check_slopes`)."""
    bounds = exact_crown(query)
    if bounds.empty:
        return None
    choice = read_choice(query, multiplier)
    with np.errstate(all="ignore"):
        chosen = rule_of(bounds.rounded().layers(query), choice.shares, choice.tensions)
    return np.asarray(np.minimum(_least(bounds, crown_rule(bounds)), priced(bounds, *outputs(query), chosen)))


def _least(bounds: ExactBounds, rule: Rule) -> Rationals:
    query = bounds.query
    found = np.minimum(_last_interval(exact_intervals(query)), _last_interval(bounds))
    return np.asarray(np.minimum(found, priced(bounds, *outputs(query), rule)))


EXACT: dict[str, ExactCheck] = {"ibp": _ibp, "crown": _crown, "alpha_crown": _alpha_crown, "lp": _lp, "sdp": exact_sdp}
