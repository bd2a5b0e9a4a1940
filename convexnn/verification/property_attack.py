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
    """Paths that raise the smallest row of their case, one a starting point.

    Signed gradient steps; with several rows every other path takes conditional gradient steps on a soft minimum that
    hardens, fast or slowly, which settle where rows balance, while signed steps go to and fro there.

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
    walks = ((rows.member.sum(axis=1)[cases] > 1) & (np.arange(len(cases)) % 2 == 0))[:, None]
    fast = (np.arange(len(cases)) % 4 == 0)[:, None]
    x, best, value = start, start, np.full(len(start), -np.inf)
    total = np.zeros((len(start), len(rows.rows)))
    first = np.zeros((len(start), 1))
    for i, length in enumerate(np.append(np.geomspace(FIRST, LAST, max(steps, 1))[:steps], 0.0)):
        found = np.where(rows.member[cases], rows.values(network, x), np.inf)
        smallest = found.min(axis=1, initial=np.inf)
        best = np.where((smallest > value)[:, None], x, best)
        value = np.maximum(value, smallest)
        if i == steps:
            break
        gap = np.where(np.isfinite(found), found - smallest[:, None], 0.0)
        spread = gap.sum(axis=1, keepdims=True) / np.maximum((gap > 0).sum(axis=1, keepdims=True), 1)
        first = spread if i == 0 else first
        share = _shares(found, gap, np.where(walks, first / np.where(fast, 1.0 + i, np.sqrt(1.0 + i)), 0.25 * spread))
        total += share
        gradient = pull_back(network, x, share @ rows.rows) + share @ rows.input_rows
        corner = np.where(gradient > 0, upper, np.where(gradient < 0, lower, x))
        signed = np.clip(x + length * half * np.sign(gradient), lower, upper)
        x = np.where(walks, np.clip(x + 2.0 / (i + 2.0) * (corner - x), lower, upper), signed)
    norm = total.sum(axis=1, keepdims=True)
    return Climb(best, value, total / np.where(norm > 0, norm, 1.0))


def _shares(found: Array, gap: Array, scale: Array) -> Array:
    """Weights of the rows near the smallest one, shape (n, q), summing to one."""
    with np.errstate(over="ignore"):
        weight = np.exp(-gap / np.where(scale > 0, scale, 1.0))
    weight = np.where(np.isfinite(found), weight, 0.0)
    norm = weight.sum(axis=1, keepdims=True)
    return np.asarray(weight / np.where(norm > 0, norm, 1.0))


def pull_back(network: Network, X: Array, weights: Array) -> Array:
    """Gradients of ``weights f(x)``, one row of weights (n, k) a point, shape (n, d)."""
    G = weights @ network.layers[-1][0]
    for (W, _), z in reversed(list(zip(network.layers[:-1], network.pre_activations(X), strict=True))):
        G = (G * network.activation.derivative(z)) @ W
    return np.asarray(G)
