"""The smallest slope of a shallow ReLU network in one direction, over all inputs or a box, in rational arithmetic.

The slope on a linear piece is a sum over its active kinks. Best first over sets of sides: the most optimistic
assignment is tried, and where no point has these sides, a linear program names a few hyperplanes that cannot have
theirs at once. That conflict is proved in rational arithmetic before it is used, so nothing here rests on a solver.
"""

from __future__ import annotations

import heapq
import time
from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from convexnn.constraints.pieces import ZERO, Pieces, Row, dot, fractions
from convexnn.threats import Box

Array = NDArray[np.float64]
Signs = NDArray[np.int8]

#: Relative margin below which a piece is taken to be empty if a conflict proves it, and to exist otherwise.
MARGIN = 1e-9
MAX_NODES = 5000


@dataclass(frozen=True)
class SmallestSlope:
    """A proved lower bound on a slope.

    Attributes
    ----------
    bound : Fraction
        ``direction' grad f >= bound`` on every linear piece (that meets the interior of the domain).
    exact : bool
        Whether a piece with this slope was found (in floating point arithmetic).
    active : array of bool, shape (pieces found, kinks)
        Pieces with the smallest slopes that were met, by their active kinks in the order of ``Pieces.kinks``.
    points : array, shape (pieces found, d)
        A point of each.
    nodes : int
        Assignments that were tried.
    """

    bound: Fraction
    exact: bool
    active: NDArray[np.bool_]
    points: Array
    nodes: int


@dataclass(frozen=True)
class Search:
    """How long to search, and for what.

    Parameters
    ----------
    target : Fraction or None
        Stop as soon as the slope is proved to be at least this.
    pieces : int
        How many pieces to collect below the target.
    max_nodes : int
    deadline : float
        Of ``time.monotonic``.
    """

    target: Fraction | None = None
    pieces: int = 1
    max_nodes: int = MAX_NODES
    deadline: float = np.inf


def smallest_slope(
    pieces: Pieces, direction: Array, domain: Box | None = None, search: Search | None = None
) -> SmallestSlope:
    """Lower bound on ``direction' grad f`` over all linear pieces, exact unless the search is cut short.

    Implements: docs/theory/shape_constraints.md, Theorem 2.

    Parameters
    ----------
    pieces : Pieces
    direction : array, shape (d,)
    domain : Box or None
        Only pieces that meet its interior count; None for all inputs.
    search : Search or None

    Returns
    -------
    SmallestSlope
        Valid however the search ended.
    """
    return _Run(pieces, direction, domain, search or Search()).run()


def all_patterns_slope(pieces: Pieces, direction: Array) -> Fraction:
    """The bound that lets every kink take its worse side: ``direction'linear - sum_h (jump_h direction'n_h)_-``."""
    e = fractions(direction)
    falls = (min(jump * dot(row[:-1], e), ZERO) for row, jump in pieces.kinks.items())
    return dot(pieces.linear, e) + sum(falls, ZERO)


@dataclass(order=True)
class _Node:
    cost: Fraction
    number: int
    kept: frozenset[int] = field(compare=False)
    flipped: frozenset[int] = field(compare=False)


