"""The loss as the interior point method sees it: slope, curvature, and the complementarity pairs of its kinks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class LossStep:
    """Change of the intercept, of ``nu`` and of the two multipliers (2, n); empty where there are none."""

    intercept: float | Array  # several outputs: one for every prediction
    nu: Array
    pairs: Array


class LossTerm(Protocol):
    """A loss as seen by the path: every method is in the units of the problem."""

    degree: float

    def start(self, U: Array, mu: float) -> None:
        """Set the variables on the central path for ``mu`` at a given ``U``."""

    def value(self, U: Array) -> float:
        """Loss with the bias ridge."""

    def gap(self) -> float:
        """Complementarity of the kinks."""

    def gradient(self, U: Array) -> Array:
        """Gradient in ``U`` that the current multipliers stand for, with that of the ridge, (d + 1, p)."""

    def rescale(self) -> None:
        """Set the curvature of the problem at the current point."""

    def affine(self) -> Array:
        """Target that asks for complementarity zero."""

    def centring(self, mu: float) -> Array:
        """Target change that asks for complementarity ``mu``."""

    def second_order(self, step: LossStep) -> Array:
        """Mehrotra's correction for a predictor step."""

    def clipped(self, step: LossStep, length: float, mu: float) -> Array:
        """Gondzio's correction."""

    def pull_back(self, target: Array) -> Array:
        """Right-hand side contribution of a target, (d + 1, p)."""

    def expand(self, dU: Array, target: Array) -> LossStep:
        """Changes that belong to a Newton direction."""

    def max_step(self, step: LossStep, limit: float) -> float:
        """Longest step up to ``limit`` that keeps the pairs positive."""

    def gap_after(self, step: LossStep, length: float) -> float:
        """Complementarity after a step."""

    def move(self, U: Array, step: LossStep, length: float) -> None:
        """Take the step; ``U`` is the new point."""
