"""Lines at activations: the price of any line bounds what it is meant to bound, far tails and points included."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.activations import Activation, Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.propagation.lines import ROUNDINGS, image, lines_of, price, size
from convexnn.rigorous import gamma

ACTIVATIONS = [ReLU(), LeakyReLU(0.1), Tanh(), Sigmoid(), Identity(), Polynomial(), Polynomial(-0.3, 0.2, 0.1)]
ACTIVATIONS += [Polynomial(0.0, -2.0, 1.0), LeakyReLU(0.0)]
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)


def intervals(rng):
    """Lower and upper ends: around zero, on one side, far out, tiny, and single points."""
    middle = rng.standard_normal(60) * np.repeat([0.1, 1.0, 10.0, 300.0, 1e4, 1e-8], 10)
    half = rng.random(60) * np.tile([0.0, 1e-12, 1e-3, 0.5, 1.0, 3.0, 10.0, 100.0, 1e4, 1e-300], 6)
    return middle - half, middle + half


def samples(lower, upper, n=401):
    """Points of every interval, the ends and zero included, shape (n, units)."""
    share = np.linspace(0.0, 1.0, n)[:, None]
    points = lower + share * (upper - lower)
    return np.clip(np.vstack([points, upper, np.zeros_like(lower)]), lower, upper)


def error_of(activation, A, D, lower, upper):
    """What the caller of the price adds for rounding."""
    reach = np.maximum(np.abs(lower), np.abs(upper))
    return gamma(ROUNDINGS) * (np.abs(A) * size(activation, reach) + np.abs(D) * reach) + 1e-300


@each_activation
def test_the_price_of_any_line_bounds_it(activation, rng):
    lower, upper = intervals(rng)
    points = samples(lower, upper)
    values = activation(points)
    for _ in range(6):
        A = rng.standard_normal((1, 60)) * 10.0 ** rng.integers(-3, 4)
        D = A * rng.choice([0.0, 0.01, 0.25, 0.5, 1.0, 2.0, -1.0], size=60) + rng.choice(
            [0.0, 0.3]
        ) * rng.standard_normal(60)
        found, where = price(activation, A, D, lower, upper)
        error = error_of(activation, A, D, lower, upper)
        assert (found + error >= (A * values - D * points).max(axis=0)).all()
        assert ((where >= lower) & (where <= upper)).all()
        # and it is no more than that: attained at the maximizer
        assert (found - error <= A * activation(where) - D * where + 1e-7 * np.abs(A) + 1e-6 * np.abs(found)).all()


@each_activation
def test_images_contain_values(activation, rng):
    lower, upper = intervals(rng)
    low, high = image(activation, lower, upper)
    values = activation(samples(lower, upper))
    assert (low <= values.min(axis=0)).all()
    assert (values.max(axis=0) <= high).all()
    scale = size(activation, np.maximum(np.abs(lower), np.abs(upper)))
    assert (values.min(axis=0) - low <= 1e-12 * scale + 1e-4 * (high - low)).all()
    assert (high - values.max(axis=0) <= 1e-12 * scale + 1e-4 * (high - low)).all()


@each_activation
def test_no_other_slope_encloses_a_smaller_area(activation, rng):
    # the area between a line and the curve depends on the line's value in the middle of the interval only
    lower, upper = (ends[:40] for ends in intervals(rng))
    lines, middle, one = lines_of(activation, lower, upper), 0.5 * (lower + upper), np.ones((1, 40))

    def at_middle(sign, slopes):
        found, _ = price(activation, sign * one, sign * slopes[None], lower, upper)
        return sign * slopes * middle + found[0]

    scale = size(activation, np.maximum(np.abs(lower), np.abs(upper))) + np.abs(middle)
    for sign, slopes, ends in ((1, lines.above, lines.above_range), (-1, lines.below, lines.below_range)):
        assert ((ends[0] <= ends[1]) & (slopes >= ends[0] - 1e-9) & (slopes <= ends[1] + 1e-9)).all()
        best = at_middle(sign, slopes)
        for share in np.linspace(0.0, 1.0, 11):
            assert (best <= at_middle(sign, ends[0] + share * (ends[1] - ends[0])) + 1e-6 * scale).all()
        for other in (0.0, 0.1, 0.25, 0.5, 1.0):
            assert (best <= at_middle(sign, np.full(40, other)) + 1e-6 * scale).all()


@pytest.mark.parametrize("activation", [Tanh(), Sigmoid()], ids=repr)
def test_elementary_functions_are_as_exact_as_is_said(activation, rng):
    mpmath = pytest.importorskip("mpmath")
    lower, upper = intervals(rng)
    A = rng.choice([-1.0, 1.0], size=(1, 60))
    lines = lines_of(activation, lower, upper)
    D = A * np.where(A > 0, lines.above, lines.below)
    found, where = price(activation, A, D, lower, upper)
    error = error_of(activation, A, D, lower, upper)
    with mpmath.workdps(60):
        for j in range(0, 60, 3):
            s = mpmath.mpf(float(where[0, j]))
            value = mpmath.tanh(s) if isinstance(activation, Tanh) else 1 / (1 + mpmath.exp(-s))
            true = mpmath.mpf(float(A[0, j])) * value - mpmath.mpf(float(D[0, j])) * s
            assert mpmath.mpf(float(found[0, j])) + mpmath.mpf(float(error[0, j])) >= true
            low, high = image(activation, lower[j : j + 1], upper[j : j + 1])
            assert mpmath.mpf(float(low[0])) <= value <= mpmath.mpf(float(high[0]))


def test_unknown_activations_have_no_lines():
    class Odd(Activation):
        pass

    with pytest.raises(TypeError, match="no lines"):
        lines_of(Odd(), np.zeros(1), np.ones(1))
