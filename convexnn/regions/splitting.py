"""Best-first search for parts of a region on which majorants are sharp: branching on the ranges of directions."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.regions.check import majorant_offsets
from convexnn.regions.newton import Majorants, best_majorants
from convexnn.regions.ridges import Ridges
from convexnn.regions.splits import LEAF, Range, divided, restricted

Array = NDArray[np.float64]

MAX_LEAVES = 4000
EDGE = 0.05  # of a range: splits of smooth units keep away from its ends


@dataclass(eq=False)
class _Part:
    """A node of the search: ranges, the best majorants on them, and its two parts with where they meet."""

    ranges: Range
    found: Majorants
    split: tuple[int, float] = (LEAF, 0.0)
    below: _Part | None = None
    above: _Part | None = None


@dataclass(frozen=True, eq=False)
class Splitting:
    """The evidence of a tree, its bound as found, the best value attained and from where, its leaves, a status."""

    evidence: dict[str, Array] = field(repr=False)
    bound: float
    lower: float
    point: Array = field(repr=False)
    leaves: int
    status: str


def split_region(
    coarse: Ridges,
    fine: Ridges,
    attack: Callable[[Array], float],
    *,
    tol: float = 1e-4,
    deadline: float = np.inf,
    max_leaves: int = MAX_LEAVES,
) -> Splitting:
    """Split the ranges of directions, the part with the largest bound first, until bound and attack meet.

    Parameters
    ----------
    coarse, fine : Ridges
        Pieces for the solver and for the proof (the same but for smooth units).
    attack : callable
        Largest value found from a point of the unit variable (r,), in float64.
    tol : float
        On the gap, relative to the size of the bound.
    deadline : float
        ``time.monotonic()``.
    max_leaves : int
    """
    G = len(coarse.reach)

    def bounded(ranges: Range, target: float) -> _Part:
        part = restricted(coarse, ranges)
        found = best_majorants(part, tol=0.1 * tol, deadline=deadline, stop_below=target)
        return _Part(ranges, found)

    edge = np.full(G, np.inf)
    root = bounded((-edge, edge), -np.inf)
    best = attack(root.found.point), root.found.point
    heap, count, leaves = [(-root.found.bound, 0, root)], 1, 1
    while True:
        bound, top = -heap[0][0], heap[0][2]
        gap = tol * max(abs(bound), 1e-12)
        if bound <= best[0] + gap or leaves >= max_leaves or time.monotonic() >= deadline:
            break
        heapq.heappop(heap)
        split = _choose(coarse, fine, top)
        if split is None:
            heapq.heappush(heap, (-bound, count, top))
            break
        top.split = split
        parts = [bounded(ranges, best[0] + 0.5 * gap) for ranges in divided(top.ranges, *split)]
        top.below, top.above = parts
        for part in parts:
            best = max(best, (attack(part.found.point), part.found.point), key=lambda pair: pair[0])
            heapq.heappush(heap, (-min(bound, part.found.bound), count, part))
            count += 1
        leaves += 1
    status = "optimal" if bound <= best[0] + gap else ("time_limit" if time.monotonic() >= deadline else "max_iter")
    return Splitting(_evidence(root), bound, *best, leaves, status)


def _choose(coarse: Ridges, fine: Ridges, part: _Part) -> tuple[int, float] | None:
    """The group whose majorant lies highest above its function at the relaxed maximizer, and where to split it."""
    al, be, point = part.found.curvature, part.found.slope, part.found.point
    own = restricted(fine, part.ranges)
    low = np.maximum(np.where(own.exists, own.lower, np.inf).min(axis=1), -own.reach)
    high = np.minimum(np.where(own.exists, own.upper, -np.inf).max(axis=1), own.reach)
    mean = np.clip(own.directions @ point, low, high)
    a = mean[:, None]
    inside = own.exists & (own.lower <= a) & (a <= own.upper)
    values = np.where(inside, (own.curves * a + own.slopes) * a + own.intercepts, -np.inf).max(axis=1)
    height = (al * mean + be) * mean + majorant_offsets(own, al, be) - values
    height += al * np.maximum(part.found.variance, 0.0)
    height = np.where((high > low) & np.isfinite(height), height, -np.inf)
    for g in np.argsort(-height):
        if not np.isfinite(height[g]):
            return None
        kinks = coarse.lower[g][np.isfinite(coarse.lower[g])] if not coarse.curves[g].any() else np.empty(0)
        kinks = kinks[(kinks > low[g]) & (kinks < high[g])]
        if len(kinks):
            return int(g), float(kinks[np.argmin(np.abs(kinks - mean[g]))])
        width = high[g] - low[g]
        value = float(np.clip(mean[g], low[g] + EDGE * width, high[g] - EDGE * width))
        if low[g] < value < high[g]:
            return int(g), value
    return None


def _evidence(root: _Part) -> dict[str, Array]:
    """The tree in preorder; parts better than what they were divided into stay whole."""
    rows: list[tuple[float, float]] = []
    leaves: list[Majorants] = []
    stack = [root]
    while stack:
        part = stack.pop()
        if part.below is None or part.above is None or _proved(part) == part.found.bound:
            rows.append((LEAF, 0.0))
            leaves.append(part.found)
            continue
        rows.append(part.split)
        stack += [part.above, part.below]
    rho = np.array([leaf.rho for leaf in leaves])
    return {
        "tree": np.array(rows, dtype=np.float64).reshape(-1, 2),
        "curvature": np.array([leaf.curvature for leaf in leaves]),
        "slope": np.array([leaf.slope for leaf in leaves]),
        "rho": rho[:, :1] if (rho == rho[:, :1]).all() else rho,
    }


def _proved(part: _Part) -> float:
    """The smaller of the own bound and the larger one of both parts."""
    if part.below is None or part.above is None:
        return part.found.bound
    return min(part.found.bound, max(_proved(part.below), _proved(part.above)))
