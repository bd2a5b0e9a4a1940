"""Worst cases of a polynomial network over the threat of its training program, exactly.

In the coordinates ``e = D^{1/2} delta`` of the metric the threat is a ball, and one eigendecomposition of the curvature
serves all samples.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.structure import QuadraticStructure, ScorePair
from convexnn.quadratic.trust_region import minimize_over_ball

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WorstCases:
    """Values ``w`` (N,) of the margin terms at their worst perturbations ``shifts`` (N, d)."""

    values: Array
    shifts: Array


def quadratic_of(M: Array, coefficients: tuple[float, float, float]) -> tuple[Array, Array, float]:
    """``Q, q, h`` with ``f(x) = x'Q x + 2 q'x + h`` of a matrix ``M`` (d + 1, d + 1)."""
    a, b, c = coefficients
    return a * M[:-1, :-1], 0.5 * b * M[:-1, -1], c * float(M[-1, -1])


def worst_cases(structure: QuadraticStructure, z: Array) -> WorstCases:
    """All margin terms of a point at the network that it stands for, by exact trust regions.

    Implements: docs/theory/polynomial.md, Proposition 3.

    Parameters
    ----------
    structure : QuadraticStructure
    z : array, shape (2, C, d + 1, d + 1)

    Returns
    -------
    WorstCases
        Values ``-inf`` where numbers overflow.
    """
    M = z[0] - z[1]
    values, shifts = np.empty(structure.n_terms), np.zeros((structure.n_terms, structure.n_features))
    with np.errstate(over="ignore", invalid="ignore"):
        for pair in structure.pairs:
            difference = structure.difference(M, pair)
            values[pair.terms], shifts[pair.terms] = _of_pair(structure, pair, 0.5 * (difference + difference.T))
    return WorstCases(values, shifts)


def _of_pair(structure: QuadraticStructure, pair: ScorePair, M: Array) -> tuple[Array, Array]:
    Q, q, h = quadratic_of(M, structure.coefficients)
    X = structure.X[structure.rows[pair.terms]]
    XQ = X @ Q
    values = pair.signs * (((XQ + 2 * q) * X).sum(axis=1) + h)
    stretch = np.ones(len(q)) if structure.metric is None else 1 / np.sqrt(structure.metric)
    curvature, gradient = stretch[:, None] * Q * stretch, (XQ + q) * stretch
    if not (np.isfinite(values).all() and np.isfinite(curvature).all() and np.isfinite(gradient).all()):
        return np.full(len(X), -np.inf), np.zeros_like(X)
    if structure.radius == 0:
        return values, np.zeros_like(X)
    eigenvalues, V = np.linalg.eigh(curvature)
    linear = pair.signs[:, None] * (gradient @ V)
    found = minimize_over_ball(pair.signs[:, None] * eigenvalues, linear, structure.radius)
    return values + found.values, stretch * (found.steps @ V.T)
