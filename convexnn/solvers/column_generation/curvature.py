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
from convexnn.solvers.column_generation.worst_cases import BLOCK, Pair, Side, WorstCases

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ActiveBlock:
    """Some terms of one side that matter to the derivative, and what does not depend on the direction.

    Attributes
    ----------
    terms : array of int, shape (t,)
    weight : array, shape (t,)
        Of each worst case in the objective, minus its slope.
    fall : array, shape (t,)
        Derivative of the secular equation in the multiplier, times minus one.
    """

    terms: Indices
    sign: float
    weight: Array
    x: Array
    shift: Array
    inverse: Array
    fall: Array


@dataclass(eq=False)
class Step:
    """What a direction does to a block, kept between the two passes."""

    shift: Array
    multiplier: Array


class Linearization:
    """Derivative of the moments at the last evaluated point.

    Implements: convexnn, Proposition 2 of theory/column_generation.

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
        self.blocks = [
            [block for side in pair.sides for block in self._active(side, weight, live)] for pair in worst.pairs
        ]
        self.spreads = [self._spread(blocks) for blocks in self.blocks]

    def _active(self, side: Side, weight: Array, live: NDArray[np.bool_]) -> list[ActiveBlock]:
        rows = np.flatnonzero(live[side.terms])
        step = max(1, BLOCK // side.X.shape[1])
        return [self._block(side, weight, rows[begin : begin + step]) for begin in range(0, len(rows), step)]

    def _block(self, side: Side, weight: Array, rows: Indices) -> ActiveBlock:
        terms = side.terms[rows]
        t, x, shift = weight[terms], side.attacked[rows], side.shift[rows]
        if self.worst.radius == 0:
            return ActiveBlock(terms, side.sign, t, x, shift[:, :0], shift[:, :0], np.ones(len(t)))
        nu, inverse, multiplier = side.smoothing, side.inverse[rows], side.multiplier[rows]
        fall = 2.0 * np.einsum("ij,ij,ij->i", shift, shift, inverse)
        fall += nu * (np.einsum("ij,ij->i", inverse, inverse) + multiplier**-2.0)
        return ActiveBlock(terms, side.sign, t, x, shift, inverse, fall)

    def _spread(self, blocks: list[ActiveBlock]) -> Array:
        """``nu sum_t weight_t D_t D_t'``, shape (d, d)."""
        d = self.worst.structure.n_features
        if self.worst.radius == 0:
            return np.zeros((d, d))
        total = np.zeros((d, d))
        for block in blocks:
            total += (block.inverse.T * block.weight) @ block.inverse
        return self.worst.smoothing * total

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
        for pair, blocks in zip(self.worst.pairs, self.blocks, strict=True):
            Q, q, h = self.worst.coordinates(self.worst.structure.difference(dM, pair.pair))
            Q, q = pair.basis.T @ Q @ pair.basis, q @ pair.basis
            directions.append(Q)
            steps.append([self._step(block, Q, q, h, changes) for block in blocks])
        weights = bend(changes)
        dG = np.zeros_like(dM)
        for index, pair in enumerate(self.worst.pairs):
            if self.blocks[index]:
                second = -directions[index] * self.spreads[index]
                self._collect(dG, pair, self.blocks[index], steps[index], second, weights)
        return dG

    def _step(self, block: ActiveBlock, Q: Array, q: Array, h: float, changes: Array) -> Step:
        product = block.x @ Q
        change = np.einsum("ij,ij->i", product, block.x) + 2.0 * (block.x @ q) + h
        if self.worst.radius == 0:
            changes[block.terms] = block.sign * change
            return Step(block.shift, np.zeros(len(change)))
        nu, diagonal = self.worst.smoothing, np.diagonal(Q)
        changes[block.terms] = block.sign * (change + nu * (block.inverse @ diagonal))
        shift = product  # in place: the product is not needed any more
        shift += q
        shift *= block.inverse
        shift *= -block.sign
        pull = 2.0 * np.einsum("ij,ij->i", block.shift, shift)
        squared = block.inverse * block.inverse
        pull -= nu * block.sign * (squared @ diagonal)
        multiplier = pull / block.fall
        shift -= block.inverse * block.shift * multiplier[:, None]
        return Step(shift, multiplier)

    def _collect(
        self, dG: Array, pair: Pair, blocks: list[ActiveBlock], made: list[Step], second: Array, ds: Array
    ) -> None:
        first, total, d = np.zeros(len(second)), 0.0, len(second)
        for block, step in zip(blocks, made, strict=True):
            change = ds[block.terms]
            first += block.sign * (change @ block.x)
            total += block.sign * float(change.sum())
            moved = block.x * (0.5 * change)[:, None]
            if self.worst.radius > 0:
                nu = self.worst.smoothing
                first += block.sign * (block.weight @ step.shift)
                moved += np.multiply(step.shift, block.weight[:, None], out=step.shift)
                along = nu * (change @ block.inverse)
                along -= nu * ((block.weight * step.multiplier) @ (block.inverse * block.inverse))
                second[np.diag_indices(d)] += block.sign * along
            half = moved.T @ block.x
            second += block.sign * half
            second += block.sign * half.T
        self.worst.collect(dG, pair, second, first, total)
