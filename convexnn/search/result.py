"""What a search returns."""

from __future__ import annotations

from dataclasses import dataclass, field

from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Solution
from convexnn.values import ByValue


@dataclass(frozen=True)
class SearchStep:
    """One move that was tried.

    Attributes
    ----------
    start, round : int
        Which of the searches, and which of its rounds; round 0 is the convex program of the start's own patterns.
    move : str
        ``"start"``, ``"solve"`` or the name of a move.
    tried : float
        Objective of the network that the move proposed; ``inf`` when it had nothing to propose.
    objective : float
        Of the best network of this search after the move; never rises.
    accepted : bool
    units : int
        Hidden units with weights of the best network.
    seconds : float
        Since the search began.
    """

    start: int
    round: int
    move: str
    tried: float
    objective: float
    accepted: bool
    units: int
    seconds: float


@dataclass(frozen=True, eq=False)
class SearchResult(ByValue):
    """The best network of all searches, and what was tried.

    Attributes
    ----------
    network : Network
        As many hidden units as the start, or more where ``max_units`` allows it; unused ones are zero.
    patterns : ActivationPatterns
        Of the program behind ``solution``, on the rows as they were given.
    solution : Solution or None
        Its gap concerns the program with these patterns; None when no program was solved.
    objective, start_objective : float
        Training objective of ``network`` and of the start, recomputed from the networks;
        ``objective <= start_objective`` always.
    history : tuple of SearchStep
        All searches one after the other; within one the objective never rises.
    status : str
        ``"rounds"`` when all were used, ``"stalled"`` when the moves had nothing left, ``"time_limit"`` or
        ``"interrupted"``; of the search that found the network, or how the whole was cut short.
    """

    network: Network
    patterns: ActivationPatterns = field(repr=False)
    solution: Solution | None = field(repr=False)
    objective: float
    start_objective: float
    history: tuple[SearchStep, ...] = field(repr=False)
    status: str

    @property
    def reduction(self) -> float:
        """Relative reduction of the objective of the start, in [0, 1]."""
        return 0.0 if self.start_objective <= 0 else 1 - self.objective / self.start_objective

    @property
    def accepted(self) -> float:
        """Share of the moves tried that were accepted, in [0, 1]."""
        tried = [step for step in self.history if step.round > 0]
        return sum(step.accepted for step in tried) / max(len(tried), 1)
