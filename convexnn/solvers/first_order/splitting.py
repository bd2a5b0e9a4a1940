"""Alternating directions: a least-squares step for the loss, projections and shrinkage for cones and regularizer.

    minimize  loss(U) + R(V) + indicator of the cones (V)   subject to  U = V

with scaled multiplier Y and penalty ``sigma``, over-relaxed. With a spectral regularizer V carries the cones alone and
a second copy carries R. Penalties follow the ratio of the relative residuals.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers.first_order.cones import Projector, WorkingRows
from convexnn.solvers.first_order.quadratic import Quadratic
from convexnn.solvers.first_order.regularizers import Split, shrink

Array = NDArray[np.float64]

#: Steps of one round; the penalty and the evidence are looked at between rounds.
ROUND = 20
#: Rounds of the first run-up in which rows are looked for at every step; later at every fifth.
SEARCHING_STEPS = 20
RELAXATION = 1.6
#: A penalty changes at most by this factor at a time, and only when residuals differ by more than its square root.
LARGEST_CHANGE = 10.0
#: Where no unit is ever active, the loss says nothing about the size of a penalty.
SMALLEST_PENALTY = 1e-8
#: First penalty of the group norm, in units of its weight times the root of the loss curvature.
FIRST_PENALTY = 30.0
#: Rounds after which penalties change only every fifth round, so that the iteration settles.
SETTLED = 15


@dataclass
class Residuals:
    """Relative primal and dual residual of one copy, and the worst relative slack that was seen last."""

    primal: float = np.inf
    dual: float = np.inf

    @property
    def largest(self) -> float:
        """The larger of the two."""
        return max(self.primal, self.dual)

    def change(self) -> float:
        """Factor by which the penalty should change to balance them."""
        ratio = self.primal / max(self.dual, 1e-300)
        if not np.isfinite(ratio) or 0.5 < ratio < 2:
            return 1.0
        return float(np.clip(np.sqrt(ratio), 1 / LARGEST_CHANGE, LARGEST_CHANGE))


class Splitting:
    """The iterate and its steps.

    Implements: Boyd et al. (2011), Section 3.1.1, relaxed as in Section 3.4.3, varying penalty of Section 3.4.1.

    Parameters
    ----------
    quadratic : Quadratic
        The loss.
    working : WorkingRows
        The cones.
    weight : float
        Weight of the group norm; 0 with a spectral split.
    split : Split or None
        The spectral regularizer.
    start : array, shape (p, d + 1)
        First value of the copies.
    """

    def __init__(
        self, quadratic: Quadratic, working: WorkingRows, weight: float, split: Split | None, start: Array
    ) -> None:
        self.quadratic, self.working, self.weight, self.split = quadratic, working, weight, split
        self.project = Projector(working)
        self.V: Array = start.copy()
        self.U: Array = self.V
        diagonal = np.einsum("jaa->ja", quadratic.blocks)
        size = max(float(diagonal.mean()), SMALLEST_PENALTY)
        strength = weight * np.sqrt(size) if split is None else split.strength()
        self.penalty = min(size, FIRST_PENALTY * float(strength))
        self.Y: Array = -quadratic.gradient(start) / self.penalty if start.any() else np.zeros_like(start)
        self.split_penalty = 0.0
        if split is not None:
            curvature = split.curvature()[0].mean() * start.shape[1] / max(start.shape[1] - 1, 1)
            self.split_penalty = self.penalty / float(curvature)
        self.dropped: NDArray[np.bool_] = np.zeros(len(start), dtype=bool)
        self.residuals, self.split_residuals = Residuals(), Residuals(0.0, 0.0)
        self.worst_slack = -np.inf
        self.steps = self.rounds = 0
        self._factor()

    def _factor(self) -> None:
        shift = np.full(self.V.shape, self.penalty)
        total = np.zeros(self.V.shape[1])
        if self.split is not None:
            own, total = self.split.curvature()
            shift, total = shift + self.split_penalty * own, self.split_penalty * total
        self.system = self.quadratic.system(shift, total)

    def round(self) -> None:
        """Take ``ROUND`` steps, then balance the penalties."""
        for _ in range(ROUND):
            self.step()
        self.rounds += 1
        self.working.drop_idle()
        if self.rounds <= SETTLED or self.rounds % 5 == 0:
            self._balance()

    def step(self) -> None:
        """One step of all copies."""
        right = self.penalty * (self.V - self.Y)
        if self.split is not None:
            right = right + self.split_penalty * self.split.pull_back()
        self.U = self.system.solve(right)
        before = self.V
        target = RELAXATION * self.U + (1 - RELAXATION) * before + self.Y
        threshold = self.weight / self.penalty
        needed = self.project.bound(target) > threshold
        nearest = self.project(target, needed & ~self.dropped)
        self.V = shrink(np.where(needed[:, None], nearest, 0.0), threshold) if self.weight else nearest
        self.V[self.dropped] = 0.0
        self.Y = target - self.V
        self.Y[self.dropped] = 0.0
        self.residuals = Residuals(_ratio(self.U - self.V, self.U, self.V), _ratio(self.V - before, self.Y))
        if self.split is not None:
            self.split_residuals = Residuals(*self.split.step(self.U, self.split_penalty, RELAXATION))
        self.steps += 1
        if self.steps <= SEARCHING_STEPS or self.steps % 5 == 0:
            self.worst_slack = self.working.add_violated(self.V)[1]

    def _balance(self) -> None:
        change, split_change = self.residuals.change(), self.split_residuals.change() if self.split else 1.0
        self.penalty *= change
        self.Y = self.Y / change
        if self.split is not None:
            self.split_penalty *= split_change
            self.split.rescale(split_change)
        if change != 1 or split_change != 1:
            self._factor()


def _ratio(change: Array, *sizes: Array) -> float:
    return float(np.linalg.norm(change) / max([1e-300, *(float(np.linalg.norm(size)) for size in sizes)]))
