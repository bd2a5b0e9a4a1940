"""Losses of the margin terms with a logarithmic barrier on their slopes: smooth, and Newton's method knows its way.

    max_s  -s'u - phi*(-s) + beta sum log (distance of the slopes to the ends of their domain)

lies within a few ``beta`` of the loss (each logarithm counts once), as the barrier on the matrices lies within a few
``tau`` of the regularizer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.losses import Hinge, Huber, SquaredHinge
from convexnn.quadratic.structure import QuadraticStructure
from convexnn.solvers.column_generation.term_losses import Bent, TermLoss

Array = NDArray[np.float64]

HALVINGS = 64


class BarrierLoss(TermLoss):
    """A loss that is smooth by itself; others override :meth:`at`."""

    beta = 0.0


class BarrierHinge(BarrierLoss):
    """Slopes between zero and one."""

    def at(self, w: Array) -> Bent:
        """Value, slopes and curvature at worst cases ``w`` (N,)."""
        beta, v = self.beta, 1.0 - w
        root = np.hypot(v, 2.0 * beta)
        away = np.where(v > 0, 4.0 * beta**2 / (root + np.abs(v)), root - v)
        slopes, rest = 2.0 * beta / (2.0 * beta + away), away / (2.0 * beta + away)
        own = (slopes * rest) ** 2 / (beta * (slopes**2 + rest**2))
        values = slopes * v + beta * (np.log(slopes) + np.log(rest))
        return Bent(float(self.structure.share @ values), slopes, own)


class BarrierSquaredHinge(BarrierLoss):
    """Positive slopes."""

    def at(self, w: Array) -> Bent:
        """Value, slopes and curvature at worst cases ``w`` (N,)."""
        beta, v = self.beta, 1.0 - w
        root = np.sqrt(v * v + 2.0 * beta)
        slopes = np.where(v > 0, v + root, 2.0 * beta / (root + np.abs(v)))
        values = slopes * v - 0.25 * slopes**2 + beta * np.log(slopes)
        return Bent(float(self.structure.share @ values), slopes, 1.0 / (0.5 + beta / slopes**2))


class BarrierResiduals(BarrierLoss):
    """The larger of two losses of a residual, squared up to a steepest slope: both slopes positive, their sum below it.

    With ``s`` the slope of the term that counts more, the other one is ``s beta / (beta + s |u - u'|)``, and one
    increasing equation in ``s`` is left.
    """

    def __init__(self, structure: QuadraticStructure) -> None:
        super().__init__(structure)
        self.cap = 2.0 * structure.loss.delta if isinstance(structure.loss, Huber) else np.inf

    def at(self, w: Array) -> Bent:
        """Value, slopes and curvature at worst cases ``w`` (N,)."""
        beta = self.beta
        u = (w - self.structure.offset).reshape(2, -1)
        least, apart = u.min(axis=0), np.abs(u[0] - u[1])
        larger = self._larger(least, apart)
        smaller = larger * beta / (beta + larger * apart)
        slopes = np.where(u[0] <= u[1], np.stack([larger, smaller]), np.stack([smaller, larger]))
        total = larger + smaller
        room = np.maximum(self.cap - total, 1e-16 * min(self.cap, 1e300))
        values = -(slopes * u).sum(axis=0) - 0.25 * total**2 + beta * np.log(slopes).sum(axis=0)
        bend = np.full(len(total), 0.5)
        if np.isfinite(self.cap):
            values += beta * np.log(room)
            bend += beta / room**2
        p, q = beta / slopes[0] ** 2, beta / slopes[1] ** 2
        determinant = p * q + bend * (p + q)
        own = np.concatenate([(bend + q) / determinant, (bend + p) / determinant])
        value = float(self.structure.governing_share @ values)
        return Bent(value, slopes.ravel(), own, -bend / determinant)

    def _larger(self, least: Array, apart: Array) -> Array:
        beta = self.beta
        high = 2.0 * np.maximum(-least, 0.0) + 4.0 * np.sqrt(beta)
        high = np.log(np.minimum(high, self.cap))
        low = np.log(beta) - np.log(np.abs(least) + np.exp(high) + beta / min(self.cap, 1e300) + np.sqrt(beta)) - 2.0
        low = np.minimum(low, high)
        for _ in range(HALVINGS):
            middle = 0.5 * (low + high)
            s = np.exp(middle)
            total = s + s * beta / (beta + s * apart)
            room = self.cap - total
            pushed = np.where(room > 0, beta / np.where(room > 0, room, 1.0), np.inf)
            above = least + 0.5 * total + pushed - beta / s > 0
            low, high = np.where(above, low, middle), np.where(above, middle, high)
        larger: Array = np.exp(low)
        return larger


def barrier_loss(structure: QuadraticStructure) -> BarrierLoss:
    """The loss of a structure with a barrier on its slopes."""
    if structure.is_regression:
        return BarrierResiduals(structure)
    if isinstance(structure.loss, Hinge):
        return BarrierHinge(structure)
    if isinstance(structure.loss, SquaredHinge):
        return BarrierSquaredHinge(structure)
    return BarrierLoss(structure)
