"""Trees of branch and bound checked in rational numbers: every leaf by the exact check of its method."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.branching.methods import METHODS
from convexnn.branching.tree import Leaf, no_signs, read_tree
from convexnn.exceptions import CertificateError
from convexnn.propagation import Query, read_bounds
from convexnn.relaxations.tightening import known_evidence
from convexnn.verification.exact_bounds import ExactBounds
from convexnn.verification.exact_methods import KNOWN_CHECKS
from convexnn.verification.exact_numbers import Rationals
from convexnn.verification.exact_refined import exact_read

Array = NDArray[np.float64]
Multiplier = Mapping[str, Array]


def exact_tree(query: Query, multiplier: Multiplier) -> Rationals | None:
    """Largest of the leaves' bounds for every row (q,); None where all leaves of all rows are empty.

    Every leaf is bounded between the bounds of its own signs, and of the whole set where the tree has evidence for
    those: the bounds that its multipliers were found for. Tighter ones are valid too, but may give a looser result.

    Implements: convexnn, Proposition 1 of theory/branching, evaluated in rational numbers.

    Parameters
    ----------
    query : Query
    multiplier : mapping
        As for `convexnn.branching.check.check`.

    Raises
    ------
    CertificateError
        When a row has no tree that can be read, or a leaf no exact check; or when one row is empty and another is not.
    """
    shared = {key: value for key, value in multiplier.items() if not key.startswith("row")}
    known = known_evidence(query, read_bounds(query, shared))
    whole = exact_read(query, shared) if known else None
    found = [_row(query.rows(row), _under(multiplier, f"row{row}/"), whole, known) for row in range(query.n_rows)]
    empty = [value is None for value in found]
    if all(empty):
        return None
    if any(empty):
        raise CertificateError("The trees of the rows contradict each other: only some say that the set is empty.")
    return np.array(found, dtype=object)


def _row(query: Query, own: Multiplier, whole: ExactBounds | None, known: Multiplier) -> Any:
    start = no_signs(query.network.n_hidden) if query.signs is None else query.signs
    leaves = read_tree(own["tree"], start) if "tree" in own else None
    if leaves is None:
        raise CertificateError("The multiplier holds no tree that can be read.")
    worst: Any = None
    for index, leaf in enumerate(leaves):
        value = _leaf(query.with_signs(leaf.signs), leaf, {**_under(own, f"leaf{index}/"), **known}, whole)
        if value is not None:
            worst = value[0] if worst is None else max(worst, value[0])
    return worst


def _leaf(query: Query, leaf: Leaf, multiplier: Multiplier, whole: ExactBounds | None) -> Rationals | None:
    if not 0 <= leaf.method < len(METHODS) or METHODS[leaf.method].name not in KNOWN_CHECKS:
        raise CertificateError(f"A leaf names a method without exact check: {leaf.method}.")
    bounds = exact_read(query, multiplier)
    if whole is not None:
        bounds = bounds.intersect(whole)
    if bounds.empty:
        return None
    return KNOWN_CHECKS[METHODS[leaf.method].name](query, multiplier, bounds, read_bounds(query, multiplier))


def _under(multiplier: Multiplier, start: str) -> dict[str, Array]:
    return {key.removeprefix(start): value for key, value in multiplier.items() if key.startswith(start)}
