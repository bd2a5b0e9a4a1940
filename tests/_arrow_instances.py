"""Small networks and questions for the tests of the structured semidefinite solver, and their values by enumeration."""

from __future__ import annotations

import itertools

import numpy as np
from scipy.optimize import linprog

from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.query import Query
from convexnn.threats import L2Ball, LInfBall

SETS = ("box", "ball", "clipped")


def random_network(rng, widths, activation="relu", scale=1.0):
    """Network with biases; widths from the inputs to the outputs."""
    layers = [
        (scale * rng.standard_normal((b, a)) / np.sqrt(a), 0.3 * scale * rng.standard_normal(b))
        for a, b in itertools.pairwise(widths)
    ]
    return Network(layers, activation)


def random_query(rng, widths, kind, activation="relu", *, radius=0.5, scale=1.0, rows=1):
    """A question with random output weights around a random sample."""
    network = random_network(rng, widths, activation, scale)
    x = rng.uniform(0.1, 0.9, widths[0])
    threat = {
        "box": LInfBall(0.6 * radius, clip=(0.0, 1.0)),
        "ball": L2Ball(radius),
        "clipped": L2Ball(1.6 * radius, clip=(0.0, 1.0)),
    }[kind]
    weights = rng.standard_normal((rows, widths[-1]))
    return Query(network, InputSet.around(x, threat), weights, 0.1 * rng.standard_normal(rows))


def sampled_points(rng, query, n=4000):
    """Points of the set, most of them extreme, that honour the signs of the query."""
    low, high = query.inputs.bounding_box()
    d = len(low)
    Z = low + (high - low) * rng.random((n, d))
    Z[n // 3 :] = np.where(rng.random((n - n // 3, d)) < 0.5, low, high)
    Z[-(n // 3) :] = query.inputs.centre + 2.0 * (high - low).max() * rng.standard_normal((n // 3, d))
    X = query.inputs.project(Z)
    if query.signs is not None:
        pre = query.network.pre_activations(X)
        good = [np.all(s * z >= -1e-12, axis=1) for s, z in zip(query.signs, pre, strict=True)]
        X = X[np.all(good, axis=0)]
    return X


def sampled_maximum(rng, query, n=4000):
    """Largest values at sampled points, shape (q,); -inf without points."""
    X = sampled_points(rng, query, n)
    return query.values(X).max(axis=0) if len(X) else np.full(query.n_rows, -np.inf)


def exact_maximum(query):
    """Maximum over a box for one hidden layer, shape (q,), one linear program for every sign pattern."""
    (W, b), (V, c) = query.network.layers
    leak = query.network.activation.slopes[0]
    found = np.full(query.n_rows, -np.inf)
    for pattern in itertools.product([-1.0, 1.0], repeat=len(b)):
        signs = np.array(pattern)
        if query.signs is not None and np.any(query.signs[0] * signs < 0):
            continue
        slopes = np.where(signs > 0, 1.0, leak)
        for row, weights in enumerate(query.weights):
            linear = (weights @ V * slopes) @ W
            constant = (weights @ V * slopes) @ b + weights @ c + query.offset[row]
            bounds = np.stack(query.inputs.bounding_box(), axis=1)
            solved = linprog(-linear, A_ub=-signs[:, None] * W, b_ub=signs * b, bounds=bounds)
            if solved.status == 0:
                found[row] = max(found[row], constant - solved.fun)
    return found
