"""Smoothed worst cases of all margin terms, their gradient in the matrices of the scores, and its derivative.

One eigendecomposition for every difference of scores serves all samples of both orientations. Terms are kept by
difference and orientation, so that the curvature of a group is one vector; rows go through in blocks that fit into the
cache. The gradient of ``sum_t weight_t w_t`` is a matrix of second moments of attacked samples, and leaves the
eigenbasis but once a group. Memory O(N d).
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.structure import Indices, QuadraticStructure, ScorePair
from convexnn.quadratic.trust_region import minimize_over_ball
from convexnn.solvers.column_generation.secular import barrier_offsets, log_sums

Array = NDArray[np.float64]

#: Numbers of one array in a block.
BLOCK = 40_000


@dataclass(eq=False)
class Side:
    """Terms with the same matrix: samples in the coordinates of the metric, and their worst cases.

    Attributes
    ----------
    terms : array of int, shape (t,)
    sign : float
    X : array, shape (t, d)
    attacked, shift, inverse : array, shape (t, d)
        Attacked samples, mean attacks and ``1 / (sign L + multiplier)`` in the eigenbasis.
    multiplier : array, shape (t,)
        Of the ball.
    smoothing : float
        Of the last evaluation.
    """

    terms: Indices
    sign: float
    X: Array
    attacked: Array
    shift: Array
    inverse: Array
    multiplier: Array
    smoothing: float = 0.0
    warm: bool = False


@dataclass(eq=False)
class Pair:
    """A difference of scores, its eigenbasis and its two orientations."""

    pair: ScorePair
    sides: tuple[Side, ...]
    basis: Array = field(default_factory=lambda: np.zeros((0, 0)))


class WorstCases:
    """Worst cases of a structure at one point after the other."""

    def __init__(self, structure: QuadraticStructure) -> None:
        self.structure = structure
        d = structure.n_features
        metric = structure.metric
        self.stretch = np.ones(d) if metric is None else 1.0 / np.sqrt(metric)
        self.radius = structure.radius
        self.smoothing = 0.0
        samples = structure.X / self.stretch
        self.pairs = tuple(Pair(pair, _sides(structure, pair, samples)) for pair in structure.pairs)
        self.evaluations = 0

    def evaluate(self, M: Array, smoothing: float) -> Array:
        """Smoothed worst cases ``w`` (N,) at the score matrices ``M`` (C, d + 1, d + 1)."""
        self.smoothing = smoothing
        self.evaluations += 1
        values = np.empty(self.structure.n_terms)
        for pair in self.pairs:
            Q, q, h = self.coordinates(self.structure.difference(M, pair.pair))
            eigenvalues, pair.basis = np.linalg.eigh(Q)
            linear = q @ pair.basis
            for side in pair.sides:
                side.smoothing = smoothing
                values[side.terms] = self._side(side, pair.basis, eigenvalues, linear, h)
        return values

    def rest(self) -> None:
        """Set the state of the zero network: nothing is attacked."""
        for pair in self.pairs:
            pair.basis = np.eye(self.structure.n_features)
            for side in pair.sides:
                np.copyto(side.attacked, side.X)
                side.shift[:], side.inverse[:], side.warm = 0.0, 0.0, False
                side.smoothing = 0.0
        self.smoothing = 0.0

    def coordinates(self, M: Array) -> tuple[Array, Array, float]:
        """``Q, q, h`` of ``x'Q x + 2 q'x + h`` in the coordinates of the metric."""
        a, b, c = self.structure.coefficients
        Q = a * (self.stretch[:, None] * M[:-1, :-1] * self.stretch)
        return Q, 0.5 * b * self.stretch * M[:-1, -1], c * float(M[-1, -1])

    def _side(self, side: Side, basis: Array, eigenvalues: Array, linear: Array, h: float) -> Array:
        values = np.empty(len(side.terms))
        step = max(1, BLOCK // len(eigenvalues))
        for begin in range(0, len(values), step):
            rows = slice(begin, begin + step)
            values[rows] = self._block(side, rows, basis, eigenvalues, linear, h)
        side.warm = True
        return values

    def _block(self, side: Side, rows: slice, basis: Array, eigenvalues: Array, linear: Array, h: float) -> Array:
        x = np.dot(side.X[rows], basis, out=side.attacked[rows])
        g = x * eigenvalues
        g += linear
        values = side.sign * (np.einsum("ij,ij->i", g, x) + x @ linear + h)
        if self.radius == 0:
            return values
        signed = side.sign * eigenvalues
        base = max(0.0, -float(signed.min()))
        above = np.maximum(signed + base, 0.0)
        start = side.multiplier[rows] - base if side.warm else None
        nu = side.smoothing
        offset, inverse = barrier_offsets(g, above, base, self.radius, nu, start)
        side.inverse[rows], side.multiplier[rows] = inverse, base + offset
        shift = np.multiply(g, inverse, out=side.shift[rows])
        values -= np.einsum("ij,ij->i", shift, g) + side.multiplier[rows] * self.radius**2
        values += nu * (np.log(side.multiplier[rows]) - log_sums(inverse))
        shift *= -side.sign
        x += shift
        return values

    def exact(self, M: Array) -> Array:
        """Worst cases ``w`` (N,) without smoothing; the state of the last evaluation stays."""
        values = np.empty(self.structure.n_terms)
        for pair in self.pairs:
            Q, q, h = self.coordinates(self.structure.difference(M, pair.pair))
            eigenvalues, basis = np.linalg.eigh(Q)
            linear = q @ basis
            for side in pair.sides:
                step = max(1, BLOCK // len(q))
                for begin in range(0, len(side.terms), step):
                    x = side.X[begin : begin + step] @ basis
                    g = x * eigenvalues + linear
                    inner = side.sign * (np.einsum("ij,ij->i", g, x) + x @ linear + h)
                    if self.radius > 0:
                        inner += minimize_over_ball(side.sign * eigenvalues, side.sign * g, self.radius).values
                    values[side.terms[begin : begin + step]] = inner
        return values

    def moments(self, weight: Array) -> Array:
        """``G_c = sum_t weight_t (1[plus_t = c] - 1[minus_t = c]) A_t``, shape (C, d + 1, d + 1), weights >= 0."""
        G = np.zeros(self.structure.z_shape[1:])
        for pair in self.pairs:
            d = self.structure.n_features
            second, first, total = np.zeros((d, d)), np.zeros(d), 0.0
            for side in pair.sides:
                t = weight[side.terms]
                active = np.flatnonzero(t)
                if len(active) == 0:
                    continue
                t = t[active]
                x = side.attacked[active]
                first += side.sign * (t @ x)
                total += side.sign * float(t.sum())
                x *= np.sqrt(t)[:, None]
                second += side.sign * (x.T @ x)
                if self.radius > 0:
                    second[np.diag_indices(d)] += side.sign * side.smoothing * (t @ side.inverse[active])
            self.collect(G, pair, second, first, total)
        return G

    def collect(self, G: Array, pair: Pair, second: Array, first: Array, total: float) -> None:
        """Add moments in the eigenbasis of a pair to those of its scores."""
        a, b, c = self.structure.coefficients
        block = np.empty(G.shape[1:])
        basis = self.stretch[:, None] * pair.basis
        block[:-1, :-1] = a * (basis @ second @ basis.T)
        block[:-1, -1] = block[-1, :-1] = 0.5 * b * (basis @ first)
        block[-1, -1] = c * total
        G[pair.pair.first] += block
        if pair.pair.second >= 0:
            G[pair.pair.second] -= block

    def attacks(self) -> tuple[Array, Array | None, Array | None, Indices]:
        """Means (N, d) of the attacks in raw units, variances (N, d), directions (pairs, d, d), pair of each term."""
        n, d = self.structure.n_terms, self.structure.n_features
        shifts, variances = np.zeros((n, d)), np.zeros((n, d))
        directions, groups = np.zeros((len(self.pairs), d, d)), np.zeros(n, dtype=np.intp)
        if self.radius == 0:
            return shifts, None, None, groups
        for index, pair in enumerate(self.pairs):
            directions[index] = self.stretch[:, None] * pair.basis
            for side in pair.sides:
                shifts[side.terms] = side.shift @ directions[index].T
                variances[side.terms] = side.smoothing * side.inverse
                groups[side.terms] = index
        return shifts, variances, directions, groups


def _sides(structure: QuadraticStructure, pair: ScorePair, samples: Array) -> tuple[Side, ...]:
    sides = []
    for sign in (1.0, -1.0):
        terms = pair.terms[pair.signs == sign]
        if len(terms) == 0:
            continue
        X = samples[structure.rows[terms]]
        inverse = np.zeros_like(X) if structure.radius > 0 else np.zeros((len(X), 0))
        sides.append(Side(terms, sign, X, np.empty_like(X), np.zeros_like(X), inverse, np.zeros(len(X))))
    return tuple(sides)
