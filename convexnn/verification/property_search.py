"""The search behind ``verify_property``: all cases of one box at a time, weak methods before strong ones."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.exchange import Case
from convexnn.network import Network
from convexnn.threads import one_thread
from convexnn.verification.property_attack import Rows, climb
from convexnn.verification.property_bisection import bisect
from convexnn.verification.property_bounds import BoxBounds
from convexnn.verification.property_strong import strengthen

Array = NDArray[np.float64]

#: Up to so many inputs, boxes are bisected before anything expensive is tried.
FEW_INPUTS = 10
#: Paths and steps of the attack on a whole box, and on a box of the bisection.
PATHS, STEPS, SHORT = 8, 40, 4
#: Steps over the weights of the rows of a case.
ROUNDS = 3
#: Entries of the arrays of an attack.
ATTACK_ENTRIES = 2_000_000


@dataclass(frozen=True)
class Limits:
    """What a search may use.

    Attributes
    ----------
    method : str
    deadline : float
        ``time.monotonic()`` at which it is over.
    max_boxes : int
    rng : Generator
    """

    method: str
    deadline: float
    max_boxes: int
    rng: np.random.Generator

    def out_of_time(self) -> bool:
        """Whether the deadline has passed."""
        return time.monotonic() >= self.deadline


@dataclass(eq=False)
class Group:
    """Cases with one box, and what is known of them.

    Attributes
    ----------
    cases : list of Case
    indices : list of int
        Of the cases in the property.
    rows : Rows
    bounds, lower : arrays, shape (cases,)
        On the largest smallest row over the box.
    methods : list of str
        What closed each case; empty for open ones.
    weights, hints : array, shape (cases, q)
        The combination of rows with the best bound so far, and what the attacks suggest.
    points : array, shape (cases, d)
        The best found.
    """

    cases: list[Case]
    indices: list[int]
    rows: Rows
    bounds: Array
    lower: Array
    methods: list[str]
    weights: Array
    hints: Array
    points: Array

    @classmethod
    def of(cls, cases: Sequence[Case], indices: Sequence[int]) -> Group:
        """Nothing is known yet."""
        rows = Rows.of(cases)
        share = rows.member / np.maximum(rows.member.sum(axis=1, keepdims=True), 1)
        n = len(cases)
        middle = np.clip(0.5 * cases[0].lower + 0.5 * cases[0].upper, cases[0].lower, cases[0].upper)
        points = np.tile(middle, (n, 1))
        bounds, lower = np.full(n, np.inf), np.full(n, -np.inf)
        return cls(list(cases), list(indices), rows, bounds, lower, [""] * n, share, share.copy(), points)

    @property
    def box(self) -> tuple[Array, Array]:
        """Corners (d,)."""
        return self.cases[0].lower, self.cases[0].upper

    @property
    def open(self) -> list[int]:
        """Cases that are not closed."""
        return [i for i, bound in enumerate(self.bounds) if not bound < 0]

    def close(self, case: int, bound: float, name: str) -> None:
        """Take a bound where it is better."""
        if bound < self.bounds[case]:
            self.bounds[case] = bound
            if bound < 0:
                self.methods[case] = name


class Search:
    """All groups of a property under common limits; stops at the first counterexample."""

    def __init__(self, network: Network, limits: Limits, groups: list[Group]) -> None:
        self.network, self.limits, self.groups = network, limits, groups
        self.counterexample: Array | None = None
        self.violated: int | None = None
        self.stopped = ""
        self.n_boxes = 0
        self.seconds: dict[str, float] = {}

    def run(self) -> None:
        """Cheap work on every group, then everything on those that stay open."""
        with one_thread():
            for stage in (self._cheap, self._thorough):
                for group in self.groups:
                    if self.violated is None and group.open and not self.is_over():
                        stage(group)

    def is_over(self) -> bool:
        """Whether the time is up; says so."""
        if self.limits.out_of_time():
            self.stopped = "time limit"
        return bool(self.stopped == "time limit")

    @contextmanager
    def timed(self, stage: str) -> Iterator[None]:
        """Count the wall time of a stage."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - began

    # -- stages -------------------------------------------------------------------------------------

    def _cheap(self, group: Group) -> None:
        """A short attack, and backward linear bounds."""
        self._attack(group, 1, SHORT)
        if self.violated is not None or self.is_over():
            return
        with self.timed("rows"):
            box = BoxBounds.over(self.network, *group.box)
            self.n_boxes += 1
            self._combine(group, box)

    def _combine(self, group: Group, box: BoxBounds) -> None:
        """Better combinations of rows over the whole box, from what the attacks suggest."""
        for case, (bound, weights) in box.smallest_rows(group.rows, group.open, group.hints, ROUNDS).items():
            group.weights[case] = weights if bound < group.bounds[case] else group.weights[case]
            group.close(case, bound, "rows")

    def _thorough(self, group: Group) -> None:
        """Everything: a long attack, bisection and stronger methods."""
        self._attack(group, PATHS, STEPS)
        if self.violated is None and max(len(group.cases[case].rows) for case in group.open) > 1:
            with self.timed("rows"):
                self._combine(group, BoxBounds.over(self.network, *group.box))
        few = self.network.n_inputs <= FEW_INPUTS and self.limits.method == "auto"
        for stage in (self._halve, self._strong) if few else (self._strong, self._halve):
            if self.violated is None and group.open and not self.is_over():
                stage(group)

    def _attack(self, group: Group, paths: int, steps: int) -> None:
        """Paths from the middle and from random points of the box, for every open case."""
        with self.timed("attack"):
            lower, upper = group.box
            cases, width = np.array(group.open, dtype=np.intp), max(len(group.rows.offset), len(lower))
            paths = max(1, min(paths, ATTACK_ENTRIES // max(len(cases) * width, 1)))
            block = max(1, ATTACK_ENTRIES // (paths * width))
            for first in range(0, len(cases), block):
                chosen = np.repeat(cases[first : first + block], paths)
                share = self.limits.rng.random((len(chosen), len(lower)))
                start = np.clip(lower + share * (upper - lower), lower, upper)
                start[::paths] = group.points[chosen[::paths]]
                self.follow(group, (lower, upper), chosen, start, steps)
                if self.violated is not None:
                    return

    def follow(
        self, group: Group, box: tuple[Array, Array], cases: NDArray[np.intp], start: Array, steps: int
    ) -> Array:
        """Climb, keep what is better, stop at a counterexample; returns the points."""
        found = climb(self.network, group.rows, box, cases, start, steps)
        for i in np.argsort(-found.values):
            case = int(cases[i])
            if found.values[i] > group.lower[case] or not len(group.cases[case].rows):
                group.lower[case], group.points[case] = found.values[i], found.points[i]
                group.hints[case] = found.weights[i]
            x = found.points[i : i + 1]
            if found.values[i] >= 0 and group.cases[case].contains(x, self.network(x).reshape(1, -1))[0]:
                self.counterexample, self.violated = x[0], group.indices[case]
                break
        return found.points

    def _strong(self, group: Group) -> None:
        strengthen(self, group)

    def _halve(self, group: Group) -> None:
        with self.timed("bisection"):
            bisect(self, group)
