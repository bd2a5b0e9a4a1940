"""The regularizer as a cone with Nesterov-Todd scaling: what the interior point method asks of it.

Each block keeps its own primal and dual cone variables. In scaled coordinates both become the same point
``lam``; a Newton direction is a pair ``(a, b)`` of scaled primal and dual changes with ``a + b = target``.
Targets of the complementarity equation are sums of ``affine``, ``centring``, ``second_order`` and ``clipped``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


@dataclass(frozen=True)
class ConeStep:
    """A Newton direction of a block: scaled primal and dual changes.

    ``extra`` holds the changes of the extra variables, or whatever else the block needs to move; all parts are linear
    in the direction.
    """

    extra: Array
    primal: Array
    dual: Array


class ConeBlock(Protocol):
    """A regularizer as seen by the interior point method.

    ``share`` is the total weight of the cone on the path, relative to that of all cone rows; ``weight`` is the weight
    of the regularizer.
    """

    degree: int
    share: float
    weight: float
    rank: int
    n_extra: int

    def start(self, centre: Array, mu: float) -> Array:
        """Set the variables on the central path for ``mu``; returns ``U``, a positive multiple of the centre."""

    def state(self) -> tuple[Array, ...]:
        """Primal and dual variables over the features as offered; empty when there is no warm start."""

    def resume(self, state: tuple[Array, ...], U: Array, ratio: float) -> bool:
        """Take up a state at another point, multipliers times ``ratio``; False when it is not interior."""

    def value(self) -> float:
        """Regularizer in its cone variables."""

    def gap(self) -> float:
        """Complementarity ``<primal, dual>``."""

    def dual_residual(self) -> tuple[Array, Array]:
        """What the dual variable contributes to stationarity in ``U`` (d + 1, p) and in the extra variables."""

    def rescale(self) -> None:
        """Compute the scaling at the current point; LinAlgError when it left the cone."""

    def unit_hessian(self) -> Array:
        """Block diagonal part of the Hessian in U, all other variables eliminated, (p, d + 1, d + 1)."""

    def low_rank(self) -> Array | None:
        """F of the rest ``F'F`` of the Hessian, shape (rank, p, d + 1); None without one."""

    def affine(self) -> Array:
        """Target that asks for complementarity zero."""

    def centring(self, mu: float) -> Array:
        """Target change that asks for complementarity ``mu``."""

    def second_order(self, step: ConeStep) -> Array:
        """Mehrotra's correction for a predictor step."""

    def clipped(self, step: ConeStep, length: float, mu: float) -> Array:
        """Gondzio's correction: pull trial products into ``[mu / 10, 10 mu]``."""

    def pull_back(self, target: Array) -> tuple[Array, Array]:
        """Right-hand side contribution of a target, in ``U`` and in the extra variables."""

    def expand(self, dU: Array, extra: Array, target: Array) -> ConeStep:
        """Scaled changes that belong to a Newton direction."""

    def max_step(self, step: ConeStep, limit: float) -> float:
        """Longest step up to ``limit`` that keeps both variables in the cone."""

    def gap_after(self, step: ConeStep, length: float) -> float:
        """Complementarity after a step."""

    def move(self, U: Array, step: ConeStep, length: float) -> None:
        """Take the step; ``U`` is the new point."""

    def dual_gradient(self) -> Array:
        """Subgradient of the regularizer that the dual variable stands for, (d + 1, p)."""

    def matrix(self) -> Array | None:
        """Matrix multiplier, or None."""


class BorderedBlock(ConeBlock, Protocol):
    """A regularizer with extra variables (``n_extra > 0``) whose Hessian has no small rank."""

    def add_hessian(self, H: Array, blocks: Array) -> None:
        """Add to the lower triangle of ``H``; ``blocks`` views its U part."""

    def hessian_times(self, dU: Array, extra: Array) -> tuple[Array, Array]:
        """Hessian of the block times a direction."""


def clip_change(values: Array, target: Array | float) -> Array:
    """Change that pulls products into ``[target / 10, 10 target]``, never by more than ``-10 target``."""
    return np.asarray(np.maximum(np.clip(values, 0.1 * target, 10 * target) - values, -10 * target))
