"""Random networks and threats for the tests of bound propagation."""

from __future__ import annotations

import numpy as np

from convexnn.activations import Identity, LeakyReLU, Polynomial, ReLU, Sigmoid, Tanh
from convexnn.network import Network
from convexnn.propagation import Query
from convexnn.threats import Box, L2Ball, LInfBall

ACTIVATIONS = [ReLU(), LeakyReLU(0.1), Tanh(), Sigmoid(), Identity(), Polynomial(), Polynomial(-0.3, 0.2, 0.1)]


def random_network(rng, activation, hidden=(1, 4), width=8):
    """Random layers of random sizes, three outputs."""
    sizes = [rng.integers(1, 6), *rng.integers(1, width, size=rng.integers(*hidden)), 3]
    pairs = zip(sizes, sizes[1:], strict=False)
    return Network(
        [(rng.standard_normal((o, i)) / np.sqrt(i), 0.3 * rng.standard_normal(o)) for i, o in pairs], activation
    )


def random_threat(rng, x):
    """Balls, boxes and clipped balls of radii from nothing to large; the sample may lie at the border of the clip."""
    radius = rng.choice([0.0, 0.1, 1.0, 5.0])
    clip = (np.minimum(x - 0.1, -0.5), np.maximum(x + 0.3, 0.5))
    kinds = [L2Ball(radius), LInfBall(radius), L2Ball(radius, clip=clip), LInfBall(radius, clip=clip)]
    return [*kinds, Box(x - 0.4, x + radius)][rng.integers(5)]


def random_query(rng, activation, **sizes):
    """A query about the rivals of class 0, and 300 points of its set."""
    network = random_network(rng, activation, **sizes)
    x = rng.standard_normal(network.n_inputs) * rng.choice([0.1, 1.0, 10.0])
    threat = random_threat(rng, x)
    return Query.of_rivals(network, x, 0, threat), threat.sample(np.tile(x, (300, 1)), rng)


def signs_at(rng, query, x, share=0.5):
    """Signs that a point has, for a share of the units."""
    values = query.network.pre_activations(x[None])
    return tuple((np.sign(z[0]) * (rng.random(z.shape[1]) < share)).astype(np.int8) for z in values)


def with_signs(query, X, signs):
    """The rows of X that have the signs."""
    values = query.network.pre_activations(X)
    return X[np.all([(z * s >= 0).all(axis=1) for z, s in zip(values, signs, strict=True)], axis=0)]
