r"""Branch and bound for the ramp problem: an upper bound on ``max |phi(e, b)|`` over ``|e| <= 1`` and all b.

For a fixed direction the best bias is a knot ``b = -p_k'e`` at which the slope along b falls from nonnegative to
nonpositive, so k is a point whose kink is concave, and the rest is a search over directions for each such k. Directions
are covered by boxes on the faces ``e_j = s`` of the cube; phi is positively homogeneous. In a box every other kink is
replaced by a line from above (chord where it is convex, tangent where it is concave; both exact away from the kink) and
constants by ``s e_j`` times themselves; what remains is linear in e, and its maximum over the cone around the box is
known. A box in which the slopes along b exclude that the best bias is tied to k is dropped.
"""

from __future__ import annotations

import functools
import math
import time
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from convexnn.global_gap.lipschitz_pricing import RampProblem, Ramps, climb, sweep
from convexnn.rigorous import gamma

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

#: Boxes bounded at once times points, and the most boxes that are kept.
CHUNK, MOST = 400_000, 1_500_000


@dataclass(frozen=True)
class RampBracket:
    """What is known about the maximum of ``|phi|``: a proved upper bound, the best point, and how the search ended.

    ``status`` is ``"target"``, ``"above"``, ``"converged"``, ``"time_limit"`` or ``"exact"`` (one input).
    """

    upper: float
    lower: float
    ramps: Ramps
    nodes: int
    status: str


