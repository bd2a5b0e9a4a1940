"""Bounds on pre-activations: intervals above linear bounds above sampled values, signs, other evidence."""

from __future__ import annotations

import numpy as np
import pytest

from convexnn.activations import Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.network import Network
from convexnn.propagation import LayerBounds, Query, crown_bounds, interval_bounds, read_bounds
from convexnn.threats import Box, L2Ball, LInfBall

ACTIVATIONS = [ReLU(), LeakyReLU(0.1), Tanh(), Sigmoid(), Identity(), Polynomial(), Polynomial(-0.3, 0.2, 0.1)]
each_activation = pytest.mark.parametrize("activation", ACTIVATIONS, ids=repr)


def random_network(rng, activation, hidden=(1, 4), width=8):
    """Random layers of random sizes, three outputs."""
    sizes = [rng.integers(1, 6), *rng.integers(1, width, size=rng.integers(*hidden)), 3]
    layers = [
        (rng.standard_normal((o, i)) / np.sqrt(i), 0.3 * rng.standard_normal(o))
        for i, o in zip(sizes, sizes[1:], strict=False)
    ]
    return Network(layers, activation)


def random_threat(rng, x):
    """Balls, boxes and clipped balls of radii from nothing to large; the sample may lie outside of the clip."""
    radius = rng.choice([0.0, 0.1, 1.0, 5.0])
    clip = (np.minimum(x - 0.1, -0.5), np.maximum(x + 0.3, 0.5))
    kinds = [L2Ball(radius), LInfBall(radius), L2Ball(radius, clip=clip), LInfBall(radius, clip=clip)]
    return [*kinds, Box(x - 0.4, x + radius)][rng.integers(5)]


@each_activation
def test_intervals_contain_linear_bounds_contain_samples(activation, rng):
    for _ in range(25):
        network = random_network(rng, activation)
        x = rng.standard_normal(network.n_inputs) * rng.choice([0.1, 1.0, 10.0])
        threat = random_threat(rng, x)
        query = Query.of_rivals(network, x, 0, threat)
        linear, wide = crown_bounds(query), interval_bounds(query)
        assert not linear.empty
        assert read_bounds(query, {}) == linear
        values = network.pre_activations(threat.sample(np.tile(x, (300, 1)), rng))
        for k, Z in enumerate(values):
            slack = 1e-13 * np.abs(Z).max()  # float64 values differ from the real ones
            assert (wide.lower[k] <= linear.lower[k]).all()
            assert (linear.upper[k] <= wide.upper[k]).all()
            assert (linear.lower[k] <= Z.min(axis=0) + slack).all()
            assert (linear.upper[k] >= Z.max(axis=0) - slack).all()


def test_crossed_bounds_are_empty():
    zero, one = np.zeros(2), np.ones(2)
    assert LayerBounds((one,), (zero,)).empty
    assert not LayerBounds((zero,), (one,)).empty
