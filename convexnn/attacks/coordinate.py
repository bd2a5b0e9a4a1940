"""Coordinate descent for polynomial networks over boxes: every coordinate goes to its best place, exactly, in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.attacks.base import Attack, AttackProblem
from convexnn.attacks.objectives import BinaryMargin, ClassMargin
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.quadratic.boxes import Boxes, coordinate_descent
from convexnn.quadratic.duels import Duel, duels
from convexnn.quadratic.form import QuadraticForm, is_quadratic

Array = NDArray[np.float64]


@dataclass(frozen=True)
class CoordinateDescent(Attack):
    """Points of a box that no change of one coordinate improves; margins against every rival, both signs of errors.

    Starts: the sample, the corner along the gradient, and random corners that all samples share, so that the result of
    a sample does not depend on the batch.

    Parameters
    ----------
    restarts : int, default 5
        Random corners.
    required : bool, default True
        Whether a problem that it does not know is an error; else nothing is proposed for it.
    """

    restarts: int = 5
    required: bool = True

    name: ClassVar[str] = "coordinate"

    def __post_init__(self) -> None:
        """Refuse counts that are not positive integers."""
        if isinstance(self.restarts, bool) or not isinstance(self.restarts, (int, np.integer)) or self.restarts < 1:
            raise InvalidInputError(f"restarts must be a positive integer, got {self.restarts!r}.")

    def propose(self, problem: AttackProblem) -> Iterator[Array]:
        """The best point of every start and rival.

        Raises
        ------
        UnsupportedModelError
            Where ``required``, for other networks than quadratic functions, other sets than boxes, and losses of
            several outputs.
        """
        reason = _why_not(problem)
        if reason and self.required:
            raise UnsupportedModelError(f"method='coordinate' {reason}; use 'pgd'.")
        if not reason:
            lower, upper = problem.threat.bounding_box(problem.X)
            for duel in _targets(problem):
                boxes = Boxes.between(duel.form, lower[duel.rows], upper[duel.rows], duel.signs)
                for start in self._starts(boxes, problem.seed):
                    points = problem.X.copy()
                    points[duel.rows] = boxes.centres + coordinate_descent(boxes, start)[0]
                    yield points

    def _starts(self, boxes: Boxes, seed: int) -> Iterator[Array]:
        rng = np.random.default_rng([seed, 7])
        yield np.zeros_like(boxes.halves)
        yield -np.sign(boxes.slopes) * boxes.halves
        for _ in range(self.restarts):
            yield np.where(rng.random(boxes.halves.shape[1]) < 0.5, -1.0, 1.0) * boxes.halves


def _why_not(problem: AttackProblem) -> str:
    if not is_quadratic(problem.network):
        return f"needs one hidden layer with a polynomial or identity activation, got {problem.network!r}"
    if problem.threat.norm not in ("linf", "box"):
        return f"needs an LInfBall or a Box, got {problem.threat!r}"
    margins = isinstance(problem.objective, BinaryMargin | ClassMargin)
    if problem.network.n_outputs > 1 and (not margins or getattr(problem.objective, "loss", None) is not None):
        return "knows margins of several outputs, not losses of them"
    return ""


def _targets(problem: AttackProblem) -> Iterator[Duel]:
    """What to make small: margins against the rivals, or the output and minus the output."""
    objective, rows = problem.objective, np.arange(len(problem.X))
    if isinstance(objective, BinaryMargin | ClassMargin):
        labels = objective.y > 0 if isinstance(objective, BinaryMargin) else objective.y
        yield from duels(problem.network, labels.astype(np.intp))
        return
    form = QuadraticForm.of_network(problem.network)
    for sign in (1.0, -1.0):
        yield Duel(form, rows, np.full(len(rows), sign), rows)
