"""The non-convex training objective, recomputed from a network: what "never worse" is judged by."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.certificates.lipschitz import lipschitz
from convexnn.losses import Loss, get_loss
from convexnn.network import Network

Array = NDArray[np.float64]


@dataclass(frozen=True)
class TrainingObjective:
    """``mean(l(f(x_i); y_i)) + lam R(f)``, weighted, recomputed from the network alone.

    ``l`` is ``(f - y)^2`` or another loss of :mod:`convexnn.losses`; margin losses take targets -1 / +1. With several
    outputs (``y`` of shape (n, k)) it is summed over them.
    """

    X: Array
    y: Array
    sample_weight: Array | None
    regularizer: str
    lam: float
    loss: str | Loss = "squared"

    def __call__(self, network: Network) -> float:
        """Objective of ``network``; for ``"lipschitz"`` R is the square of the certified LipSDP bound."""
        losses = get_loss(self.loss).value(network(self.X), self.y)
        mean = np.average(losses.reshape(len(losses), -1).sum(axis=1), weights=self.sample_weight)
        return float(mean) + self.lam * self.penalty(network)

    def penalty(self, network: Network) -> float:
        """R: ``L^2`` or the sum of squares of all hidden weights, hidden biases and outer weights."""
        if self.regularizer == "lipschitz":
            return lipschitz(network).bound ** 2
        return float((network.W**2).sum() + (network.b**2).sum() + (network.v**2).sum())