@dataclass
class _Boxes:
    """Open boxes: centers and half widths (k, r), face, side, the point that the bias is tied to, bound, split."""

    center: Array
    half: Array
    face: IntArray
    side: Array
    tied: IntArray
    bound: Array
    split: IntArray

    def __len__(self) -> int:
        return len(self.bound)

    def take(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> _Boxes:
        return _Boxes(*(getattr(self, item.name)[index] for item in fields(self)))

    def plus(self, other: _Boxes) -> _Boxes:
        both = ((getattr(self, item.name), getattr(other, item.name)) for item in fields(self))
        return _Boxes(*(np.concatenate(pair) for pair in both))


def ramp_upper(
    problem: RampProblem,
    target: float,
    *,
    tol: float = 1e-6,
    time_limit: float = math.inf,
    seeds: Ramps | None = None,
    above: float = math.inf,
) -> RampBracket:
    """Upper bound on the maximum of ``|phi|`` over ``|e| <= 1``, b free.

    Implements: docs/theory/global_lipschitz.md, Proposition 4.

    Parameters
    ----------
    problem : RampProblem
    target : float
        The search stops once the bound is at most this.
    tol : float
        Relative accuracy beyond which the search also stops.
    time_limit : float
        CPU-independent wall seconds; the bound so far is valid.
    seeds : Ramps, optional
        Points that are known.
    above : float
        The search stops as well once a point above this is known.

    Returns
    -------
    RampBracket
        ``upper`` and ``lower`` of ``problem`` itself; :meth:`RampProblem.upper` carries the bound to the data.
    """
    rounding = 4.0 * gamma(2 * len(problem.nu) + 8 * problem.rank + 64) * problem.magnitude * problem.rank
    if problem.rank == 1:
        ramps = sweep(problem, np.array([[1.0], [-1.0]]))
        return RampBracket(float(ramps.values[0]) + rounding, float(ramps.values[0]), ramps, 2, "exact")
    limits = _Limits(target, above, tol, time.perf_counter() + time_limit)
    return _Search(problem, limits, rounding, seeds).run()


@dataclass(frozen=True)
class _Limits:
    target: float
    above: float
    tol: float
    deadline: float


class _Search:
    def __init__(self, problem: RampProblem, limits: _Limits, rounding: float, seeds: Ramps | None) -> None:
        self.problem, self.limits, self.rounding = problem, limits, rounding
        self.ramps = sweep(problem, np.eye(problem.rank)) if seeds is None else seeds
        self.lower = max(float(self.ramps.values.max()), 0.0)
        self.closed, self.nodes = float(np.linalg.norm(problem.linear)), 0
        self.batch = max(64, CHUNK // len(problem.nu))
        self.distance = np.abs(problem.points[:, None] - problem.points[None])
        self.blur = 1e-13 * problem.reach  # ties are undecided, whatever rounding says
        self.flat = 1e-12 * float(np.abs(problem.nu).sum())

    def run(self) -> RampBracket:
        boxes = self._root()
        while True:
            boxes = self._prune(boxes)
            upper = max(self.closed, self.lower, float(boxes.bound.max(initial=0.0))) + self.rounding
            status = self._status(boxes, upper)
            if status:
                return RampBracket(upper, self.lower, self.ramps, self.nodes, status)
            order = np.argpartition(-boxes.bound, min(self.batch, len(boxes) - 1))
            boxes = boxes.take(order[self.batch :]).plus(self._halves(boxes.take(order[: self.batch])))

    def _status(self, boxes: _Boxes, upper: float) -> str:
        if upper <= self.limits.target:
            return "target"
        if self.lower > self.limits.above:
            return "above"
        if not len(boxes) or upper <= self.lower * (1 + self.limits.tol) + 2 * self.rounding:
            return "converged"
        if time.perf_counter() > self.limits.deadline or len(boxes) > MOST:
            return "time_limit"
        return ""

    def _prune(self, boxes: _Boxes) -> _Boxes:
        """Set boxes aside that cannot hold more than what is known or allowed; their bounds stay part of the result."""
        enough = max(self.lower * (1 + 0.5 * self.limits.tol), self.limits.target - 2 * self.rounding)
        open_ = boxes.bound > enough
        self.closed = max(self.closed, float(boxes.bound[~open_].max(initial=0.0)))
        return boxes.take(open_)

    def _root(self) -> _Boxes:
        """Every face of the cube for every point that a bias may be tied to."""
        r = self.problem.rank
        tied = np.flatnonzero(self.problem.nu)
        faces = [(j, side, k) for k in tied for j in range(r) for side in (1.0, -1.0)]
        j, side, k = (np.array(part) for part in zip(*faces, strict=True))
        center, half = np.zeros((len(j), r)), np.ones((len(j), r))
        center[np.arange(len(j)), j], half[np.arange(len(j)), j] = side, 0.0
        parts = [slice(i, i + self.batch) for i in range(0, len(j), self.batch)]
        found = [self._bounded(center[i], half[i], j[i], side[i], k[i], np.full(len(j[i]), np.inf)) for i in parts]
        return functools.reduce(_Boxes.plus, found)

    def _halves(self, boxes: _Boxes) -> _Boxes:
        rows = np.arange(len(boxes))
        half = boxes.half.copy()
        half[rows, boxes.split] *= 0.5
        shift = np.zeros_like(half)
        shift[rows, boxes.split] = half[rows, boxes.split]
        twice = [np.concatenate([part, part]) for part in (half, boxes.face, boxes.side, boxes.tied, boxes.bound)]
        return self._bounded(np.vstack([boxes.center + shift, boxes.center - shift]), *twice)

    def _bounded(
        self, center: Array, half: Array, face: IntArray, side: Array, tied: IntArray, parent: Array
    ) -> _Boxes:
        """Bounds, splits and the best of the centers."""
        problem, rows = self.problem, np.arange(len(face))
        self.nodes += len(face)
        sign = -np.sign(problem.nu[tied])
        a = center @ problem.points.T
        a -= a[rows, tied][:, None]
        distance = self.distance[tied]
        radius = np.einsum("bnd,bd->bn", distance, half) + self.blur
        weight = sign[:, None] * problem.nu
        loose = radius > np.abs(a)
        settled = (a > 0) & ~loose
        open_ = np.where(loose, weight, 0.0)
        high = np.where(loose, a + radius, 0.0)
        chord = high / np.maximum(2 * radius, 1e-300)
        slope = np.where(loose, np.where(weight > 0, chord, a > 0), settled)
        constant = np.einsum("bn,bn,bn->b", np.maximum(open_, 0.0), slope, radius - a)
        weighted = weight * slope
        G = weighted @ problem.points - weighted.sum(axis=1)[:, None] * problem.points[tied]
        G += sign[:, None] * problem.linear
        G[rows, face] += side * constant
        bound = np.minimum(_cone_maximum(G, center, half), parent)
        before = np.einsum("bn,bn->b", weight, settled)  # slope along b left of the knot, without undecided points
        open_[rows, tied] = 0.0
        low = before + np.minimum(open_, 0.0).sum(axis=1)
        high_slope = before + np.maximum(open_, 0.0).sum(axis=1)
        idle = (high_slope < -self.flat) | (low > np.abs(problem.nu[tied]) + self.flat)
        bound[idle] = 0.0
        self._incumbent(center, bound)
        score = np.einsum("bn,bnd->bd", np.abs(open_), distance)
        return _Boxes(center, half, face, side, tied, bound, (half * (score + 1e-12)).argmax(axis=1))

    def _incumbent(self, center: Array, bound: Array) -> None:
        """Look at the most promising centers with their best biases."""
        E = center[np.argsort(-bound)[:8]]
        found = sweep(self.problem, E / np.linalg.norm(E, axis=1, keepdims=True))
        if found.values[0] > self.lower * (1 + 1e-9):
            found = climb(self.problem, found.head(4))
            self.ramps = found.joined(self.ramps).head(64)
            self.lower = float(self.ramps.values[0])


def _cone_maximum(G: Array, center: Array, half: Array) -> Array:
    """``max G'e / |e|`` over the rays through the box around the center, from above, shape (k,)."""
    length, size = np.linalg.norm(G, axis=1), np.linalg.norm(center, axis=1)
    sine = np.minimum(np.linalg.norm(half, axis=1) / size, 1.0)
    along = np.einsum("kr,kr->k", G, center) / size
    cosine = np.sqrt((1 - sine) * (1 + sine))
    across = np.sqrt(np.maximum((length - along) * (length + along), 0.0))
    return np.where((along >= length * cosine) | (sine >= 1.0), length, along * cosine + across * sine)
