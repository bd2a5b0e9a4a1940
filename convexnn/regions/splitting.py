"""Best-first search for parts of a region on which majorants are sharp: branching on the ranges of directions."""

from __future__ import annotations

import heapq
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.regions.check import majorant_offsets
from convexnn.regions.newton import ZERO, Majorants, best_majorants, variation
from convexnn.regions.ridges import Ridges
from convexnn.regions.splits import LEAF, Range, divided, restricted
from convexnn.rigorous import TINY

Array = NDArray[np.float64]

MAX_LEAVES = 20_000
EDGE = 0.05  # of a range: splits of smooth units keep away from its ends
NOISE = 1e-3  # of the gap, all groups together: heights that no split is worth
SHARE = 0.2  # of what a split gains on average, and of what is open: bounds of parts need not be known better


@dataclass(eq=False)
class _Part:
    """A node of the search: ranges, the best majorants on them, where it was split, and its two parts (indices)."""

    ranges: Range
    found: Majorants
    sharp: bool = False  # the majorants are as good as the solver can
    split: tuple[int, float] = (LEAF, 0.0)
    parts: tuple[int, int] | None = None


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
    lower: float = -np.inf,
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
    lower : float
        A value that was attained already: parts below it are left alone.
    tol : float
        On the gap, relative to the size of the bound (at least 1e-4 of what all groups can vary by).
    deadline : float
        ``time.monotonic()``.
    max_leaves : int
    """
    least = 64.0 * (sum(coarse.directions.shape) + 2) ** 2 * TINY  # what every proof adds for products that vanish
    search = _Search(coarse, fine, attack, tol, deadline, ZERO * variation(coarse), least, lower=lower)
    status = search.run(max_leaves)
    return Splitting(evidence(search.parts), search.bound, search.lower, search.point, search.leaves, status)


@dataclass(eq=False)
class _Search:
    """All parts in the order in which they were made, those that are whole by their bounds, and the best value."""

    coarse: Ridges
    fine: Ridges
    attack: Callable[[Array], float]
    tol: float
    deadline: float
    floor: float  # size below which bounds count as zero
    least: float = 0.0  # a gap that is all underflow: no split makes it smaller
    parts: list[_Part] = field(default_factory=list)
    heap: list[tuple[float, int]] = field(default_factory=list)
    lower: float = -np.inf
    point: Array = field(default_factory=lambda: np.zeros(0))
    gain: float = 0.0  # of a split, on average over the last ones

    @property
    def bound(self) -> float:
        """Of the whole region, as found."""
        return -self.heap[0][0]

    @property
    def gap(self) -> float:
        """Between bound and attack, small enough."""
        return max(self.tol * max(abs(self.bound) if np.isfinite(self.bound) else 0.0, self.floor), self.least)

    @property
    def leaves(self) -> int:
        """Parts that are whole."""
        return len(self.heap)

    def run(self, max_leaves: int) -> str:
        """Split the worst part until something ends it; what it was."""
        edge = np.full(len(self.coarse.reach), np.inf)
        self._keep(self._solved((-edge, edge)), np.inf)
        while self.bound > self.lower + self.gap:
            if time.monotonic() >= self.deadline:
                return "time_limit"
            if self.leaves >= max_leaves:
                return "max_leaves"
            bound, number, gap = self.bound, self.heap[0][1], self.gap
            part = self.parts[number]
            split = _choose(self.coarse, self.fine, part, NOISE * gap)
            if split is None and part.sharp:
                return "stalled"
            heapq.heappop(self.heap)
            if split is None:
                again = self._solved(part.ranges)
                part.found, part.sharp = min(part.found, again.found, key=lambda found: found.bound), True
                heapq.heappush(self.heap, (-min(bound, part.found.bound), number))
                continue
            part.split, part.parts = split, (len(self.parts), len(self.parts) + 1)
            known, enough = SHARE * min(self.gain, bound - self.lower), self.lower + 0.5 * gap
            below = [self._solved(ranges, known, enough) for ranges in divided(part.ranges, *split)]
            for one in below:
                self._keep(one, bound)
            gain = bound - 0.5 * sum(min(bound, one.found.bound) for one in below)
            self.gain += 0.1 * (gain - self.gain) if np.isfinite(gain) else 0.0
        return "optimal"

    def _solved(self, ranges: Range, accuracy: float = 0.0, target: float = -np.inf) -> _Part:
        found = best_majorants(restricted(self.coarse, ranges), tol=0.1 * self.tol, deadline=self.deadline,
                               stop_below=target, accuracy=accuracy)  # fmt: skip
        return _Part(ranges, replace(found, second_moments=np.zeros((0, 0))), accuracy == 0.0)

    def _keep(self, part: _Part, bound: float) -> None:
        """Store a part, no worse than what it is a part of, and attack from its relaxed maximizer if that can help."""
        heapq.heappush(self.heap, (-min(bound, part.found.bound), len(self.parts)))
        self.parts.append(part)
        if part.found.bound <= self.lower:
            return
        value = self.attack(part.found.point)
        if value > self.lower or not self.point.size:
            self.lower, self.point = max(value, self.lower), part.found.point


def _choose(coarse: Ridges, fine: Ridges, part: _Part, least: float) -> tuple[int, float] | None:
    """The group whose majorant lies highest above its function on average, and where to split it.

    The average is over two points with the moments of the relaxed maximizer. Heights below ``least`` do not count.
    """
    al, be = part.found.curvature, part.found.slope
    own = restricted(fine, part.ranges)
    low = np.maximum(np.where(own.exists, own.lower, np.inf).min(axis=1), -own.reach)
    high = np.minimum(np.where(own.exists, own.upper, -np.inf).max(axis=1), own.reach)
    mean = np.clip(own.directions @ part.found.point, low, high)
    spread = np.sqrt(np.maximum(part.found.variance, 0.0))
    with np.errstate(invalid="ignore"):
        height = (al * mean + be) * mean + al * spread * spread + majorant_offsets(own, al, be)
        height -= 0.5 * (_values(own, mean - spread) + _values(own, mean + spread))
    height = np.where((high > low) & np.isfinite(height) & (height > least / len(height)), height, -np.inf)
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


def _values(parts: Ridges, a: Array) -> Array:
    """Values of the functions at numbers (G,); beyond their ranges the nearest pieces go on."""
    with np.errstate(invalid="ignore"):
        distance = np.abs(np.clip(a[:, None], parts.lower, parts.upper) - a[:, None])
    distance = np.where(parts.exists, distance, np.inf)
    nearest = parts.exists & (distance <= distance.min(axis=1, keepdims=True))
    values = (parts.curves * a[:, None] + parts.slopes) * a[:, None] + parts.intercepts
    return np.asarray(np.where(nearest, values, -np.inf).max(axis=1))


def evidence(parts: Sequence[_Part]) -> dict[str, Array]:
    """The tree in preorder; parts better than what they were divided into stay whole.

    Parameters
    ----------
    parts : sequence of _Part
        The whole region first, every part before what it was divided into.
    """
    proved = [part.found.bound for part in parts]
    whole = [True] * len(parts)
    for i in range(len(parts) - 1, -1, -1):
        below = parts[i].parts
        if below is not None:
            divided_bound = max(proved[j] for j in below)
            whole[i] = proved[i] <= divided_bound
            proved[i] = min(proved[i], divided_bound)
    rows: list[tuple[float, float]] = []
    leaves: list[Majorants] = []
    stack = [0]
    while stack:
        i = stack.pop()
        below = parts[i].parts
        if whole[i] or below is None:
            rows.append((LEAF, 0.0))
            leaves.append(parts[i].found)
        else:
            rows.append(parts[i].split)
            stack += reversed(below)
    rho = np.array([leaf.rho for leaf in leaves])
    return {
        "tree": np.array(rows, dtype=np.float64).reshape(-1, 2),
        "curvature": np.array([leaf.curvature for leaf in leaves]),
        "slope": np.array([leaf.slope for leaf in leaves]),
        "rho": rho[:, :1] if (rho == rho[:, :1]).all() else rho,
    }
