r"""Upper bounds on kappa by branch and bound over boxes on the faces of a cube: exact in the limit, for small ranks.

``F(w) = sum_i c_i relu(x_i'w)`` is homogeneous, so it is enough to know it on the faces of ``[-1, 1]^r``. On a box
every pre-activation has an interval; rows with one sign are linear, a row with ``c_i > 0`` lies below its chord and one
with ``c_i < 0`` below each of its supporting lines. What is left is a linear form, whose maximum over unit vectors of a
circular cone around the box is known. Source: docs/theory/global_gap.md, Proposition 3.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convexnn.global_gap.faces import Boxes, cone_bound, tightened
from convexnn.global_gap.kappa import KappaBracket, magnitude
from convexnn.rigorous import gamma

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Boxes bounded at once.
BATCH = 2048
#: Boxes keep a list of their undecided rows once there are at most so many; in steps, so that arrays stay full.
WIDTHS = (4, 8, 16, 32)
#: Boxes smaller than this are not split: their bound is as good as rounding allows.
SMALLEST = 2.0**-44
#: Entries (boxes times undecided rows) that wait at most before the search turns to depth first.
WAITING = 20_000_000
#: Directions handed back.
KEPT = 32
#: Lists up to this width have the slopes of their concave terms optimized.
STEEP = 16


@dataclass
class OneSign:
    """The search for the maximum of ``F(w) / |w|`` with coefficients ``c``: boxes by the number of undecided rows."""

    X: Array
    c: Array
    waiting: dict[int, list[Boxes]] = field(default_factory=dict)
    parked: dict[int, list[Boxes]] = field(default_factory=dict)
    level: float = math.inf
    settled: float = 0.0
    best: float = 0.0
    nodes: int = 0
    found: list[tuple[float, Array]] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Bound the faces."""
        order = np.argsort(self.c <= 0, kind="stable")  # convex terms first
        self.X, self.c = self.X[order], self.c[order]
        self.convex = int((self.c > 0).sum())
        self.error = 32.0 * gamma(2 * len(self.X) + 4 * self.rank + 64) * magnitude(self.X, self.c)
        self.offer(Boxes.faces(self.rank), -math.inf)

    @property
    def rank(self) -> int:
        """Dimension r."""
        return int(self.X.shape[1])

    @cached_property
    def scaled(self) -> Array:
        """Rows times coefficients, a row of zeros at the end."""
        return np.vstack([self.c[:, None] * self.X, np.zeros((1, self.rank))])

    @cached_property
    def padded(self) -> Array:
        """Rows, a row of zeros at the end."""
        return np.vstack([self.X, np.zeros((1, self.rank))])

    @cached_property
    def coefficients(self) -> Array:
        """Coefficients, a zero at the end."""
        return np.append(self.c, 0.0)

    # -- bounding ------------------------------------------------------------------------------------
    def offer(self, boxes: Boxes, goal: float) -> None:
        """Bound boxes, forget those proved to be at most ``goal``, keep the others."""
        bounded, undecided, values = self._narrow(boxes, goal) if boxes.rows.shape[1] else self._wide(boxes, goal)
        self.nodes += len(boxes)
        self._remember(boxes.centre, values)
        alive = (bounded.bound > goal) & (bounded.half.max(axis=1) >= SMALLEST)
        self.settled = max(self.settled, float(bounded.bound[~alive].max(initial=0.0)))
        if alive.any():
            self._store(bounded.select(alive), undecided[alive])

    def _wide(self, boxes: Boxes, goal: float) -> tuple[Boxes, Bool, Array]:
        """Bounds with all rows looked at."""
        a = boxes.centre @ self.X.T
        r = boxes.half @ np.abs(self.X).T
        slope = np.clip((a + r) / np.maximum(2.0 * r, 1e-300), 0.0, 1.0)
        undecided = r > np.abs(a)
        p = self.convex
        offset = (slope[:, :p] * np.maximum(r[:, :p] - a[:, :p], 0.0)) @ self.c[:p]
        G = slope @ self.scaled[:-1]
        score = undecided.astype(float) @ np.abs(self.scaled[:-1])
        values = np.maximum(a, 0.0) @ self.c
        bounded = self._bounded(boxes, G, offset, score)
        none = np.zeros((len(boxes), 0))
        self._tighten(bounded, goal, G, none, none[:, :, None], none)
        return bounded, undecided, values

    def _narrow(self, boxes: Boxes, goal: float) -> tuple[Boxes, Bool, Array]:
        """Bounds with the undecided rows looked at only."""
        rows = self.padded[boxes.rows]
        c = self.coefficients[boxes.rows]
        a = np.einsum("bkd,bd->bk", rows, boxes.centre)
        r = np.einsum("bkd,bd->bk", np.abs(rows), boxes.half)
        undecided = r > np.abs(a)
        slope = np.clip((a + r) / np.maximum(2.0 * r, 1e-300), 0.0, 1.0)
        offset = (np.maximum(c, 0.0) * slope * np.maximum(r - a, 0.0)).sum(axis=1)
        active = c * (~undecided & (a > 0))
        linear = boxes.linear + np.einsum("bk,bkd->bd", active, rows)
        open_slope = c * slope * undecided
        G = linear + np.einsum("bk,bkd->bd", open_slope, rows)
        score = np.einsum("bk,bkd->bd", np.abs(c) * undecided, np.abs(rows))
        values = (linear * boxes.centre).sum(axis=1) + (c * np.maximum(a, 0.0) * undecided).sum(axis=1)
        bounded = self._bounded(replace(boxes, linear=linear), G, offset, score)
        few = slice(STEEP if boxes.rows.shape[1] <= STEEP else 0)
        self._tighten(bounded, goal, G, c[:, few], rows[:, few], (slope * undecided)[:, few])
        return bounded, undecided, values

    def _tighten(self, boxes: Boxes, goal: float, G: Array, c: Array, rows: Array, slope: Array) -> None:
        """Second look at boxes that the first bound leaves above the goal."""
        hard = np.flatnonzero(boxes.bound > goal)
        if hard.size:
            bound = tightened(boxes.select(hard), G[hard], c[hard], rows[hard], slope[hard])
            boxes.bound[hard] = np.minimum(boxes.bound[hard], bound * (1 + 1e-13) + self.error)

    def _bounded(self, boxes: Boxes, G: Array, offset: Array, score: Array) -> Boxes:
        number = np.arange(len(boxes))
        G[number, boxes.face] += offset * boxes.centre[number, boxes.face]  # the constant, as a linear form on the face
        bound = np.minimum(cone_bound(G, boxes) * (1 + 1e-13) + self.error, boxes.bound)
        axis = (boxes.half * (score + 1e-300)).argmax(axis=1)
        return replace(boxes, bound=bound, axis=axis)

    def _remember(self, centre: Array, values: Array) -> None:
        """Keep the best directions met."""
        heights = values / np.sqrt((centre**2).sum(axis=1))
        floor = self.found[-1][0] if len(self.found) == KEPT else 0.0
        for i in np.argsort(-heights)[:4]:
            if heights[i] > floor:
                self.found.append((float(heights[i]), centre[i].copy()))
        self.found = sorted(self.found, key=lambda pair: -pair[0])[:KEPT]
        self.best = max(self.best, float(heights.max()))

    # -- storing -------------------------------------------------------------------------------------
    def _store(self, boxes: Boxes, undecided: Bool) -> None:
        count = undecided.sum(axis=1)
        low = -1
        for width in WIDTHS:
            chosen = (count > low) & (count <= width)
            low = width
            if chosen.any():
                self._push(width, self._listed(boxes.select(chosen), undecided[chosen], width))
        wide = count > low
        if wide.any():
            self._push(len(self.X) + low, self._unlisted(boxes.select(wide)))

    def _push(self, width: int, boxes: Boxes) -> None:
        now = boxes.bound > self.level
        if now.any():
            self.waiting.setdefault(width, []).append(boxes.select(now))
        if not now.all():
            self.parked.setdefault(width, []).append(boxes.select(~now))

    def _listed(self, boxes: Boxes, undecided: Bool, width: int) -> Boxes:
        """Boxes that list their undecided rows, and the linear form of the active ones."""
        n = len(self.X)
        if boxes.rows.shape[1]:
            names, linear = np.where(undecided, boxes.rows, n), boxes.linear
        else:
            active = ~undecided & (boxes.centre @ self.X.T > 0)
            linear = active.astype(float) @ self.scaled[:-1]
            names = np.where(undecided, np.arange(n), n)
        order = np.argsort(~undecided, axis=1, kind="stable")[:, :width]
        rows = np.take_along_axis(names, order, axis=1).astype(np.int32)
        rows = np.pad(rows, ((0, 0), (0, width - rows.shape[1])), constant_values=n)
        return replace(boxes, rows=rows, linear=linear)

    def _unlisted(self, boxes: Boxes) -> Boxes:
        return replace(boxes, rows=np.zeros((len(boxes), 0), dtype=np.int32), linear=np.zeros_like(boxes.centre))

    @property
    def upper(self) -> float:
        """Proved upper bound on the maximum (of zero and F)."""
        stored = [part for pool in (self.waiting, self.parked) for parts in pool.values() for part in parts]
        return max(self.settled, max((float(part.bound.max()) for part in stored), default=0.0))

    @property
    def entries(self) -> int:
        """Size of what is parked."""
        return sum(len(part) * (self.rank + width) for width, parts in self.parked.items() for part in parts)

    def lower_level(self, level: float) -> None:
        """Work on boxes with a bound above ``level`` from now on."""
        self.level = level
        parked, self.parked = self.parked, {}
        for width, parts in parked.items():
            self._push(width, Boxes.join(parts))

    def advance(self, goal: float) -> bool:
        """Split one batch of boxes above the level, forget those proved at most ``goal``; False when there is none."""
        width = min((width for width, parts in self.waiting.items() if parts), default=None)  # small ones die soon
        if width is None:
            return False
        parts = self.waiting[width]
        chosen: list[Boxes] = []
        while parts and sum(len(part) for part in chosen) < BATCH:
            chosen.append(parts.pop())
        joined = Boxes.join(chosen)
        if len(joined) > 2 * BATCH:
            parts.append(joined.select(slice(BATCH, None)))
            joined = joined.select(slice(BATCH))
        self.offer(joined.halves(), goal)
        return True