class _Run:
    """One search. Kinks that do not change the slope play no part."""

    def __init__(self, pieces: Pieces, direction: Array, domain: Box | None, search: Search) -> None:
        e = fractions(direction)
        steps = [jump * dot(row[:-1], e) for row, jump in pieces.kinks.items()]
        self.search, self.domain, self.n_kinks = search, domain, len(steps)
        self.places = [i for i, step in enumerate(steps) if step]
        self.steps = [steps[i] for i in self.places]
        rows = list(pieces.kinks)
        self.rows = [_scaled(rows[i]) for i in self.places]
        self.floats = np.array([[float(entry) for entry in row] for row in self.rows]).reshape(-1, len(e) + 1)
        self.optimistic = np.array([1 if step < 0 else -1 for step in self.steps], dtype=np.int8)
        self.base = dot(pieces.linear, e) + sum((min(step, ZERO) for step in self.steps), ZERO)
        self.program = _Feasibility(self.floats, domain, len(direction))
        self.conflicts: list[tuple[NDArray[np.intp], Signs]] = []
        self.found: list[tuple[Signs, Array]] = []
        self.nodes = 0

    def run(self) -> SmallestSlope:
        heap = [_Node(self.base, 0, frozenset(), frozenset())]
        count, best = 1, None
        while heap:
            if best is not None and len(self.found) >= self.search.pieces:
                break
            if self.search.target is not None and heap[0].cost >= self.search.target:
                break
            if self.nodes >= self.search.max_nodes or time.monotonic() > self.search.deadline:
                break
            node = heapq.heappop(heap)
            sides = self.optimistic.copy()
            sides[list(node.flipped)] *= -1
            conflict = self._conflict(sides)
            if conflict is None:
                best = node.cost if best is None else min(best, node.cost)
                if len(self.found) < self.search.pieces:
                    conflict = self._others(node)  # what is left when this piece is set aside
            for child in self._children(node, conflict, count) if conflict is not None else ():
                heapq.heappush(heap, child)
                count += 1
        bound = min(item for item in (best, heap[0].cost if heap else None) if item is not None)
        exact = best is not None and best == bound
        return SmallestSlope(bound, exact, self._active(), self._points(), self.nodes)

    def _others(self, node: _Node) -> NDArray[np.intp]:
        """Every other assignment differs somewhere: the free kinks, cheapest first."""
        free = [i for i in range(len(self.steps)) if i not in node.kept and i not in node.flipped]
        return np.array(sorted(free, key=lambda i: abs(self.steps[i])), dtype=np.intp)

    def _children(self, node: _Node, conflict: NDArray[np.intp], count: int) -> list[_Node]:
        free = [int(i) for i in conflict if int(i) not in node.kept and int(i) not in node.flipped]
        free.sort(key=lambda i: abs(self.steps[i]))
        return [
            _Node(node.cost + abs(self.steps[i]), count + k, node.kept | frozenset(free[:k]), node.flipped | {i})
            for k, i in enumerate(free)
        ]

    def _conflict(self, sides: Signs) -> NDArray[np.intp] | None:
        """Kinks that cannot have these sides at once, or None for a piece (or where nothing could be proved)."""
        for index, signs in self.conflicts:
            if (sides[index] == signs).all():
                return index
        self.nodes += 1
        point, multipliers = self.program(sides)
        if multipliers is not None:
            proved = self._proved(sides, multipliers)
            if proved is not None:
                self.conflicts.append((proved, sides[proved].copy()))
                return proved
        self.found.append((sides, point))
        return None

    def _proved(self, sides: Signs, multipliers: Array) -> NDArray[np.intp] | None:
        index = np.flatnonzero(multipliers > 1e-9 * multipliers.max(initial=0.0))
        if not len(index):
            return None
        index = index[np.argsort(-multipliers[index], kind="stable")]
        rows = [[int(sides[i]) * entry for entry in self.rows[i]] for i in index]
        weights = fractions(multipliers[index])
        if self.domain is None:
            balanced = _balanced(rows, weights)
            return index if balanced is not None else None
        return index if _largest_on_box(rows, weights, self.domain) <= 0 else None

    def _active(self) -> NDArray[np.bool_]:
        active = np.zeros((len(self.found), self.n_kinks), dtype=bool)
        for k, (sides, _) in enumerate(self.found):
            active[k, self.places] = sides > 0
        return active

    def _points(self) -> Array:
        return np.array([point for _, point in self.found]).reshape(len(self.found), self.program.n_inputs)


def _scaled(row: Row) -> Row:
    """The row times a power of two, its largest entry about one: the same hyperplane, in the reach of float64."""
    top = max(abs(entry) for entry in row)
    digits = top.numerator.bit_length() - top.denominator.bit_length()
    return tuple(entry / Fraction(2) ** digits for entry in row)


