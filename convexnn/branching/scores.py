"""Which unit to split: what its relaxation costs the bound, by a backward pass or by the moments of a relaxation."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from convexnn.branching.node import Node
from convexnn.relaxations.tightening import unit_scores

Array = NDArray[np.float64]


def by_layer(found: tuple[NDArray[np.intp], NDArray[np.intp], Array], sizes: tuple[int, ...]) -> tuple[Array, ...]:
    """Scores of some units, given as layers, units and numbers, one array a layer; zero for the others."""
    scores = tuple(np.zeros(size) for size in sizes)
    for layer, unit, score in zip(*found, strict=True):
        scores[layer][unit] = score
    return scores


def choose(node: Node) -> tuple[int, int] | None:
    """The undecided unit with the best score; heights of triangles where the scores of the node are silent."""
    undecided = node.undecided()
    if not any(len(units) for units in undecided):
        return None
    for scores in (node.scores, unit_scores(node.query, node.layers)):
        found = _best(scores, undecided)
        if found is not None:
            return found
    layer = next(k for k, units in enumerate(undecided) if len(units))
    return layer, int(undecided[layer][0])


def _best(scores: Sequence[Array], undecided: Sequence[NDArray[np.intp]]) -> tuple[int, int] | None:
    if len(scores) != len(undecided):
        return None
    best, where = 0.0, None
    for k, units in enumerate(undecided):
        own = np.where(np.isnan(scores[k][units]), 0.0, scores[k][units])
        if len(units) and own.max() > best:
            best, where = float(own.max()), (k, int(units[np.argmax(own)]))
    return where
