"""Bounds on the smallest row of a case over a box, by rows and by convex combinations of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.propagation import InputSet, Query, crown_bounds
from convexnn.propagation.crown import interval_rows, row_bounds
from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.rigorous import gamma
from convexnn.verification.property_attack import Rows

Array = NDArray[np.float64]
Bounder = Callable[[Query], Array]
TINY = float(np.finfo(float).tiny)

#: Step of the differences and of the descent over the weights of a combination.
DIFFERENCE, RATES = 0.05, (2.0, 1.0, 0.5, 0.25)


@dataclass(frozen=True, eq=False)
class BoxBounds:
    """Rigorous bounds over one box.

    Attributes
    ----------
    network : Network
    inputs : InputSet
    layers : LayerBounds
    outputs : array, shape (k,)
        Upper bounds on the absolute values of the outputs.
    """

    network: Network
    inputs: InputSet
    layers: LayerBounds
    outputs: Array

    @classmethod
    def over(cls, network: Network, lower: Array, upper: Array) -> BoxBounds:
        """Backward linear bounds on all layers."""
        inputs = InputSet.box(lower, upper)
        query = Query(network, inputs, np.zeros((1, network.n_outputs)), np.zeros(1))
        layers = crown_bounds(query)
        W, b = network.layers[-1]
        with np.errstate(all="ignore"):
            sizes = np.abs(W) @ layers.layers(query)[-1].reach + np.abs(b)
            return cls(network, inputs, layers, np.nextafter(sizes * (1.0 + 4.0 * gamma(W.shape[1] + 8)), np.inf))

    def of_combinations(self, rows: Rows, weights: Array, bounder: Bounder | None = None) -> Array:
        """Upper bounds on ``max weights (rows f(x) + input_rows x + offset)`` over the box, rounded up.

        A box on which one of them is below zero holds no point where all rows are nonnegative.

        Parameters
        ----------
        rows : Rows
        weights : array, shape (p, q)
            Nonnegative, for the claim about the smallest row.
        bounder : callable (query) -> array, optional
            Rigorous upper bounds on the rows of a query; backward linear bounds by default.

        Returns
        -------
        array, shape (p,)
            ``inf`` where nothing is proved.
        """
        with np.errstate(all="ignore"):
            query = Query(self.network, self.inputs, weights @ rows.rows, weights @ rows.offset)
            found = self._rows(query) if bounder is None else bounder(query)
            inner = weights @ rows.input_rows
            ends = np.maximum(np.abs(self.inputs.lower), np.abs(self.inputs.upper))
            if inner.any():
                found = np.nextafter(found + self.inputs.maximum(inner), np.inf)
            size = np.abs(weights) @ (
                np.abs(rows.rows) @ self.outputs + np.abs(rows.input_rows) @ ends + np.abs(rows.offset)
            )
            terms = len(rows.offset) + max(rows.rows.shape[1], rows.input_rows.shape[1])
            exact = ((weights == 0) | (weights == 1)).all(axis=1) & ((weights != 0).sum(axis=1) == 1)
            slack = np.where(exact, 0.0, 4.0 * gamma(terms + 8) * size + TINY * (1.0 + size))
            found = np.where(slack > 0, np.nextafter(found + slack, np.inf), found)
        return np.where(np.isnan(found), np.inf, found)

    def _rows(self, query: Query) -> Array:
        return np.minimum(row_bounds(query, self.layers), interval_rows(query, self.layers))

    def smallest_rows(
        self, rows: Rows, cases: Sequence[int], hints: Array, rounds: int
    ) -> dict[int, tuple[float, Array]]:
        """Bounds on the smallest rows of cases, each with the weights of the combination that gives it.

        Parameters
        ----------
        rows : Rows
        cases : sequence of int
        hints : array, shape (cases, q)
            Weights worth a try, for all cases of the rows.
        rounds : int
            Steps over the weights; none for a case of one row.
        """
        found: dict[int, tuple[float, Array]] = {}
        unit = np.eye(len(rows.offset))
        singles = self.of_combinations(rows, unit) if len(unit) else np.empty(0)
        for case in cases:
            own = np.flatnonzero(rows.member[case])
            if not len(own):
                found[case] = (np.inf, np.zeros(len(unit)))
                continue
            best = own[int(np.argmin(singles[own]))]
            found[case] = (float(singles[best]), unit[best])
            if len(own) > 1 and rounds and 0 <= found[case][0] < np.inf:
                found[case] = self._combined(rows, own, found[case], hints[case], rounds)
        return found

    def _combined(
        self, rows: Rows, own: NDArray[np.intp], best: tuple[float, Array], hint: Array, rounds: int
    ) -> tuple[float, Array]:
        """Exponentiated steps along differences; the bound is convex in the weights, nearly."""
        unit = np.eye(len(rows.offset))[own]
        weight = 0.9 * hint + 0.1 * unit.mean(axis=0)
        for rate in RATES[:rounds]:
            tried = np.vstack([weight, (1.0 - DIFFERENCE) * weight + DIFFERENCE * unit])
            values = self.of_combinations(rows, tried)
            best = min(best, (float(values.min()), tried[int(np.argmin(values))]), key=lambda pair: pair[0])
            if best[0] < 0 or not np.isfinite(values).all():
                return best
            slope = (values[1:] - values[0]) / DIFFERENCE
            step = np.zeros_like(weight)
            step[own] = weight[own] * np.exp(-rate * slope / max(float(np.abs(slope).max()), TINY))
            weight = step / step.sum()
        value = float(self.of_combinations(rows, weight[None])[0])
        return min(best, (value, weight), key=lambda pair: pair[0])
