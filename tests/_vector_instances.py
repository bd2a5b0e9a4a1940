"""Small problems with several outputs, and the programs around them."""

from __future__ import annotations

import numpy as np

from convexnn.network import Network
from convexnn.restrictions import (
    OuterGroupLasso,
    OuterLipschitz,
    VectorGatedGroupLasso,
    VectorGroupLasso,
    VectorLipschitzProgram,
)

PROGRAMS = {"lipschitz": VectorLipschitzProgram, "l2": VectorGroupLasso, "gated": VectorGatedGroupLasso}
OUTER = {"lipschitz": OuterLipschitz, "l2": OuterGroupLasso}


def vector_regression(seed=0, n=25, d=3, p=6, k=3):
    """X, Y (n, k) and a random network of p units with k outputs."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n, d))
    net = Network.shallow(rng.normal(size=(p, d)), rng.normal(size=p), rng.normal(size=(k, p)) / p, np.zeros(k))
    Y = np.stack([np.sin((j + 1) * X[:, j % d]) for j in range(k)], axis=1) + 0.3 * rng.normal(size=(n, k))
    return X, Y, net


def three_classes(rng, n=60):
    """Three noisy clusters in the plane with one-hot targets."""
    label = rng.integers(3, size=n)
    centres = np.array([[0.0, 1.0], [0.9, -0.5], [-0.9, -0.5]])
    return centres[label] + 0.4 * rng.normal(size=(n, 2)), np.eye(3)[label], label
