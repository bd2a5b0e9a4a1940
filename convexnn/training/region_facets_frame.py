"""Coordinates of a polytope for the search for facets: known by its extreme points in chosen directions alone."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.regions.polytope import Polytope

Array = NDArray[np.float64]

DIRECTIONS = 20  # an input and round, whose vertices are known at the start
WHITENED = 3  # rounds: directions of each are random in coordinates that fit the vertices before
FLAT = 1e-9  # extent in some direction, as a share of the largest
NEW = 1e-7  # by which a new vertex must lie beyond the known ones


@dataclass(frozen=True, eq=False)
class PolytopeFrame:
    """Coordinates ``y = scale (x - center)`` in which the known vertices have unit covariance; one-sided.

    Attributes
    ----------
    polytope : Polytope
        Asked for points with the largest ``u.x``, nothing else.
    center : array, shape (d,)
        Mean of the vertices met at first: an inner point.
    scale : array, shape (d, d)
        Symmetric.
    vertices : array, shape (k, d)
        Known ones, in the frame. Their support function is at most that of the polytope.
    """

    polytope: Polytope
    center: Array
    scale: Array
    vertices: Array
    sides: int = 1

    @classmethod
    def of(cls, polytope: Polytope, rng: np.random.Generator) -> PolytopeFrame:
        """Frame from the vertices in random directions.

        Raises
        ------
        InvalidInputError
            For a polytope without interior.
        """
        d = polytope.n_inputs
        U, X = np.vstack([np.eye(d), -np.eye(d)]), np.zeros((0, d))
        for last in (False,) * WHITENED + (True,):
            X = np.vstack([X, polytope.vertices(U)])
            center = X.mean(axis=0)
            lengths, P = np.linalg.eigh((X - center).T @ (X - center) / len(X))
            if last and not lengths[0] > FLAT**2 * lengths[-1]:
                raise InvalidInputError("Facets are searched for polytopes with an interior; this one is flat.")
            scale = (P / np.sqrt(np.maximum(lengths, max(FLAT**2 * lengths[-1], np.finfo(float).tiny)))) @ P.T
            U = np.vstack([P.T, -P.T, rng.standard_normal((DIRECTIONS * d, d)) @ scale])
        return cls(polytope, center, scale, np.unique(np.round((X - center) @ scale, 9), axis=0))

    def into(self, X: Array) -> Array:
        """Coordinates (n, d) of inputs (n, d)."""
        return np.asarray((X - self.center) @ self.scale)

    def touched(self, U: Array) -> Array:
        """Known vertices y with the largest ``u.y`` for rows of U, shape (n, d)."""
        return np.asarray(self.vertices[np.argmax(U @ self.vertices.T, axis=1)])

    def normalized(self, U: Array) -> Array:
        """Rows with support function one, as far as vertices are known."""
        h = (U * self.touched(U)).sum(axis=1)
        return np.asarray(U / np.maximum(h, np.finfo(float).tiny)[:, None])

    def snapped(self, U: Array) -> Array:
        """Rows moved to the facet of the known hull through the d vertices they touch most, where that is a facet."""
        found, d = self.normalized(U), U.shape[1]
        for k, u in enumerate(found):
            touched = self.vertices[np.argsort(self.vertices @ u)[-d:]]
            if np.linalg.matrix_rank(touched, tol=1e-6) < d:
                continue
            normal = np.linalg.solve(touched, np.ones(d))
            heights = self.vertices @ normal
            if heights.max() <= 1.0 + NEW and np.sum(heights >= 1.0 - NEW) >= d:
                found[k] = normal
        return self.normalized(found)

    def refined(self, U: Array) -> PolytopeFrame:
        """The frame with the vertices of the polytope in the given directions; itself when there is none beyond."""
        met = self.into(self.polytope.vertices(U @ self.scale.T))
        beyond = (U * met).sum(axis=1) > (1.0 + NEW) * (U * self.touched(U)).sum(axis=1)
        if not beyond.any():
            return self
        return replace(self, vertices=np.vstack([self.vertices, np.unique(np.round(met[beyond], 9), axis=0)]))
