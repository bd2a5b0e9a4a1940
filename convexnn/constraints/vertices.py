"""The smallest slope by the vertices of the arrangement of kinks: for few inputs, exact and without any solver.

Every linear piece of the network (restricted to the kinks that change the slope) has a vertex: a point where as many
independent hyperplanes meet as there are dimensions. Around it these hyperplanes take all sides, the others keep
theirs. So the smallest slope is a minimum over vertices. Sides are decided in float64 with a bound on the rounding;
where that does not decide, in rational arithmetic.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations, islice
from operator import mul

import numpy as np
from numpy.typing import NDArray

from convexnn.constraints.pieces import ZERO, Pieces, dot, fractions
from convexnn.rigorous import TINY, gamma
from convexnn.threats import Box

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Work up to which all vertices are visited: some seconds.
MAX_WORK = 400_000_000
CHUNK_ENTRIES = 2_000_000
#: Subsets of hyperplanes that float64 cannot judge, up to which they are judged exactly.
MAX_EXACT = 4000
#: Numbers beyond ``2**MAX_DIGITS`` or below its inverse are left to the search over sets of sides.
MAX_DIGITS = 300


@dataclass(frozen=True)
class Vertices:
    """Slopes around the vertices with the smallest ones.

    Attributes
    ----------
    bound : Fraction
        Proved lower bound on the slope of every piece.
    active : array of bool, shape (pieces, kinks)
        Pieces with the smallest slopes, in the order of ``Pieces.kinks``, at most as many as asked for.
    count : int
        Vertices that were visited.
    """

    bound: Fraction
    active: Bool
    count: int


class Arrangement:
    """Hyperplanes of the kinks that change the slope, and the facets of a box.

    Parameters
    ----------
    pieces : Pieces
    direction : array, shape (d,)
    domain : Box or None
    """

    def __init__(self, pieces: Pieces, direction: Array, domain: Box | None) -> None:
        e = fractions(direction)
        steps = [jump * dot(row[:-1], e) for row, jump in pieces.kinks.items()]
        self.n_kinks = len(steps)
        self.places = [i for i, step in enumerate(steps) if step]
        self.steps = [steps[i] for i in self.places]
        self.base = dot(pieces.linear, e)
        kinks = list(pieces.kinks)
        rows = [list(kinks[i]) for i in self.places]
        if domain is None:
            chosen = independent_columns([row[:-1] for row in rows])
            rows = [[row[j] for j in chosen] + [row[-1]] for row in rows]
            self.dimension = len(chosen)
        else:
            self.dimension = len(direction)
            rows += _facets(domain, self.dimension)
        self.rows, self.boxed = rows, domain is not None

    @property
    def work(self) -> int:
        """Numbers handled for all vertices: each inverts a matrix and is held against all hyperplanes.

        About 15 ns each, measured from 2 to 12 inputs and from 14 to 200 hyperplanes, within a factor of two.
        """
        d, h = self.dimension, len(self.rows)
        return math.comb(h, d) * ((d + 2) * max(h, 1) + 8 * d * d)

    def _moderate(self) -> bool:
        """Whether all numbers are of a size that float64 holds, with room for products."""
        entries = [entry for row in self.rows for entry in row] + [self.base, *self.steps]
        return all(abs(_binary_digits(entry)) <= MAX_DIGITS for entry in entries if entry)

    def smallest(self, keep: int = 1, deadline: float = math.inf) -> Vertices | None:
        """Proved smallest slope and the patterns of the ``keep`` worst pieces; None where it would take too long.

        The deadline is one of ``time.monotonic``.

        Implements: docs/theory/shape_constraints.md, Theorem 2.
        """
        if self.work > MAX_WORK or not self._moderate():
            return None
        if not self.dimension:
            return Vertices(self.base, np.zeros((1, self.n_kinks), dtype=bool), 0)
        return _Visit(self, keep).run(deadline)


def _binary_digits(x: Fraction) -> int:
    """Exponent of the power of two next to a number that is not zero, up to one."""
    return x.numerator.bit_length() - x.denominator.bit_length()


def independent_columns(rows: list[list[Fraction]]) -> list[int]:
    """Columns of a rational matrix that span its column space."""
    A = [list(row) for row in rows]
    chosen: list[int] = []
    for column in range(len(A[0]) if A else 0):
        top = len(chosen)
        line = next((r for r in range(top, len(A)) if A[r][column]), None)
        if line is None:
            continue
        A[top], A[line] = A[line], A[top]
        for r in range(top + 1, len(A)):
            if A[r][column]:
                factor = A[r][column] / A[top][column]
                A[r] = [a - factor * b for a, b in zip(A[r], A[top], strict=True)]
        chosen.append(column)
    return chosen


def _facets(domain: Box, d: int) -> list[list[Fraction]]:
    """Facets with the box on their nonnegative side."""
    low, high = (fractions(np.broadcast_to(end, d)) for end in (domain.lower, domain.upper))
    rows = []
    for j in range(d):
        for sign, offset in ((1, -low[j]), (-1, high[j])):
            rows.append([Fraction(sign if i == j else 0) for i in range(d)] + [offset])
    return rows


class _Visit:
    """All vertices in batches; the worst few are kept."""

    def __init__(self, arrangement: Arrangement, keep: int) -> None:
        self.a, self.keep = arrangement, keep
        floats = np.array([[float(entry) for entry in row] for row in arrangement.rows])
        self.N, self.b = floats[:, :-1], floats[:, -1]
        self.parallel = _parallel_classes(arrangement.rows)
        self.steps = np.array([float(step) for step in arrangement.steps])
        self.n_steps = len(self.steps)
        size = abs(float(arrangement.base)) + float(np.abs(self.steps).sum())
        self.rounding = 4 * gamma(self.n_steps + 8) * size
        self.best: dict[bytes, tuple[float, Bool]] = {}
        self.limit = np.inf
        self.exact_left = MAX_EXACT
        self.whole: list[list[int]] | None = None  # rows times positive numbers, where they are asked for

    def run(self, deadline: float) -> Vertices | None:
        count, subsets = 0, combinations(range(len(self.a.rows)), self.a.dimension)
        size = max(1, CHUNK_ENTRIES // max(len(self.a.rows), 1))
        while True:
            chunk = list(islice(subsets, size))
            if not chunk:
                break
            meeting = self._without_parallels(np.array(chunk))
            if time.monotonic() > deadline or not self._batch(meeting):
                return None
            count += len(meeting)
        if not self.best:
            return None
        values, patterns = zip(*sorted(self.best.values(), key=lambda item: item[0]), strict=True)
        near = [k for k, value in enumerate(values) if value <= values[0] + 2 * self.rounding]
        bound = min(self._exact_value(patterns[k]) for k in near)
        active = np.zeros((min(self.keep, len(patterns)), self.a.n_kinks), dtype=bool)
        active[:, self.a.places] = np.array(patterns[: len(active)])
        return Vertices(bound, active, count)

    def _exact_value(self, active: Bool) -> Fraction:
        return self.a.base + sum((step for step, on in zip(self.a.steps, active, strict=True) if on), ZERO)

    def _without_parallels(self, chosen: NDArray[np.intp]) -> NDArray[np.intp]:
        ordered = np.sort(self.parallel[chosen], axis=1)
        return chosen[(np.diff(ordered, axis=1) != 0).all(axis=1)]

    def _batch(self, chosen: NDArray[np.intp]) -> bool:
        """Visit vertices; False where too many subsets are beyond float64."""
        sides, unsure, wrong = self._sides(chosen)
        self.exact_left -= int(wrong.sum())
        if self.exact_left < 0:
            return False
        for subset in chosen[wrong]:
            self._visit_exactly(subset)
        outside = (sides[:, self.n_steps :] < 0) & ~unsure[:, self.n_steps :]
        inner = np.flatnonzero(~wrong & ~outside.any(axis=1))
        S, doubtful = sides[inner, : self.n_steps], unsure[inner, : self.n_steps]
        active = np.where(doubtful, self.steps < 0, S > 0)
        values = float(self.a.base) + active @ self.steps
        for k in np.argsort(values, kind="stable"):
            if values[k] > self.limit:
                break
            free = set(chosen[inner[k]].tolist())
            if any(h not in free for h in np.flatnonzero(unsure[inner[k]])):
                self._visit_exactly(chosen[inner[k]])
            else:
                self._note(active[k])
        return True

    def _sides(self, chosen: NDArray[np.intp]) -> tuple[Array, Bool, Bool]:
        """Values at the vertices, which signs are in doubt (those through the vertex are), which subsets are."""
        N, b, d = self.N[chosen], self.b[chosen], self.a.dimension
        n = 4 * d + 16
        wrong = np.abs(np.linalg.det(N / np.abs(N).max(axis=(1, 2), keepdims=True))) < 1e-13
        inverse = np.zeros_like(N)
        inverse[~wrong] = np.linalg.inv(N[~wrong])
        with np.errstate(over="ignore", invalid="ignore"):
            point = -np.einsum("kij,kj->ki", inverse, b)
            miss = np.abs(np.eye(d) - inverse @ N) + gamma(n) * (np.abs(inverse) @ np.abs(N))
            q = miss.sum(axis=2).max(axis=1)
            size = np.abs(N) @ np.abs(point)[:, :, None]
            residual = np.abs(np.einsum("kij,kj->ki", N, point) + b) + gamma(n) * (size[:, :, 0] + np.abs(b)) + TINY
            moved = np.einsum("kij,kj->ki", np.abs(inverse), residual).max(axis=1) * (1 + gamma(n))
            wrong |= ~(q < 0.5) | ~np.isfinite(moved)
            away = 2.0 * moved / (1 - np.where(wrong, 0.0, q))
            values = point @ self.N.T + self.b
            error = gamma(n) * (np.abs(point) @ np.abs(self.N).T + np.abs(self.b))
            error += away[:, None] * np.abs(self.N).sum(axis=1)
        unsure = ~(np.abs(values) > 2.0 * error + TINY)
        unsure[np.arange(len(chosen))[:, None], chosen] = True
        return values, unsure, wrong

    def _visit_exactly(self, subset: NDArray[np.intp]) -> None:
        """Sides at a vertex over the rational numbers; hyperplanes through it take their worse side."""
        if self.whole is None:
            self.whole = [_whole(row) for row in self.a.rows]
        point = _solve([list(self.whole[h]) for h in subset])
        if point is None:
            return  # no vertex
        values = [sum(map(mul, row, point)) for row in self.whole]
        if self.a.boxed and any(value < 0 for value in values[self.n_steps :]):
            return
        steps = self.a.steps
        worse = [v > 0 or (v == 0 and step < 0) for v, step in zip(values, steps, strict=False)]
        self._note(np.array(worse, dtype=bool))

    def _note(self, active: Bool) -> None:
        """Remember a pattern; its exact value is computed at the end, for those that can be the smallest."""
        self.best.setdefault(active.tobytes(), (float(self.a.base) + float(active @ self.steps), active.copy()))
        if len(self.best) >= self.keep:
            values = sorted(value for value, _ in self.best.values())
            self.limit = values[self.keep - 1] + 2 * self.rounding
        if len(self.best) > 4 * self.keep + 16:
            self.best = {key: item for key, item in self.best.items() if item[0] <= self.limit}


def _parallel_classes(rows: list[list[Fraction]]) -> NDArray[np.intp]:
    """One number for all hyperplanes with parallel normals."""
    seen: dict[tuple[Fraction, ...], int] = {}
    found = []
    for row in rows:
        lead = next(entry for entry in row[:-1] if entry)
        found.append(seen.setdefault(tuple(entry / lead for entry in row[:-1]), len(seen)))
    return np.array(found, dtype=np.intp)


def _whole(row: list[Fraction]) -> list[int]:
    """The row times the least positive number that makes all entries integers: the same hyperplane and sides."""
    common = math.lcm(*(entry.denominator for entry in row))
    return [entry.numerator * (common // entry.denominator) for entry in row]


def _solve(rows: list[list[int]]) -> list[int] | None:
    """Point where the hyperplanes ``n'x + b = 0`` meet, times a positive number, which is the last entry (d + 1).

    None when they are dependent. Elimination without fractions (Bareiss): every division has no remainder.
    """
    d, before = len(rows), 1
    for k in range(d):
        line = next((r for r in range(k, d) if rows[r][k]), None)
        if line is None:
            return None
        rows[k], rows[line] = rows[line], rows[k]
        pivot, lead = rows[k], rows[k][k]
        for r in range(d):
            if r != k:
                factor = rows[r][k]
                rows[r] = [(lead * a - factor * b) // before for a, b in zip(rows[r], pivot, strict=True)]
        before = lead
    sign = 1 if before > 0 else -1
    return [-sign * row[-1] for row in rows] + [sign * before]
