"""Bounds over many boxes at once: never below exact values, the same as one box at a time, whatever the scale."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from convexnn.activations import LeakyReLU, ReLU
from convexnn.exchange import Case
from convexnn.network import Network
from convexnn.verification.property_attack import Rows
from convexnn.verification.property_batches import Boxes
from convexnn.verification.property_bounds import BoxBounds

ACTIVATIONS = (ReLU(), LeakyReLU(0.1), LeakyReLU(1 / 3))


def made(rng, sizes, activation, scale=1.0):
    pairs = zip(sizes[:-1], sizes[1:], strict=True)
    return Network([(scale * rng.normal(size=(m, d)), scale * rng.normal(size=m)) for d, m in pairs], activation)


def rows_of(rng, d, k, q, mixed=True):
    inner = rng.normal(size=(q, d)) if mixed else np.zeros((q, d))
    return Rows.of([Case(np.zeros(d), np.ones(d), rng.normal(size=(q, k)), rng.normal(size=q), inner)])


def exactly(network, rows, weights, x):
    """``weights (rows f(x) + input_rows x + offset)`` in rational numbers, as (p,) fractions."""
    start = [Fraction(value) for value in x]
    values, slope = start, Fraction(network.activation.slopes[0])
    for i, (W, b) in enumerate(network.layers):
        values = [
            sum((Fraction(w) * v for w, v in zip(r, values, strict=True)), Fraction(c))
            for r, c in zip(W, b, strict=True)
        ]
        if i < len(network.layers) - 1:
            values = [max(value, slope * value) for value in values]
    found = []
    for row, inner, offset in zip(rows.rows, rows.input_rows, rows.offset, strict=True):
        terms = [*zip(row, values, strict=True), *zip(inner, start, strict=True)]
        found.append(sum((Fraction(w) * v for w, v in terms), Fraction(offset)))
    return [sum((Fraction(w) * v for w, v in zip(c, found, strict=True)), Fraction(0)) for c in weights]


@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_never_below_exact_values(rng, activation, scale):
    """On boxes of one point, and of a few roundings, bounds are tight, so that a missing rounding would show."""
    for depth in (1, 2, 3):
        network = made(rng, (3, *[6] * depth, 2), activation, scale)
        rows = rows_of(rng, 3, 2, 3)
        weights = np.vstack([np.eye(3), rng.random((3, 3)), rng.normal(size=(2, 3))])
        X = rng.normal(size=(8, 3)) * scale
        wide = np.where(rng.random((8, 1)) < 0.5, 0.0, 1e-15) * np.abs(X)
        boxes = Boxes.over(network, X - wide, X + wide)
        found = boxes.of_combinations(rows, np.broadcast_to(weights, (8, *weights.shape)))
        for i, x in enumerate(X):
            truth = exactly(network, rows, weights, x)
            assert all(Fraction(bound) >= value for bound, value in zip(found[i], truth, strict=True))
            size = max(1.0, *(abs(float(value)) for value in truth), *boxes.outputs[i])
            assert max(float(Fraction(b) - v) for b, v in zip(found[i], truth, strict=True)) <= 1e-10 * size


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)
def test_between_samples_and_one_box_at_a_time(rng, activation):
    network = made(rng, (2, 7, 5, 3), activation)
    rows = rows_of(rng, 2, 3, 4, mixed=False)
    lower = rng.normal(size=(10, 2))
    upper = lower + rng.random((10, 2)) * np.logspace(-3, 0.5, 10)[:, None]
    weights = np.vstack([np.eye(4), rng.random((3, 4))])
    found = Boxes.over(network, lower, upper).of_combinations(rows, np.broadcast_to(weights, (10, 7, 4)))
    for i in range(10):
        X = lower[i] + (upper[i] - lower[i]) * rng.random((3000, 2))
        assert (found[i] >= (rows.values(network, X) @ weights.T).max(axis=0)).all()
        alone = Boxes.over(network, lower[i : i + 1], upper[i : i + 1]).of_combinations(rows, weights[None])
        np.testing.assert_allclose(found[i], alone[0], rtol=0.05, atol=1e-9)  # other boxes decide what is tightened
        single = BoxBounds.over(network, lower[i], upper[i]).of_combinations(rows, weights)
        spread = np.ptp(rows.values(network, X) @ weights.T, axis=0)
        assert (np.abs(found[i] - single) <= 0.5 * spread + 1e-9).all()  # both take the better of lines and intervals


def test_units_that_never_or_always_switch_and_broken_numbers(rng):
    dead = Network.shallow([[1.0], [1.0]], [-9.0, 9.0], [1.0, 1.0])  # 0 + (x + 9) on [-1, 1]
    rows = Rows.of([Case([0.0], [1.0], [[1.0]], [0.0])])
    found = Boxes.over(dead, np.array([[-1.0]]), np.array([[1.0]])).of_combinations(rows, np.ones((1, 1, 1)))
    assert 10.0 <= found[0, 0] <= 10.0 + 1e-11
    huge = Network.shallow([[1e200]], [0.0], [1e200])
    found = Boxes.over(huge, np.array([[0.5]]), np.array([[1.0]])).of_combinations(rows, np.ones((1, 1, 1)))
    assert found[0, 0] == np.inf
    broken = Boxes.over(dead, np.array([[-1.0]]), np.array([[1.0]])).of_combinations(rows, np.full((1, 1, 1), np.nan))
    assert broken[0, 0] == np.inf
