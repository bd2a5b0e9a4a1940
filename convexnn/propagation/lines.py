"""Lines above and below an activation on an interval, and the price of any line: what backward linear bounds need.

A unit enters a linear form with a weight ``A``; the form is moved to the input of the unit with a weight ``D``. For ANY
number ``D`` this costs at most ``max {A act(s) - D s : l <= s <= u}``, which is computed here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation, Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh

Array = NDArray[np.float64]

#: Roundings that cover one value of an activation, its slope, and the line through it (elementary functions: 8 ulp).
ROUNDINGS = 128
#: Bisections for tangents through a point of the curve; a slope that is a little off only loosens the bound.
BISECTIONS = 26


@dataclass(frozen=True, eq=False)
class Lines:
    """Slopes of lines above and below an activation, one pair a unit; all arrays (units,).

    Attributes
    ----------
    above, below : array
        Slopes that are good without knowing the rest of the network.
    above_range, below_range : pair of arrays
        Slopes worth trying; equal ends where one line is best whatever the rest.
    """

    above: Array
    below: Array
    above_range: tuple[Array, Array]
    below_range: tuple[Array, Array]

    def part(self, units: NDArray[np.intp]) -> Lines:
        """Those of some units."""
        ranges = [(first[units], last[units]) for first, last in (self.above_range, self.below_range)]
        return Lines(self.above[units], self.below[units], ranges[0], ranges[1])


def image(activation: Activation, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Interval that contains ``act(s)`` for every s between the bounds, rounded outward; arrays (units,)."""
    if isinstance(activation, ReLU):
        return np.maximum(lower, 0.0), np.maximum(upper, 0.0)
    if isinstance(activation, Identity):
        return lower, upper
    low, high = activation(lower), activation(upper)
    if isinstance(activation, LeakyReLU):
        return _down(low, lower >= 0), _up(high, upper >= 0)
    if isinstance(activation, Polynomial):
        a, b, _ = activation.parameters
        # at a rounded tip the value differs by a times a squared rounding: far below the error that is added
        tip = np.clip(-b / (2.0 * a), lower, upper) if a else lower
        low, high = (
            np.minimum(np.minimum(low, high), activation(tip)),
            np.maximum(np.maximum(low, high), activation(tip)),
        )
    error = 2.0**-48 * size(activation, np.maximum(np.abs(lower), np.abs(upper))) + np.finfo(float).tiny
    if isinstance(activation, Polynomial):
        return low - error, high + error
    return np.maximum(low - error, -1.0 if isinstance(activation, Tanh) else 0.0), np.minimum(high + error, 1.0)


def size(activation: Activation, reach: Array) -> Array:
    """Upper bound on every number met when ``act(s)`` is evaluated for ``|s| <= reach``, shape (units,)."""
    if isinstance(activation, Polynomial):
        a, b, c = (abs(value) for value in activation.parameters)
        return (a * reach + b) * reach + c
    if isinstance(activation, Tanh):
        return np.minimum(reach, 1.0)
    return np.ones_like(reach) if isinstance(activation, Sigmoid) else reach


def _down(x: Array, exact: NDArray[np.bool_]) -> Array:
    return np.where(exact, x, np.nextafter(x, -np.inf))


def _up(x: Array, exact: NDArray[np.bool_]) -> Array:
    return np.where(exact, x, np.nextafter(x, np.inf))


def lines_of(activation: Activation, lower: Array, upper: Array) -> Lines:
    """Slopes of good lines on ``[lower, upper]``, arrays (units,); no rounding matters here.

    Convex parts: the chord above, a tangent below (ReLU: the slope of the longer side). S-shaped parts: the line of the
    concave (convex) envelope at the middle, which encloses the smallest area.

    Raises
    ------
    TypeError
        For an activation that is not known here.
    """
    if isinstance(activation, Identity):
        ones = np.ones_like(lower)
        return Lines(ones, ones, (ones, ones), (ones, ones))
    if isinstance(activation, ReLU | LeakyReLU):
        return _kinked(activation.slopes[0], lower, upper)
    if isinstance(activation, Polynomial):
        return _parabola(activation, lower, upper)
    if isinstance(activation, Tanh | Sigmoid):
        return _s_shaped(activation, lower, upper)
    raise TypeError(f"There are no lines for the activation {activation!r}.")


def _kinked(low: float, lower: Array, upper: Array) -> Lines:
    width = upper - lower
    share = np.where(width > 0, np.maximum(upper, 0.0) / np.where(width > 0, width, 1.0), 0.0)
    share = np.where(lower >= 0, 1.0, np.where(upper <= 0, 0.0, np.clip(share, 0.0, 1.0)))
    chord = low + (1.0 - low) * share
    crosses = (lower < 0) & (upper > 0)
    below = np.where(crosses, np.where(upper > -lower, 1.0, low), chord)
    return Lines(chord, below, (chord, chord), (np.where(crosses, low, chord), np.where(crosses, 1.0, chord)))


