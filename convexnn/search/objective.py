"""The non-convex training objective, recomputed from a network: what "never worse" is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.certificates.lipschitz import lipschitz
from convexnn.network import Network

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingObjective:
    """``mean((f(x_i) - y_i)^2) + lam R(f)``, weighted, recomputed from the network alone."""

    X: Array
    y: Array
    sample_weight: Array | None
    regularizer: str
    lam: float

    def __call__(self, network: Network) -> float:
        """Objective of ``network``; for ``"lipschitz"`` R is the square of the certified LipSDP bound."""
        loss = float(np.average((network(self.X) - self.y) ** 2, weights=self.sample_weight))
        return loss + self.lam * self.penalty(network)

    def penalty(self, network: Network) -> float:
        """R: ``L^2`` or the sum of squares of all hidden weights, hidden biases and outer weights."""
        if self.regularizer == "lipschitz":
            return lipschitz(network).bound ** 2
        return float((network.W**2).sum() + (network.b**2).sum() + (network.v**2).sum())
