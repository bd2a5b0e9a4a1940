"""How worst cases and their moments change with the matrices of the scores: the second derivative, as a product.

With ``(s Q + mu) e = -s (Q x + q)`` for the mean attack, ``nu (s Q + mu)^-1`` for its covariance and ``mu`` from
``|e|^2 + tr + nu / mu = radius^2``, everything is differentiated in the eigenbasis, where the matrix to be inverted is
diagonal. Two products of size (N, d, d) serve one direction; no eigendecomposition and no search for multipliers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.structure import Indices
from convexnn.solvers.column_generation.worst_cases import Pair, Side, WorstCases

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ActiveSide:
    """Terms of one side that matter to the derivative, and what does not depend on the direction.

    Attributes
    ----------
    terms : array of int, shape (t,)
    weight : array, shape (t,)
        Of each worst case in the objective, minus its slope.
    fall : array, shape (t,)
        Derivative of the secular equation in the multiplier, times minus one.
    spread : array, shape (d, d)
        ``nu sum_t weight_t D_t D_t'``.
    """

    terms: Indices
    sign: float
    weight: Array
    x: Array
    shift: Array
    inverse: Array
    fall: Array
    spread: Array


@dataclass(eq=False)
class Step:
    """What a direction does to one side: products kept between the two passes."""

    product: Array
    shift: Array
    multiplier: Array


class Linearization:
    """Derivative of the moments at the last evaluated point.

    Parameters
    ----------
    worst : WorstCases
        Just evaluated.
    weight : array, shape (N,)
        Nonnegative weights of the worst cases.
    bending : array of bool, shape (N,)
        Terms whose weight changes with their worst case.
    """

    def __init__(self, worst: WorstCases, weight: Array, bending: NDArray[np.bool_]) -> None:
        self.worst = worst
        live = bending | (weight > 0)
        self.sides = [
            [self._active(side, weight, live) for side in pair.sides if live[side.terms].any()] for pair in worst.pairs
        ]

    def _active(self, side: Side, weight: Array, live: NDArray[np.bool_]) -> ActiveSide:
        rows = np.flatnonzero(live[side.terms])
        terms, d = side.terms[rows], side.X.shape[1]
        t, x, shift = weight[terms], side.attacked[rows], side.shift[rows]
        if self.worst.radius == 0:
            return ActiveSide(terms, side.sign, t, x, shift[:, :0], shift[:, :0], np.ones(len(t)), np.zeros((d, d)))
        nu, inverse, multiplier = self.worst.smoothing, side.inverse[rows], side.multiplier[rows]
        fall = 2.0 * np.einsum("ij,ij,ij->i", shift, shift, inverse)
        fall += nu * (np.einsum("ij,ij->i", inverse, inverse) + multiplier**-2.0)
        return ActiveSide(terms, side.sign, t, x, shift, inverse, fall, nu * (inverse.T * t) @ inverse)

    def change(self, dM: Array, bend: Callable[[Array], Array]) -> Array:
        """Change of the moments in the direction ``dM`` (C, d + 1, d + 1).

        Parameters
        ----------
        dM : array, shape (C, d + 1, d + 1)
        bend : callable
            Change of the weights (N,) from that of the worst cases (N,).
        """
        steps: list[list[Step]] = []
        changes = np.zeros(self.worst.structure.n_terms)
        directions = []
        for pair, sides in zip(self.worst.pairs, self.sides, strict=True):
            Q, q, h = self.worst.coordinates(self.worst.structure.difference(dM, pair.pair))
            Q, q = pair.basis.T @ Q @ pair.basis, q @ pair.basis
            directions.append(Q)
            steps.append([self._step(side, Q, q, h, changes) for side in sides])
        weights = bend(changes)
        dG = np.zeros_like(dM)
        for pair, sides, made, Q in zip(self.worst.pairs, self.sides, steps, directions, strict=True):
            if sides:
                self._collect(dG, pair, sides, made, Q, weights)
        return dG

    def _step(self, side: ActiveSide, Q: Array, q: Array, h: float, changes: Array) -> Step:
        product = side.x @ Q
        change = np.einsum("ij,ij->i", product, side.x) + 2.0 * (side.x @ q) + h
        if self.worst.radius == 0:
            changes[side.terms] = side.sign * change
            return Step(product, side.shift, np.zeros(len(change)))
        nu, diagonal = self.worst.smoothing, np.diagonal(Q)
        changes[side.terms] = side.sign * (change + nu * (side.inverse @ diagonal))
        shift = product  # in place: the product is not needed any more
        shift += q
        shift *= side.inverse
        shift *= -side.sign
        pull = 2.0 * np.einsum("ij,ij->i", side.shift, shift)
        squared = side.inverse * side.inverse
        pull -= nu * side.sign * (squared @ diagonal)
        multiplier = pull / side.fall
        shift -= side.inverse * side.shift * multiplier[:, None]
        return Step(product, shift, multiplier)

    def _collect(self, dG: Array, pair: Pair, sides: list[ActiveSide], made: list[Step], Q: Array, ds: Array) -> None:
        d = len(Q)
        second, first, total = np.zeros((d, d)), np.zeros(d), 0.0
        for side, step in zip(sides, made, strict=True):
            change = ds[side.terms]
            first += side.sign * (change @ side.x)
            total += side.sign * float(change.sum())
            moved = side.x * (0.5 * change)[:, None]
            if self.worst.radius > 0:
                nu = self.worst.smoothing
                first += side.sign * (side.weight @ step.shift)
                moved += step.shift * side.weight[:, None]
                along = nu * (change @ side.inverse)
                along -= nu * ((side.weight * step.multiplier) @ (side.inverse * side.inverse))
                second[np.diag_indices(d)] += side.sign * along
                second -= Q * side.spread
            half = moved.T @ side.x
            second += side.sign * (half + half.T)
        self.worst.collect(dG, pair, second, first, total)
