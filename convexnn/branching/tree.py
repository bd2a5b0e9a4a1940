"""Decision trees on the signs of units, as lists that can only be read as a cover of the set of inputs.

A tree is an array of two columns in preorder. A row ``(layer, unit)`` splits that unit: the tree of the inputs with
pre-activation >= 0 follows, then the tree of those with <= 0. A row ``(-1, method)`` is a leaf. Every split has both
sides by construction, so whatever can be read covers every input; what cannot be read proves nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.propagation.query import Signs

Array = NDArray[np.float64]
LEAF = -1
LARGEST = 2.0**31


@dataclass(frozen=True, eq=False)
class Leaf:
    """One part of the set.

    Attributes
    ----------
    signs : tuple of int8 arrays
        The signs that describe the part.
    method : int
        Number of the method that bounds it.
    """

    signs: Signs
    method: int


def no_signs(sizes: tuple[int, ...]) -> Signs:
    """Signs that restrict nothing, one int8 array a hidden layer."""
    return tuple(np.zeros(size, dtype=np.int8) for size in sizes)


def with_sign(signs: Signs, layer: int, unit: int, sign: int) -> Signs:
    """The signs with one of them set; nothing is shared that could be written to."""
    changed = signs[layer].copy()
    changed[unit] = sign
    return (*signs[:layer], changed, *signs[layer + 1 :])


def read_tree(rows: ArrayLike, start: Signs) -> tuple[Leaf, ...] | None:
    """Leaves in order, or None where the list is not exactly one tree.

    Implements: convexnn, Proposition 1 of theory/branching: a list that can be read covers the set.

    Parameters
    ----------
    rows : array, shape (nodes, 2)
        Anything; not believed.
    start : tuple of int8 arrays
        Signs that hold already; a unit with a sign is not split again.
    """
    try:
        table = np.asarray(rows, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    if table.ndim != 2 or table.shape[1] != 2 or not np.all(np.abs(table) < LARGEST):  # nan fails too
        return None
    if not np.array_equal(table, np.rint(table)):
        return None
    open_parts, leaves = [start], []
    for layer, unit in table.astype(int).tolist():
        if not open_parts:
            return None
        signs = open_parts.pop()
        if layer == LEAF:
            leaves.append(Leaf(signs, unit))
        elif 0 <= layer < len(signs) and 0 <= unit < len(signs[layer]) and signs[layer][unit] == 0:
            open_parts += [with_sign(signs, layer, unit, -1), with_sign(signs, layer, unit, 1)]
        else:
            return None
    return None if open_parts else tuple(leaves)
