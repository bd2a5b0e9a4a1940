"""Attacks on properties: points of a box where all rows of a case are as large as possible."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.exchange import Case
from convexnn.network import Network

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

#: Step lengths in half widths of the box, first and last.
FIRST, LAST = 1.0, 0.01


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of several cases, one after the other.

    Attributes
    ----------
    rows, input_rows, offset : arrays, shapes (q, k), (q, d), (q,)
    member : bool array, shape (cases, q)
        Which rows are those of a case.
    """

    rows: Array
    input_rows: Array
    offset: Array
    member: NDArray[np.bool_]

    @classmethod
    def of(cls, cases: Sequence[Case]) -> Rows:
        """All rows of the cases."""
        owner = np.repeat(np.arange(len(cases)), [len(case.rows) for case in cases])
        return cls(
            np.vstack([case.rows for case in cases]),
            np.vstack([case.input_rows for case in cases]),
            np.concatenate([case.offset for case in cases]),
            owner[None] == np.arange(len(cases))[:, None],
        )

    def values(self, network: Network, X: Array) -> Array:
        """All rows at inputs (n, d), shape (n, q)."""
        return np.asarray(network(X).reshape(len(X), -1) @ self.rows.T + X @ self.input_rows.T + self.offset)


@dataclass(frozen=True, eq=False)
class Climb:
    """The best point of every path.

    Attributes
    ----------
    points : array, shape (n, d)
    values : array, shape (n,)
        Of the smallest row of its case.
    weights : array, shape (n, q)
        How often each row was the smallest one along the path: multipliers worth a try in a proof.
    """

    points: Array
    values: Array
    weights: Array


def climb(network: Network, rows: Rows, box: tuple[Array, Array], cases: Indices, start: Array, steps: int) -> Climb:
    """Signed gradient steps on the smallest row of the case, which ties share; one path a starting point.

    Parameters
    ----------
    network : Network
    rows : Rows
    box : pair of arrays, shape (n, d) or (d,)
    cases : int array, shape (n,)
        The case of each path.
    start : array, shape (n, d)
        Inside the boxes.
    steps : int
    """
    lower, upper = box
    half = 0.5 * (upper - lower)
    x, best, value = start, start, np.full(len(start), -np.inf)
    total = np.zeros((len(start), len(rows.rows)))
    for length in np.append(np.geomspace(FIRST, LAST, max(steps, 1)), 0.0)[-steps - 1 :]:
        found = np.where(rows.member[cases], rows.values(network, x), np.inf)
        smallest = found.min(axis=1, initial=np.inf)
        best = np.where((smallest > value)[:, None], x, best)
        value = np.maximum(value, smallest)
        share = _shares(found, smallest)
        total += share
        gradient = pull_back(network, x, share @ rows.rows) + share @ rows.input_rows
        x = np.clip(x + length * half * np.sign(gradient), lower, upper)
    norm = total.sum(axis=1, keepdims=True)
    return Climb(best, value, total / np.where(norm > 0, norm, 1.0))


def _shares(found: Array, smallest: Array) -> Array:
    """Weights of the rows near the smallest one, shape (n, q), summing to one."""
    gap = np.where(np.isfinite(found), found - smallest[:, None], 0.0)
    spread = gap.sum(axis=1, keepdims=True) / np.maximum((gap > 0).sum(axis=1, keepdims=True), 1)
    weight = np.where(np.isfinite(found), np.exp(-4.0 * gap / np.where(spread > 0, spread, 1.0)), 0.0)
    norm = weight.sum(axis=1, keepdims=True)
    return np.asarray(weight / np.where(norm > 0, norm, 1.0))


def pull_back(network: Network, X: Array, weights: Array) -> Array:
    """Gradients of ``weights f(x)``, one row of weights (n, k) a point, shape (n, d)."""
    G = weights @ network.layers[-1][0]
    for (W, _), z in reversed(list(zip(network.layers[:-1], network.pre_activations(X), strict=True))):
        G = (G * network.activation.derivative(z)) @ W
    return np.asarray(G)
