"""The second derivative of the smoothed loss in the matrices of the scores, as a matrix.

In the eigenbasis of a difference of scores, for a term with attacked sample x, mean attack e, inverse D, and a
direction ``(Q, q, h)``::

    -d2w = 2 (Q x + q)'D (Q x + q) + nu sum_ij D_i D_j Q_ij^2 - pull^2 / fall
    pull = 2 e'D (Q x + q) + nu sum_k D_k^2 Q_kk,    fall = 2 sum_k e_k^2 D_k + nu (sum_k D_k^2 + 1 / mu^2)

so that all of it costs ``N D^2`` for ``D = (d + 1) (d + 2) / 2`` entries, in products of matrices.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.structure import Indices
from convexnn.solvers.column_generation.term_losses import Bent
from convexnn.solvers.column_generation.worst_cases import Pair, Side, WorstCases

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Entries:
    """Symmetric matrices of size k as vectors with the same inner product.

    Attributes
    ----------
    first, second : array of int, shape (D,)
        Row and column, ``first <= second``.
    factor : array, shape (D,)
        One on the diagonal, the root of two elsewhere.
    place : array of int, shape (k, k)
        Where an entry is.
    """

    first: Indices
    second: Indices
    factor: Array
    place: Indices

    @classmethod
    def of_size(cls, k: int) -> Entries:
        """Entries of the upper triangle."""
        first, second = np.triu_indices(k)
        place = np.zeros((k, k), dtype=np.intp)
        place[first, second] = place[second, first] = np.arange(len(first))
        return cls(first, second, np.where(first == second, 1.0, np.sqrt(2.0)), place)

    def vector(self, matrices: Array) -> Array:
        """(..., k, k) to (..., D)."""
        return np.asarray(matrices[..., self.first, self.second] * self.factor)

    def matrix(self, vectors: Array) -> Array:
        """(..., D) to (..., k, k)."""
        return np.asarray((vectors / self.factor)[..., self.place])

    def congruence(self, T: Array) -> Array:
        """Matrix (D, D) of ``Y -> T Y T'``."""
        rows, columns = T[self.first], T[self.second]
        product = rows[:, self.first] * columns[:, self.second]
        product += rows[:, self.second] * columns[:, self.first]
        product *= 0.5 * self.factor[:, None] * self.factor
        return product


def second_derivative(worst: WorstCases, bent: Bent, entries: Entries) -> Array:
    """Second derivative (C D, C D) of the weighted loss at the last evaluated point.

    Implements: convexnn, Proposition 2 of theory/column_generation.
    """
    size, C = len(entries.first), worst.structure.n_classes
    total = np.zeros((C, size, C, size))
    d = worst.structure.n_features
    for pair in worst.pairs:
        frame = np.zeros((d + 1, d + 1))
        frame[:-1, :-1] = pair.basis.T * worst.stretch
        frame[-1, -1] = 1.0
        move = entries.congruence(frame)
        H = move.T @ _of_pair(worst, pair, bent, entries) @ move
        i, j = pair.pair.first, pair.pair.second
        total[i, :, i] += H
        if j >= 0:
            total[j, :, j] += H
            total[i, :, j] -= H
            total[j, :, i] -= H
    return total.reshape(C * size, C * size)


def _of_pair(worst: WorstCases, pair: Pair, bent: Bent, entries: Entries) -> Array:
    structure, scale = worst.structure, _scale(worst, entries)
    H = np.zeros((len(scale), len(scale)))
    rates = []
    for side in pair.sides:
        rate = _rates(worst, side, scale, entries)
        own = structure.share[side.terms] * bent.own[side.terms]
        H += (rate.T * own) @ rate
        rates.append(rate)
        if worst.radius > 0:
            weight = structure.share[side.terms] * bent.slopes[side.terms]
            _bend(H, worst, side, weight, entries, scale)
    if bent.cross is not None:
        mixed = (rates[0].T * (structure.governing_share * bent.cross)) @ rates[1]
        sign = pair.sides[0].sign * pair.sides[1].sign
        H += sign * (mixed + mixed.T)
    return H


def _scale(worst: WorstCases, entries: Entries) -> Array:
    a, b, c = worst.structure.coefficients
    last = worst.structure.n_features
    inner = np.where(entries.second < last, a, np.where(entries.first < last, 0.5 * b, c))
    return np.asarray(inner * entries.factor)


def _rates(worst: WorstCases, side: Side, scale: Array, entries: Entries) -> Array:
    """Derivatives of the worst cases of a side, up to its sign, shape (t, D)."""
    x = np.hstack([side.attacked, np.ones((len(side.terms), 1))])
    rates = x[:, entries.first] * x[:, entries.second]
    if worst.radius > 0:
        d = x.shape[1] - 1
        rates[:, np.diagonal(entries.place)[:d]] += side.smoothing * side.inverse
    rates *= scale
    return np.asarray(rates)


def _bend(H: Array, worst: WorstCases, side: Side, weight: Array, entries: Entries, scale: Array) -> None:
    """Add the sum of ``-weight_t d2w_t``."""
    nu, inverse, d = side.smoothing, side.inverse, side.X.shape[1]
    a, b, _ = worst.structure.coefficients
    diagonal = np.diagonal(entries.place)[:d]
    x = np.hstack([a * side.attacked, np.full((len(weight), 1), 0.5 * b)])
    for k in range(d):
        at, factor = entries.place[k], entries.factor[entries.place[k]]
        scaled = x / factor
        H[np.ix_(at, at)] += 2.0 * ((scaled.T * (weight * inverse[:, k])) @ scaled)
    spread = a * a * nu * ((inverse.T * weight) @ inverse)
    inside = np.flatnonzero(entries.second < d)
    H[inside, inside] += spread[entries.first[inside], entries.second[inside]]
    ones, zeros = np.ones((len(weight), 1)), np.zeros((len(weight), 1))
    x, y = np.hstack([side.attacked, ones]), np.hstack([side.shift * inverse, zeros])
    pull = x[:, entries.first] * y[:, entries.second] + y[:, entries.first] * x[:, entries.second]
    pull[:, diagonal] += nu * inverse**2
    pull *= scale
    fall = 2.0 * np.einsum("ij,ij,ij->i", side.shift, side.shift, inverse)
    fall += nu * (np.einsum("ij,ij->i", inverse, inverse) + side.multiplier**-2.0)
    H -= (pull.T * (weight / fall)) @ pull