class _Feasibility:
    """Largest margin t such that some point has ``side_h (n_h'x + b_h) >= t |(n_h, b_h)|`` for all h, by HiGHS."""

    def __init__(self, rows: Array, domain: Box | None, n_inputs: int) -> None:
        self.n_inputs, self.domain = n_inputs, domain
        if domain is None:  # homogeneous: x = z / last
            self.rows, self.limits = rows, [(-1.0, 1.0)] * n_inputs + [(0.0, 1.0)]
        else:
            low, high = np.broadcast_to(domain.lower, n_inputs), np.broadcast_to(domain.upper, n_inputs)
            middle, half = 0.5 * (low + high), 0.5 * (high - low)
            self.middle, self.half = middle, half
            if len(rows):
                rows = np.column_stack([rows[:, :-1] * half, rows[:, :-1] @ middle + rows[:, -1]])
            self.rows, self.limits = rows, [(-1.0, 1.0)] * n_inputs + [(1.0, 1.0)]
        norms = np.linalg.norm(self.rows, axis=1, keepdims=True) if len(rows) else np.ones((0, 1))
        self.norms = np.where(norms > 0, norms, 1.0)

    def __call__(self, sides: Signs) -> tuple[Array, Array | None]:
        """A point, and multipliers of the hyperplanes when (almost) no margin is left."""
        if not len(sides):
            return (np.zeros(self.n_inputs) if self.domain is None else self.middle), None
        scaled = -sides[:, None] * self.rows / self.norms
        A = np.hstack([scaled, np.ones((len(sides), 1))])
        if not np.isfinite(A).all():
            return np.zeros(self.n_inputs), None
        cost = np.zeros(A.shape[1])
        cost[-1] = -1.0
        found = linprog(cost, A_ub=A, b_ub=np.zeros(len(A)), bounds=[*self.limits, (-1.0, 1.0)], method="highs-ds")
        if found.x is None:
            return np.zeros(self.n_inputs), None
        point = self._point(found.x)
        if found.x[-1] > MARGIN:
            return point, None
        return point, np.maximum(-found.ineqlin.marginals, 0.0) / self.norms[:, 0]

    def _point(self, x: Array) -> Array:
        if self.domain is not None:
            return np.asarray(self.middle + self.half * x[: self.n_inputs])
        return np.asarray(x[: self.n_inputs] / max(float(x[self.n_inputs]), 1e-9))


def _largest_on_box(rows: list[list[Fraction]], weights: list[Fraction], domain: Box) -> Fraction:
    """Largest value of ``sum_h weight_h row_h'(x, 1)`` on a box, exactly; one not positive is a conflict."""
    d = len(rows[0]) - 1
    total = [dot([row[j] for row in rows], weights) for j in range(d + 1)]
    low, high = (fractions(np.broadcast_to(end, d)) for end in (domain.lower, domain.upper))
    return total[-1] + sum((max(total[j] * low[j], total[j] * high[j]) for j in range(d)), ZERO)


def _balanced(rows: list[list[Fraction]], weights: list[Fraction]) -> Row | None:
    """Nonnegative multipliers with ``sum y_h n_h = 0`` and ``sum y_h b_h <= 0``, near the given ones, exactly.

    First with the offsets free, then with their sum zero as well. None when neither comes out.
    """
    d = len(rows[0]) - 1
    for equations in (d, d + 1):
        y = _null_vector([[row[j] for row in rows] for j in range(equations)], weights)
        if min(y) >= 0 and any(y) and dot([row[-1] for row in rows], y) <= 0:
            return y
    return None


def _null_vector(A: list[list[Fraction]], weights: list[Fraction]) -> Row:
    """Vector y with ``A y = 0``: elimination makes the first columns pivots, the others keep their weights."""
    k, pivots = len(weights), list[int]()
    for column in range(k):
        top = len(pivots)
        line = next((r for r in range(top, len(A)) if A[r][column]), None)
        if line is None:
            continue
        A[top], A[line] = A[line], A[top]
        lead = A[top][column]
        A[top] = [entry / lead for entry in A[top]]
        for r in range(len(A)):
            if r != top and A[r][column]:
                factor = A[r][column]
                A[r] = [a - factor * b for a, b in zip(A[r], A[top], strict=True)]
        pivots.append(column)
    y = [ZERO if h in pivots else weights[h] for h in range(k)]
    for r, column in enumerate(pivots):
        y[column] = -sum((A[r][h] * y[h] for h in range(k) if h not in pivots), ZERO)
    return tuple(y)
