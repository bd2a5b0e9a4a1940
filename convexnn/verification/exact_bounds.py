"""Bounds of networks over sets of inputs in rational numbers: intervals, and one price per unit (CROWN, the triangle).

With a number D for every hidden unit the layers of a network come apart: a unit that enters with the weight A and hands
on the weight D costs ``max {A act(s) - D s : l <= s <= u}``. The numbers are float64, from a rule or from a multiplier;
everything else is computed without rounding, so whatever they are, the bound holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation, Identity, LeakyReLU, ReLU
from convexnn.exceptions import CertificateError
from convexnn.propagation import LayerBounds, Query
from convexnn.propagation.backward import Choice, Layer
from convexnn.verification.exact_numbers import Rationals, floats_down, floats_up, rational, rationals
from convexnn.verification.exact_sets import extent, maximum

Array = NDArray[np.float64]
Index = NDArray[np.intp]

#: The number D of every unit, (q, units) in float64, from its layer and the weights A (q, units), rounded.
Rule = Callable[[int, Array], Array]


@dataclass(frozen=True, eq=False)
class ExactBounds:
    """Rational bounds of all pre-activations over the set of a query, with its signs.

    Attributes
    ----------
    query : Query
    lower, upper : tuple of rational arrays (units,)
        One pair a hidden layer; crossed where no input has the signs.
    """

    query: Query
    lower: tuple[Rationals, ...] = ()
    upper: tuple[Rationals, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether no input of the set has the signs: every bound is ``-inf`` then."""
        return any((low > high).any() for low, high in zip(self.lower, self.upper, strict=True))

    def rounded(self) -> LayerBounds:
        """The same in float64, rounded outward."""
        lower, upper = (tuple(map(down, ends)) for down, ends in ((floats_down, self.lower), (floats_up, self.upper)))
        return LayerBounds(lower, upper)

    def intersect(self, other: ExactBounds) -> ExactBounds:
        """The better of both; the other ones hold on a set that contains this one."""
        lower = tuple(np.maximum(a, b) for a, b in zip(self.lower, other.lower, strict=True))
        return ExactBounds(self.query, lower, tuple(map(np.minimum, self.upper, other.upper)))

    def below(self, k: int) -> ExactBounds:
        """Those of the first k hidden layers."""
        return ExactBounds(self.query, self.lower[:k], self.upper[:k])

    def with_values(self, k: int, sign: int, units: Index, values: Rationals) -> ExactBounds:
        """With upper bounds on ``sign * s`` of some units of layer k worked in."""
        side = [*(self.upper if sign > 0 else self.lower)]
        side[k] = side[k].copy()
        better = np.minimum if sign > 0 else np.maximum
        side[k][units] = better(side[k][units], values if sign > 0 else -values)
        return (
            ExactBounds(self.query, self.lower, tuple(side))
            if sign > 0
            else ExactBounds(self.query, tuple(side), self.upper)
        )

    def and_layer(self, lower: Rationals, upper: Rationals) -> ExactBounds:
        """With the bounds of the next layer."""
        return ExactBounds(self.query, (*self.lower, lower), (*self.upper, upper))


def require_kinked(activation: Activation) -> None:
    """Refuse activations whose values are not rational."""
    if not isinstance(activation, ReLU | LeakyReLU | Identity):
        raise CertificateError(
            f"Exact checks are for ReLU, LeakyReLU and linear units, not for {activation.name!r}; check in float64."
        )


def act(activation: Activation, s: Rationals) -> Rationals:
    """``max(s, slope s)`` exactly, same shape."""
    leak = rational(float(activation.slopes[0]))
    return np.where(s >= 0, s, leak * s)


def exact_intervals(query: Query) -> ExactBounds:
    """Interval arithmetic from layer to layer (see `interval_bounds`), without rounding."""
    return _forward(query, linear=False)


def exact_crown(query: Query) -> ExactBounds:
    """The bounds of `crown_bounds` without rounding: its slopes, chosen in float64, with exact prices."""
    return _forward(query, linear=True)


