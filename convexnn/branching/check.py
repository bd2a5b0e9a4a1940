"""The check of a branch and bound tree: the parts cover the set, and every part is bounded by its own evidence.

The multiplier of row r holds ``row{r}/tree`` (see `convexnn.branching.tree`) and, for the i-th leaf of that list, the
evidence of its method under ``row{r}/leaf{i}/``, where the method sees a query of one row, ``row0``. Keys that belong
to no row are evidence for bounds of the layers on the whole set; it is read once, for all leaves.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import LeakyReLU, ReLU
from convexnn.branching.methods import METHODS
from convexnn.branching.tree import Leaf, no_signs, read_tree
from convexnn.exceptions import CertificateError
from convexnn.propagation.layer_bounds import read_bounds
from convexnn.propagation.query import Query
from convexnn.relaxations.tightening import known_evidence

Array = NDArray[np.float64]
Multiplier = Mapping[str, Array]


def check(query: Query, multiplier: Multiplier) -> Array:
    """Upper bounds ``max over leaves of the leaf's checked bound``, one a row, from any multiplier.

    Implements: convexnn, Proposition 1 of theory/branching, evaluated.

    Parameters
    ----------
    query : Query
    multiplier : mapping
        As written by `convexnn.branching.search.propose`; anything else gives valid bounds or ``inf``.

    Returns
    -------
    array, shape (q,)
        ``inf`` for a row without a readable tree or with a leaf whose evidence is missing or bad; ``-inf`` for a row
        whose leaves are all proved empty.
    """
    if not isinstance(query.network.activation, ReLU | LeakyReLU):
        return np.full(query.n_rows, np.inf)
    shared, groups = _grouped(multiplier)
    known = known_evidence(query, read_bounds(query, shared))
    found = [_row(query.rows(r), groups.get(f"row{r}", {}), known) for r in range(query.n_rows)]
    return np.array(found, dtype=np.float64)


def _grouped(multiplier: Multiplier) -> tuple[dict[str, Array], dict[str, dict[str, Array]]]:
    shared: dict[str, Array] = {}
    groups: dict[str, dict[str, Array]] = {}
    for key, value in multiplier.items():
        head, slash, rest = key.partition("/")
        if slash and head.startswith("row") and head[3:].isdecimal():
            groups.setdefault(head, {})[rest] = value
        else:
            shared[key] = value
    return shared, groups


def _row(query: Query, own: Multiplier, known: Multiplier) -> float:
    start = no_signs(query.network.n_hidden) if query.signs is None else query.signs
    leaves = read_tree(own["tree"], start) if "tree" in own else None
    if leaves is None:
        return np.inf
    parts = _by_leaf(own)
    worst = -np.inf
    for index, leaf in enumerate(leaves):
        worst = max(worst, _leaf(query, leaf, {**parts.get(f"leaf{index}", {}), **known}))
        if worst == np.inf:
            break
    return worst


def _by_leaf(own: Multiplier) -> dict[str, dict[str, Array]]:
    parts: dict[str, dict[str, Array]] = {}
    for key, value in own.items():
        head, slash, rest = key.partition("/")
        if slash:
            parts.setdefault(head, {})[rest] = value
    return parts


def _leaf(query: Query, leaf: Leaf, multiplier: Multiplier) -> float:
    if not 0 <= leaf.method < len(METHODS):
        return np.inf
    try:
        value = float(METHODS[leaf.method].check(query.with_signs(leaf.signs), multiplier)[0])
    except (CertificateError, TypeError, ValueError):  # arrays of a wrong shape, or none of numbers
        return np.inf
    return np.inf if np.isnan(value) else value
