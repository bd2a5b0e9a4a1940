"""Linear forms over a set of inputs, in rational numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation import InputSet
from convexnn.verification.exact_numbers import Rationals, floats_up, rational, rationals, root_up

Array = NDArray[np.float64]


def maximum(inputs: InputSet, A: Rationals, b: Rationals) -> Rationals:
    """Upper bounds on ``max (A x + b)`` over the set: attained over a box, above the ball's by a relative 2**-119.

    For both at once the form is split between ball and box as in `InputSet.maximum`; any split gives a bound.

    Parameters
    ----------
    inputs : InputSet
        A box, a ball, or both.
    A : rational array, shape (q, d)
    b : rational array, shape (q,)

    Returns
    -------
    rational array, shape (q,)
    """
    bounded = inputs.has_box
    if not inputs.has_ball:
        return _over_box(inputs, A) + b
    found = _over_ball(inputs, A)
    if bounded:
        G = _shares(inputs, A)
        split = _over_ball(inputs, G) + _over_box(inputs, A - G)
        found = _least(_least(found, split), _over_box(inputs, A))
    return np.asarray(found + b)


def extent(inputs: InputSet) -> tuple[Rationals, Rationals]:
    """Corners (d,) of a box that contains the set."""
    if not inputs.has_ball:
        return rationals(inputs.lower), rationals(inputs.upper)
    centre, radius = rationals(inputs.centre), rational(float(inputs.radius))
    low, high = centre - radius, centre + radius
    for i in range(len(low)):
        if np.isfinite(inputs.lower[i]):
            low[i] = max(low[i], rational(float(inputs.lower[i])))
        if np.isfinite(inputs.upper[i]):
            high[i] = min(high[i], rational(float(inputs.upper[i])))
    return low, high


def _over_box(inputs: InputSet, A: Rationals) -> Rationals:
    lower, upper = rationals(inputs.lower), rationals(inputs.upper)
    return np.asarray((A * np.where(A > 0, upper, lower)).sum(axis=1))


def _over_ball(inputs: InputSet, A: Rationals) -> Rationals:
    radius = rational(float(inputs.radius))
    norms = np.array([root_up(square) for square in (A * A).sum(axis=1)], dtype=object)
    return np.asarray(A @ rationals(inputs.centre) + radius * norms)


def _shares(inputs: InputSet, A: Rationals) -> Rationals:
    """The part of every form that the ball takes: all of it where no side of the box stops the way to the maximizer.

    A stopped coordinate gives the ball ``(x - centre) / t``, t the length of the way; chosen in float64.
    """
    approximate = floats_up(A)
    with np.errstate(all="ignore"):
        point = inputs.maximizer(approximate)
        step = point - inputs.centre
        free = (point > inputs.lower) & (point < inputs.upper)
        t = np.max(np.where(free & (approximate != 0), step / approximate, 0.0), axis=1, keepdims=True)
        stopped = np.where(t > 0, step / t, 0.0)
    return np.where(free, A, rationals(np.where(np.isfinite(stopped), stopped, 0.0)))


def _least(a: Rationals, b: Rationals) -> Any:
    return np.where(a <= b, a, b)