def _forward(query: Query, *, linear: bool) -> ExactBounds:
    require_kinked(query.network.activation)
    found = ExactBounds(query)
    box = extent(query.inputs)
    for k, (W, b) in enumerate(query.network.layers[:-1]):
        weights, bias = rationals(W), rationals(b)
        if k == 0:
            lower, upper = -maximum(query.inputs, -weights, -bias), maximum(query.inputs, weights, bias)
        else:
            lower, upper = interval(weights, bias, *box)
        if k and linear:
            both = np.vstack([W, -W]), np.concatenate([bias, -bias])
            values = priced(found, rationals(both[0]), both[1], crown_rule(found))
            lower, upper = np.maximum(lower, -values[len(b) :]), np.minimum(upper, values[: len(b)])
        lower, upper = _with_signs(query, k, lower, upper)
        found = found.and_layer(lower, upper)
        box = tuple(act(query.network.activation, end) for end in (np.minimum(lower, upper), np.maximum(lower, upper)))  # type: ignore[assignment]
    return found


def interval(W: Rationals, b: Rationals, low: Rationals, high: Rationals) -> tuple[Rationals, Rationals]:
    """Interval of ``W h + b`` for ``low <= h <= high``, shapes (units,)."""
    positive = W > 0
    upper = (W * np.where(positive, high, low)).sum(axis=1) + b
    lower = (W * np.where(positive, low, high)).sum(axis=1) + b
    return lower, upper


def _with_signs(query: Query, k: int, lower: Rationals, upper: Rationals) -> tuple[Rationals, Rationals]:
    if query.signs is None:
        return lower, upper
    sign, zero = np.asarray(query.signs[k]), rational(0)
    return np.where(sign > 0, np.maximum(lower, zero), lower), np.where(sign < 0, np.minimum(upper, zero), upper)


def crown_rule(bounds: ExactBounds) -> Rule:
    """The slopes of CROWN (see `Layer.slopes`) times the weights, in float64."""
    return chosen_rule(bounds, Choice.none(len(bounds.lower)))


def chosen_rule(bounds: ExactBounds, choice: Choice) -> Rule:
    """Slopes at given shares of their ranges times the weights, plus tensions, in float64."""
    with np.errstate(all="ignore"):
        return _rule(bounds.rounded().layers(bounds.query, len(bounds.lower)), choice)


def _rule(layers: Sequence[Layer], choice: Choice) -> Rule:
    def numbers(k: int, A: Array) -> Array:
        D, tension = A * layers[k].slopes(A, choice.shares[k]), choice.tensions[k]
        return D if tension is None else D + tension

    return numbers


def priced(bounds: ExactBounds, A: Rationals, c: Rationals, rule: Rule) -> Rationals:
    """Upper bounds on ``A h + c`` over the set, h the outputs of the last layer that has bounds.

    Implements: convexnn, Proposition 1 of docs/theory/rigor.md; Zhang et al. (2018), CROWN, Theorem 3.2.

    Parameters
    ----------
    bounds : ExactBounds
        Valid and not crossed.
    A : rational array, shape (q, units)
    c : rational array, shape (q,)
    rule : callable (layer, A in float64) -> (q, units)
        ANY finite numbers give a valid bound; nan and inf are replaced by zero, which is the interval bound.

    Returns
    -------
    rational array, shape (q,)
    """
    query = bounds.query
    for k in range(len(bounds.lower) - 1, -1, -1):
        with np.errstate(all="ignore"):
            chosen = np.asarray(rule(k, floats_up(A)), dtype=np.float64)
        D = rationals(np.where(np.isfinite(chosen), chosen, 0.0))
        W, b = query.network.layers[k]
        costs = unit_costs(query.network.activation, A, D, bounds.lower[k], bounds.upper[k])
        c = c + costs.sum(axis=1) + D @ rationals(b)
        A = D @ rationals(W)
    return maximum(query.inputs, A, c)


def unit_costs(activation: Activation, A: Rationals, D: Rationals, lower: Rationals, upper: Rationals) -> Rationals:
    """``max {A act(s) - D s : lower <= s <= upper}`` of piecewise linear units, shape (q, units)."""
    zero = rational(0)
    low, high = np.minimum(lower, upper), np.maximum(lower, upper)
    corners = (low, high, np.minimum(np.maximum(low, zero), high))
    values = [A * act(activation, s) - D * s for s in corners]
    return np.asarray(np.maximum(np.maximum(values[0], values[1]), values[2]))


def outputs(query: Query) -> tuple[Rationals, Rationals]:
    """The rows of the query over the last hidden layer: ``A h + c``, shapes (q, units) and (q,)."""
    W, b = query.network.layers[-1]
    weights = rationals(query.weights)
    return weights @ rationals(W), weights @ rationals(b) + rationals(query.offset)