def kappa_boxes(
    X: Array,
    nu: Array,
    *,
    target: float = 0.0,
    tol: float = 1e-3,
    time_limit: float | None = None,
    stop_above: bool = False,
) -> KappaBracket:
    """Bracket of ``kappa(nu)`` by boxes.

    Implements: docs/theory/global_gap.md, Proposition 3.

    Parameters
    ----------
    X : array, shape (n, r)
        Rows; r up to five or six is practical.
    nu : array, shape (n,)
    target : float
        The search ends when kappa is proved to be at most so much.
    tol : float
        It ends too when ``upper <= (1 + tol) lower``.
    time_limit : float or None
        Wall-clock seconds; the bound at that moment comes back.
    stop_above : bool
        End as soon as a direction with ``|F(w)| > target`` is met.

    Returns
    -------
    KappaBracket
        ``upper`` holds for the real numbers that X and nu stand for: rounding is bounded and added.
    """
    began = time.perf_counter()
    if not len(X):
        return KappaBracket(0.0, 0.0, np.zeros((0, X.shape[1])), np.zeros(0), 0, "converged")
    searches = (OneSign(X, nu), OneSign(X, -nu))
    status = ""
    while not status:
        lower = max(search.best for search in searches)
        goal = max(target, (1 + tol) * lower)
        busy = False
        for search in searches:
            busy = search.advance(goal) or busy
        if stop_above and lower > target:
            status = "above"
        elif time_limit is not None and time.perf_counter() - began > time_limit:
            status = "time_limit"
        elif not busy:
            status = _next_level(searches, goal, target)
    return _bracket(searches, status)


def _next_level(searches: tuple[OneSign, OneSign], goal: float, target: float) -> str:
    """Lower the level of both searches, or say that the end is reached."""
    upper = max(search.upper for search in searches)
    if upper <= goal or not any(search.parked for search in searches):
        return "target" if upper <= target else "converged"
    full = sum(search.entries for search in searches) > WAITING
    level = goal if full or upper < (1 + 1e-5) * goal else max(goal, 0.5 * (goal + upper))
    for search in searches:
        search.lower_level(level)
    return ""


def _bracket(searches: tuple[OneSign, OneSign], status: str) -> KappaBracket:
    found = [(value, w, sign) for search, sign in zip(searches, (1.0, -1.0), strict=True) for value, w in search.found]
    found = sorted(found, key=lambda item: -item[0])[:KEPT]
    directions = np.array([w / np.linalg.norm(w) for _, w, _ in found]).reshape(len(found), searches[0].rank)
    return KappaBracket(
        upper=max(search.upper for search in searches),
        lower=max(search.best for search in searches),
        directions=directions,
        signs=np.array([sign for _, _, sign in found]),
        nodes=sum(search.nodes for search in searches),
        status=status,
    )
