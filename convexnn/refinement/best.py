"""The best network of a refinement so far, and how it got there."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import Any

from convexnn.network import Network
from convexnn.refinement.options import RefineOptions
from convexnn.search import TrainingObjective

History = list[dict[str, Any]]


class BestSoFar:
    """Best network so far, its objective, and the history of accepted steps."""

    def __init__(self, network: Network, value: float, objective: TrainingObjective, began: float) -> None:
        self.network, self.value, self.objective, self.began = network, value, objective, began
        self.origin = network
        self.history: History = []
        self.record("start")

    def record(self, stage: str) -> None:
        """Add a row to the history."""
        self.history.append({"stage": stage, "objective": self.value, "seconds": time.perf_counter() - self.began})

    def offer(self, network: Network, stage: str) -> bool:
        """Keep ``network`` when it is strictly better."""
        value = self.objective(network)
        better = value < self.value
        if better:
            self.network, self.value = network, value
        self.record(stage)
        return better

    def left(self, options: RefineOptions) -> RefineOptions:
        """The options with what is left of the time limit."""
        if options.time_limit is None:
            return options
        return replace(options, time_limit=max(options.time_limit - (time.perf_counter() - self.began), 1e-3))
