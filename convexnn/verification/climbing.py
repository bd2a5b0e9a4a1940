"""An attack from given points: what a relaxation believes to be the worst case is a good place to start."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.attacks import Attack, AttackProblem, linear_maximizer
from convexnn.verification.task import margin_of

Array = NDArray[np.float64]

#: Part of the way to the best point of the linearized margin, first and last step.
FIRST, LAST = 1.0, 0.05


@dataclass(frozen=True, eq=False)
class Climb(Attack):
    """The given points of ONE sample, and conditional gradient steps from each towards the strongest rival there.

    Parameters
    ----------
    label : int
        Of the sample.
    points : array, shape (p, d)
        Need not be in the set.
    steps : int
    """

    label: int
    points: Array
    steps: int = 20

    name: ClassVar[str] = "climb"

    def propose(self, problem: AttackProblem) -> Iterator[Array]:
        """The worst point of every path, one after the other."""
        if self.points.ndim != 2 or not len(self.points) or self.points.shape[1] != problem.X.shape[1]:
            return
        usable = self.points[np.isfinite(self.points).all(axis=1)]
        many = replace(
            problem,
            X=np.repeat(problem.X, len(usable), axis=0),
            objective=margin_of(problem.network, np.full(len(usable), self.label, dtype=np.intp)),
        )
        if len(usable):
            yield from (point[None] for point in self._paths(many, usable))

    def _paths(self, problem: AttackProblem, start: Array) -> Array:
        x = problem.threat.project(start, problem.X)
        best, worst = x, np.full(len(x), -np.inf)
        goal = problem.objective.goals(problem.outputs(x))[0]
        for step in np.append(np.geomspace(FIRST, LAST, self.steps), 0.0):
            outputs, gradient = problem.slope(x, goal)
            value = problem.objective.value(outputs)
            best = np.where((value > worst)[:, None], x, best)
            worst = np.maximum(worst, value)
            x = x + step * (linear_maximizer(problem.threat, gradient, problem.X) - x)
        return best
