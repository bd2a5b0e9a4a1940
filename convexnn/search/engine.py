"""One search: rounds of moves from one start, every step kept only if the network is better."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.search.descent import descend
from convexnn.search.moves import ALL_MOVES, STEPS
from convexnn.search.result import SearchStep
from convexnn.search.task import SearchPoint, SearchTask

Array = NDArray[np.float64]

#: Smaller relative improvements are roundoff and are not accepted.
IMPROVEMENT = 1e-10
#: Moves that cost more than they bring while the others still gain ``WAIT`` (relatively) in a round.
PATIENT, WAIT = ("replace", "descend"), 1e-4
#: A round that improves less than this counts as one without improvement.
PROGRESS = 1e-6


@dataclass(eq=False)
class Search:
    """The state of one search: the best network, and the last accepted solved point, from which moves start.

    ``origin`` is where the first descent begins: a network before any convex program, which leaves it between kinks.
    """

    task: SearchTask
    network: Network
    value: float
    number: int = 0
    point: SearchPoint | None = None
    origin: Network | None = None
    status: str = "rounds"
    steps: list[SearchStep] = field(default_factory=list)
    began: float = field(default_factory=time.perf_counter)

    def run(self, rng: np.random.Generator) -> Search:
        """Solve for the start's own patterns unless a point was given, then go through the rounds of moves."""
        origin = self.network if self.origin is None else self.origin
        self._record(0, "start", self.value, accepted=False)
        try:
            if self.point is None:
                self._offer(0, "solve", self.task.solve_patterns(self.network))
            if "descend" in self.task.options.moves and not self._ended():
                self._offer(0, "descend", self.task.solve_patterns(descend(self.task, origin, STEPS)))
            self._rounds(rng)
        except KeyboardInterrupt:
            self.status = "interrupted"
        return self

    def _rounds(self, rng: np.random.Generator) -> None:
        fruitless = 0
        for number in range(1, self.task.options.rounds + 1):
            before = self.value
            for move in self.task.options.moves:
                if self._ended():
                    return
                if move in PATIENT and self.value < before * (1 - WAIT):
                    continue
                assert self.point is not None
                self._offer(number, move, ALL_MOVES[move](self.task, self.point, rng))
            fruitless = 0 if self.value < before * (1 - PROGRESS) else fruitless + 1
            if fruitless >= self.task.options.patience:
                self.status = "stalled"
                return

    def _ended(self) -> bool:
        if self.status == "rounds" and self.task.expired:
            self.status = "time_limit"
        if self.point is None and self.status == "rounds":
            self.status = "stalled"
        return self.status != "rounds"

    def _offer(self, number: int, move: str, found: SearchPoint | None) -> None:
        """Keep the point when its network is better and small enough."""
        if found is None:
            self._record(number, move, np.inf, accepted=False)
            return
        if found.solution.status == "interrupted":
            self.status = "interrupted"
        fits = int((found.network.v != 0).sum()) <= self.task.max_units
        better = fits and found.value < self.value - IMPROVEMENT * abs(self.value)
        if better:
            self.network, self.value = found.network, found.value
        if better or (fits and self.point is None):
            self.point = found
        self._record(number, move, found.value, accepted=better)

    def _record(self, number: int, move: str, tried: float, *, accepted: bool) -> None:
        units = int((self.network.v != 0).sum())
        seconds = time.perf_counter() - self.began
        step = SearchStep(self.number, number, move, float(tried), self.value, accepted, units, seconds)
        self.steps.append(step)
