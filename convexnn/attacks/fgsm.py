"""The fast gradient method: one step to the best point of the linearized value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.attacks.base import Attack, AttackProblem, linear_maximizer

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FGSM(Attack):
    """One exact step of the linearized value along each goal.

    ``x' = argmax <g, x'>`` over the set: ``x + radius sign(g)`` for l-infinity, ``x + radius g / |g|_2`` for l2.
    Regression takes the step in both directions of the error and keeps the worse.

    Implements: Goodfellow, Shlens & Szegedy (2015), section 4, arXiv 1412.6572.
    """

    name: ClassVar[str] = "fgsm"

    def propose(self, problem: AttackProblem) -> Iterator[Array]:
        """One point per goal."""
        for goal in problem.objective.goals(problem.outputs(problem.X)):
            _, gradient = problem.slope(problem.X, goal)
            yield linear_maximizer(problem.threat, gradient, problem.X)