def _parabola(activation: Polynomial, lower: Array, upper: Array) -> Lines:
    a, b, _ = activation.parameters
    middle, one = a * (lower + upper) + b, a * (2.0 * lower) + b
    chord, tangents = (middle, middle), (np.minimum(one, 2.0 * middle - one), np.maximum(one, 2.0 * middle - one))
    return Lines(middle, middle, chord if a >= 0 else tangents, tangents if a >= 0 else chord)


def _s_shaped(activation: Tanh | Sigmoid, lower: Array, upper: Array) -> Lines:
    above, steepest = _envelope(activation, lower, upper)
    below, steepest_below = _envelope(activation, -upper, -lower)  # odd up to a constant
    flat, flat_below = np.minimum(slope(activation, upper), above), np.minimum(slope(activation, lower), below)
    return Lines(above, below, (flat, steepest), (flat_below, steepest_below))


def _envelope(activation: Tanh | Sigmoid, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Slope of the concave envelope at the middle, and its steepest slope."""
    width = upper - lower
    near = width <= 1e-7 * np.maximum(1.0, np.abs(lower))
    chord = (activation(upper) - activation(lower)) / np.where(near, 1.0, width)
    middle = lower + 0.5 * width
    chord = np.where(near, slope(activation, middle), chord)
    touch = np.minimum(np.where(lower < 0, _tangent_point(activation, lower), lower), upper)
    steepest = np.where(touch < upper, slope(activation, touch), chord)
    found = np.where(middle > touch, slope(activation, middle), steepest)
    return found, np.maximum(steepest, found)


def _tangent_point(activation: Tanh | Sigmoid, lower: Array) -> Array:
    """The t > 0 whose tangent meets the curve at ``lower < 0``, by bisection in ``[0, -lower]``."""
    inner, outer, start = np.zeros_like(lower), np.maximum(-lower, 0.0), activation(lower)
    for _ in range(BISECTIONS):
        middle = 0.5 * (inner + outer)
        short = activation(middle) - start < slope(activation, middle) * (middle - lower)
        inner, outer = np.where(short, middle, inner), np.where(short, outer, middle)
    return outer


def slope(activation: Activation, s: Array) -> Array:
    """Derivative of a smooth activation, that of tanh and sigmoid with a small relative error also far out."""
    if isinstance(activation, Polynomial):
        return activation.derivative(s)
    if isinstance(activation, Tanh):
        e = np.exp(-2.0 * np.abs(s))
        return np.asarray(4.0 * e / (1.0 + e) ** 2)
    e = np.exp(-np.abs(s))
    return np.asarray(e / (1.0 + e) ** 2)


def price(activation: Activation, A: Array, D: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """``max {A act(s) - D s : lower <= s <= upper}`` up to rounding, and a maximizer; arrays (q, units).

    Rounding errors are at most ``gamma(ROUNDINGS) (|A| |act(s)| + |D| |s|)`` at the largest values on the interval; the
    caller adds them for all units at once. On a concave part the value is that of a tangent, so it is an upper bound
    wherever it touches.

    Implements: convexnn, Proposition 1 of theory/propagation, price of any line.

    Parameters
    ----------
    activation : Activation
    A, D : array, shape (q, units)
        Any numbers.
    lower, upper : array, shape (units,)
    """
    at_low, at_high = A * activation(lower) - D * lower, A * activation(upper) - D * upper
    best = np.maximum(at_low, at_high)
    where = np.where(at_high >= at_low, upper, lower)
    if isinstance(activation, Identity):
        return best, where
    if isinstance(activation, ReLU | LeakyReLU):
        kink = np.where((lower < 0) & (upper > 0), 0.0, -np.inf)
        return np.maximum(best, kink), np.where(kink > best, 0.0, where)
    touched, point = _tangent_price(activation, A, D, lower, upper)
    return np.maximum(best, touched), np.where(touched > best, point, where)


def _tangent_price(activation: Activation, A: Array, D: Array, lower: Array, upper: Array) -> tuple[Array, Array]:
    """Largest value of the tangent at the (nearly) best point where ``A act`` is concave, and that point."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        ratio = D / A
        if isinstance(activation, Polynomial):
            a, b, _ = activation.parameters
            left, right = lower, np.where(A * np.sign(a) < 0, upper, lower)  # A * a might underflow
            best = (ratio - b) / (2.0 * a) if a else ratio
        else:
            left = np.where(A > 0, np.clip(0.0, lower, upper), lower)
            right = np.where(A > 0, upper, np.clip(0.0, lower, upper))
            best = _with_slope(activation, ratio, A > 0)
    point = np.clip(np.where(np.isnan(best), left, best), left, right)
    rate = A * slope(activation, point) - D
    return A * activation(point) - D * point + np.maximum(rate * (left - point), rate * (right - point)), point


def _with_slope(activation: Activation, ratio: Array, positive: NDArray[np.bool_]) -> Array:
    """The point on the positive (else the negative) half line where the activation has this slope."""
    unit, stretch = (1.0, 1.0) if isinstance(activation, Tanh) else (4.0, 2.0)
    far = stretch * np.arctanh(np.sqrt(np.clip(1.0 - unit * ratio, 0.0, 1.0)))
    return np.where(positive, far, -far)
