"""Nodes of the search: a part of the set, the best bound known for it, and how to get a better one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.propagation.query import Query

Array = NDArray[np.float64]


@dataclass
class Node:
    """A part of the set and what is known about it.

    Attributes
    ----------
    query : Query
        One row, with the signs of the part.
    layers : LayerBounds
        Of the pre-activations on this part.
    bound : float
        The smallest checked bound.
    method : int
        Number of the method that gave it.
    multiplier : mapping
        Its evidence.
    stage : int
        How many of the methods were tried.
    scores : tuple of arrays (units,)
        How much a split of each unit promises.
    children : tuple of Node
        The part with pre-activation >= 0 and the one with <= 0 of the unit ``split``; empty for a leaf.
    """

    query: Query
    layers: LayerBounds
    bound: float
    method: int = 0
    multiplier: Mapping[str, Array] = field(default_factory=dict)
    stage: int = 0
    scores: tuple[Array, ...] = ()
    split: tuple[int, int] = (-1, -1)
    children: tuple[Node, ...] = ()

    def proved(self) -> float:
        """The smaller of the own bound and the larger one of the children."""
        if not self.children:
            return self.bound
        return min(self.bound, max(child.proved() for child in self.children))

    def undecided(self) -> tuple[NDArray[np.intp], ...]:
        """Units of each layer that change sign on the part, as far as is known."""
        return tuple(
            np.flatnonzero((low < 0) & (high > 0))
            for low, high in zip(self.layers.lower, self.layers.upper, strict=True)
        )


def evidence_of(root: Node, row: int) -> dict[str, Array]:
    """The multiplier of a searched tree under the keys of one row; nodes better than their children become leaves.

    Evidence for the bounds of the layers is left out: it is shared by all parts.
    """
    rows: list[tuple[float, float]] = []
    found: dict[str, Array] = {}
    todo, leaves = [root], 0
    while todo:
        node = todo.pop()
        if node.children and max(child.proved() for child in node.children) < node.bound:
            rows.append(node.split)
            todo += [node.children[1], node.children[0]]
            continue
        rows.append((-1, node.method))
        for key, value in node.multiplier.items():
            if not key.startswith("bounds/"):
                found[f"row{row}/leaf{leaves}/{key}"] = value
        leaves += 1
    found[f"row{row}/tree"] = np.array(rows, dtype=np.float64).reshape(-1, 2)
    return found
