"""What training to global optimality hands back, for every regularizer the same words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.program import Solution
from convexnn.values import ByValue


@dataclass(frozen=True)
class GlobalRound:
    """One round of column generation: the network so far and what is proved about all networks so far."""

    objective: float
    lower_bound: float
    gap: float
    patterns: int
    seconds: float


@dataclass(frozen=True, eq=False)
class GlobalResult(ByValue):
    """A trained network and how far any network, of any width, can be below it.

    Attributes
    ----------
    network : Network
        Never worse than the start.
    objective : float
        Training objective of ``network``, recomputed from it.
    lower_bound : float
        Proved lower bound on the training objective of every network with one hidden ReLU layer.
    gap : float
        ``(objective - lower_bound) / objective``, with the floor of :func:`convexnn.program.relative_gap`.
    status : str
        ``"global"`` (gap within the tolerance), ``"time_limit"``, ``"max_rounds"``, ``"interrupted"`` or ``"stalled"``.
    patterns : ActivationPatterns
        Of the last convex program, on the distinct rows of the inputs.
    solution : Solution or None
        Of the convex program behind ``network``; its own gap concerns its patterns only.
    multipliers : object
        What ``lower_bound`` is recomputed from.
    history : tuple of GlobalRound
        ``objective`` never rises, ``lower_bound`` never falls.
    seconds : float
    """

    network: Network
    objective: float
    lower_bound: float
    gap: float
    status: str
    patterns: ActivationPatterns = field(repr=False)
    solution: Solution | None = field(repr=False)
    multipliers: Any = field(repr=False)
    history: tuple[GlobalRound, ...] = field(repr=False)
    seconds: float

    @property
    def scope(self) -> str:
        """``"global"`` when the gap passed, else ``"patterns"``."""
        return "global" if self.status == "global" else "patterns"
