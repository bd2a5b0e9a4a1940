"""Parts of a region where the directions of a network have smaller ranges: covers, and bounds on all parts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import CertificateError
from convexnn.inputs import real_or_nan
from convexnn.regions.check import proved_bound
from convexnn.regions.exact import ExactRidges
from convexnn.regions.ridges import Ridges

Array = NDArray[np.float64]
Range = tuple[Array, Array]
LEAF = -1


def restricted(parts: Ridges, ranges: Range) -> Ridges:
    """The same functions where every ``a_g`` lies between two numbers, arrays (G,)."""
    lower, upper = np.maximum(parts.lower, ranges[0][:, None]), np.minimum(parts.upper, ranges[1][:, None])
    none = ~(lower <= upper) | ~parts.exists
    return replace(parts, lower=np.where(none, np.inf, lower), upper=np.where(none, -np.inf, upper))


def read_splits(rows: ArrayLike, n_groups: int) -> list[Range] | None:
    """Ranges of the leaves of a tree, which cover the region; None where the list is not exactly one tree.

    Rows in preorder: ``(g, t)`` splits group g at t, the tree of ``a_g <= t`` follows, then the one of ``a_g >= t``;
    ``(-1, 0)`` is a leaf. Whatever can be read covers every point.

    Parameters
    ----------
    rows : array, shape (nodes, 2)
        Anything; not believed.
    n_groups : int
    """
    try:
        table = real_or_nan(rows)
    except (TypeError, ValueError):
        return None
    if table.ndim != 2 or table.shape[1] != 2 or not np.isfinite(table).all():
        return None
    edge = np.full(n_groups, np.inf)
    waiting: list[Range] = [(-edge, edge)]
    leaves: list[Range] = []
    for group, value in table.tolist():
        if not waiting:
            return None
        ranges = waiting.pop()
        if group == LEAF:
            leaves.append(ranges)
        elif group in range(n_groups):
            waiting += reversed(divided(ranges, int(group), value))
        else:
            return None
    return None if waiting else leaves


def divided(ranges: Range, group: int, value: float) -> tuple[Range, Range]:
    """The parts below and above a value of one group."""
    low, high = (end.copy() for end in ranges)
    high[group], low[group] = min(high[group], value), max(low[group], value)
    return (ranges[0], high), (low, ranges[1])


def splits_bound(parts: Ridges, multiplier: Mapping[str, ArrayLike]) -> float:
    """Upper bound over the whole region: the largest one of the parts of a tree, each from majorants of its own.

    A part on which some group has no range left within its reach is empty.

    Implements: convexnn, Proposition 7 of theory/region_bounds.md, parts of a region.

    Parameters
    ----------
    parts : Ridges
    multiplier : mapping
        ``"tree"`` (nodes, 2), ``"curvature"`` and ``"slope"`` (leaves, G), ``"rho"`` (leaves, r) or (leaves, 1).

    Returns
    -------
    float
        ``inf`` without a readable tree; ``-inf`` where all parts are empty.

    Raises
    ------
    CertificateError
        For missing arrays and wrong shapes.
    """
    G, r = parts.directions.shape
    worst = -np.inf
    for ranges, *own in _leaves(multiplier, G, r):
        if _nothing(parts, ranges):
            continue
        worst = max(worst, proved_bound(restricted(parts, ranges), *own))
        if worst == np.inf:
            break
    return worst


def _nothing(parts: Ridges, ranges: Range) -> bool:
    """Whether a group cannot reach its range; where no piece is there, pieces may also be beyond float64."""
    low, high = ranges
    return bool(((low > high) | (low > parts.reach) | (high < -parts.reach)).any())


def exact_splits_bound(parts: ExactRidges, multiplier: Mapping[str, ArrayLike]) -> Fraction | None:
    """The same over the rational numbers; None where a part is not proved.

    Implements: convexnn, Propositions 4 and 7 of theory/region_bounds.md, rational bounds of parts.

    Raises
    ------
    CertificateError
        For missing arrays and wrong shapes.
    """
    worst: Fraction | None = None
    for ranges, al, be, rho in _leaves(multiplier, len(parts.directions), len(parts.directions[0])):
        if parts.nothing(ranges):
            continue
        found = parts.bound(al, be, rho, ranges)
        if found is None:
            return None
        worst = found if worst is None else max(worst, found)
    return worst


def _leaves(multiplier: Mapping[str, ArrayLike], G: int, r: int) -> Iterator[tuple[Range, Array, Array, Array]]:
    """Ranges and majorants of all leaves; without a readable tree one leaf that proves nothing."""
    try:
        leaves = read_splits(multiplier["tree"], G)
        al, be, rho = (real_or_nan(multiplier[key]) for key in ("curvature", "slope", "rho"))
    except (KeyError, TypeError, ValueError) as error:
        raise CertificateError(f"The tree of a certificate cannot be read: {error}") from error
    if leaves is None:
        edge = np.full(G, np.inf)
        yield (-edge, edge), np.full(G, np.nan), np.full(G, np.nan), np.full(r, np.nan)
        return
    n = len(leaves)
    if al.shape != (n, G) or be.shape != (n, G) or rho.shape not in ((n, r), (n, 1)):
        raise CertificateError("The majorants of a tree do not fit its leaves.")
    yield from zip(leaves, al, be, np.broadcast_to(rho, (n, r)), strict=True)
