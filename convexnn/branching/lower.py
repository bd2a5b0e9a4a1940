"""Lower bounds: values that the network attains in the set, found from points that the relaxations suggest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.query import Query

Array = NDArray[np.float64]

#: Lengths of the steps toward the maximizer of the linearization, in turn.
STEPS = (1.0, 0.6, 0.35, 0.2, 0.1, 0.05)
#: Points that are followed at once; the best ones of those offered.
FOLLOWED = 8


@dataclass(frozen=True, eq=False)
class Attained:
    """The largest value seen and where.

    Attributes
    ----------
    value : float
        In float64; ``-inf`` while nothing was seen.
    point : array, shape (d,)
    """

    value: float
    point: Array

    def better(self, other: Attained) -> Attained:
        """The larger of two."""
        return other if other.value > self.value else self


def attained(query: Query, points: Array) -> Attained:
    """Best of the points (n, d) after projection on the set; those with other signs than the query's do not count."""
    nothing = Attained(-np.inf, query.inputs.centre)
    if not points.size or points.ndim != 2 or points.shape[1] != query.network.n_inputs:
        return nothing
    X = query.inputs.project(points[np.isfinite(points).all(axis=1)])
    if not len(X):
        return nothing
    values = np.where(_agree(query, X), query.values(X)[:, 0], -np.inf)
    best = int(np.argmax(values))
    return Attained(float(values[best]), X[best])


def _agree(query: Query, X: Array) -> NDArray[np.bool_]:
    if query.signs is None:
        return np.ones(len(X), dtype=bool)
    pairs = zip(query.network.pre_activations(X), query.signs, strict=True)
    return np.all([(z * signs >= 0).all(axis=1) for z, signs in pairs], axis=0)


def climb(query: Query, points: Array) -> Attained:
    """Ascent from the best of the points: steps toward the maximizer of the linearization, ever shorter.

    Every iterate is a convex combination of points of the set, so boxes, balls and clipped balls are alike.

    Parameters
    ----------
    query : Query
        One row.
    points : array, shape (n, d)
        Need not be in the set.
    """
    best = attained(query, points)
    if not np.isfinite(best.value):
        return best
    X = query.inputs.project(points[np.isfinite(points).all(axis=1)])
    X = X[np.argsort(-query.values(X)[:, 0])[:FOLLOWED]]
    for step in STEPS:
        for _ in range(3):
            G = query.weights @ query.network.gradient(X).reshape(len(X), -1, query.network.n_inputs)
            moved = X + step * (query.inputs.maximizer(G[:, 0]) - X)
            better = query.values(moved)[:, 0] > query.values(X)[:, 0]
            if not better.any():
                break
            X = np.where(better[:, None], moved, X)
    return best.better(attained(query, X))
