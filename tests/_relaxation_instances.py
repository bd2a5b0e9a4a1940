"""Questions about small ReLU networks, with dead, always-active and duplicate units, and points to compare with."""

from __future__ import annotations

import itertools

import numpy as np

from convexnn.activations import get_activation
from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.query import Query
from convexnn.threats import Box, L2Ball, LInfBall

THREATS = {
    "box": LInfBall(0.4),
    "clipped_box": LInfBall(0.4, clip=(0.0, 1.0)),
    "ball": L2Ball(0.6),
    "clipped_ball": L2Ball(0.8, clip=(0.0, 1.0)),
    "half_clipped_ball": L2Ball(0.8, clip=(0.2, np.inf)),
}
CORNERS = {"point": LInfBall(0.0), "dot": L2Ball(0.0), "small": LInfBall(1e-3), "huge": L2Ball(50.0)}


def network_of(rng, widths, activation="relu", scale=1.0):
    """Random layers; the first hidden one has a dead, an always-active and a repeated unit where it is wide enough."""
    layers = [
        (scale * rng.standard_normal((b, a)) / np.sqrt(a), 0.4 * scale * rng.standard_normal(b))
        for a, b in itertools.pairwise(widths)
    ]
    W, b = layers[0]
    if len(b) > 4:
        b[0], b[1] = -50.0 * scale, 20.0 * scale
        W[2], b[2] = W[3], b[3]
    return Network(layers, get_activation(activation, (0.2,) if activation == "leaky_relu" else ()))


def query_of(rng, widths, threat, activation="relu", scale=1.0):
    """The rivals of class 0 around a random sample of the unit cube; one output: the output itself."""
    x = rng.uniform(0.2, 0.8, widths[0])
    network = network_of(rng, widths, activation, scale)
    chosen = {**THREATS, **CORNERS, "flat_box": Box(np.r_[x[0], x[1:] - 0.3], np.r_[x[0], x[1:] + 0.2])}[threat]
    return Query(network, InputSet.around(x, chosen), *_rivals(widths[-1]))


def _rivals(k):
    if k == 1:
        return np.ones((1, 1)), np.zeros(1)
    weights = np.eye(k)[1:].copy()
    weights[:, 0] = -1.0
    return weights, 0.1 * np.arange(k - 1)


def with_signs_of_the_centre(rng, query, share=0.5):
    """The query on the part of the set where some units have the sign that they have at the centre."""
    pre = query.network.pre_activations(query.inputs.centre[None])
    return query.with_signs(tuple((np.sign(s[0]) * (rng.random(len(s[0])) < share)).astype(np.int8) for s in pre))


def sampled_values(rng, query, n=400):
    """Largest values (q,) at points of the set that honour the signs."""
    low, high = query.inputs.bounding_box()
    spread = 3.0 * (high - low) * rng.standard_normal((n, len(low)))
    X = np.vstack([query.inputs.project(query.inputs.centre + spread), query.inputs.centre])
    if query.signs is not None:
        pre = query.network.pre_activations(X)
        X = X[np.all([np.all(s * p >= 0, axis=1) for s, p in zip(query.signs, pre, strict=True)], axis=0)]
    return query.values(X).max(axis=0)


def corrupted(rng, multiplier):
    """Copies of a multiplier with nan, infinite, huge, tiny, negative, zero and random entries."""
    for value in (np.nan, np.inf, -np.inf, 1e308, 1e-308, -1.0, 0.0):
        yield {key: np.full_like(array, value) for key, array in multiplier.items()}
    for _ in range(6):
        sizes = 10.0 ** rng.integers(-12, 12)
        yield {key: array + sizes * rng.standard_normal(array.shape) for key, array in multiplier.items()}
    for _ in range(4):
        yield {key: array * 10.0 ** rng.integers(-3, 4, array.shape) for key, array in multiplier.items()}
