"""Losses of the margin terms as smooth functions: value, slopes, and how the slopes bend.

A loss with a kink is replaced by its proximal smoothing at a dual point ``s0`` (the augmented Lagrangian of the dual)::

    sup_s  -s'u - phi*(-s) - (mu / 2) |s - s0|^2

which lies below the loss, and equals it where ``s0`` is optimal: moving ``s0`` to the maximizer round by round removes
the bias without sending ``mu`` to zero. In regression the larger of two losses has a kink where both are equal, so the
two slopes of a sample are found together.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.losses import Hinge, Huber
from convexnn.quadratic.structure import QuadraticStructure

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Bent:
    """A loss at worst cases ``w``: its value, slopes, and the derivative of the slopes.

    Attributes
    ----------
    value : float
        Weighted sum.
    slopes : array, shape (N,)
        ``s_t >= 0``, not weighted.
    own : array, shape (N,)
        ``-ds_t / dw_t``, nonnegative.
    cross : array, shape (N / 2,), or None
        ``-ds_t / dw_t'`` for the two terms of a sample.
    """

    value: float
    slopes: Array
    own: Array
    cross: Array | None = None

    def change(self, dw: Array) -> Array:
        """Change of the slopes along a change of the worst cases, shape (N,)."""
        ds = -self.own * dw
        if self.cross is not None:
            first, second = np.split(dw, 2)
            ds -= np.concatenate([self.cross * second, self.cross * first])
        return ds


class TermLoss:
    """A smooth loss, or a loss at radius zero, where the two terms of regression never matter together."""

    proximal = False
    #: Steepest slope on the side of the loss, where slopes at a kink are less.
    kink = 0.0

    def __init__(self, structure: QuadraticStructure) -> None:
        self.structure = structure

    def at(self, w: Array) -> Bent:
        """Value, slopes and curvature at worst cases ``w`` (N,)."""
        u = w - self.structure.offset
        slopes = self.structure.term_slope(u)
        curvature = self.structure.loss.curvature(
            u, np.ones_like(u) if self.structure.loss.binary else np.zeros_like(u)
        )
        own = np.where(slopes > 0, curvature, 0.0)
        return Bent(float(self.structure.share @ self.structure.term_loss(u)), slopes, own)

    def advance(self, slopes: Array, mu: float) -> None:
        """Move the proximal point; nothing to do without one."""

    def weigh(self, mu: float) -> None:
        """Change the weight of the proximal term alone."""


class ProximalHinge(TermLoss):
    """``max(0, 1 - w)`` smoothed at ``s0``: slopes ``clip(s0 + (1 - w) / mu, 0, 1)``."""

    proximal = True
    kink = 1.0

    def __init__(self, structure: QuadraticStructure, mu: float) -> None:
        super().__init__(structure)
        self.mu, self.center = mu, np.zeros(structure.n_terms)

    def at(self, w: Array) -> Bent:
        """Value, slopes and curvature at worst cases ``w`` (N,)."""
        free = self.center + (1.0 - w) / self.mu
        slopes = np.clip(free, 0.0, 1.0)
        values = slopes * (1.0 - w) - 0.5 * self.mu * (slopes - self.center) ** 2
        own = np.where((free > 0) & (free < 1), 1.0 / self.mu, 0.0)
        return Bent(float(self.structure.share @ values), slopes, own)

    def advance(self, slopes: Array, mu: float) -> None:
        """Move the proximal point to the slopes and change its weight."""
        self.center, self.mu = slopes, mu

    def weigh(self, mu: float) -> None:
        """Change the weight of the proximal term alone."""
        self.mu = mu


class ProximalResiduals(TermLoss):
    """The larger of two losses of a residual, squared up to a steepest slope, smoothed at ``s0`` (two for each sample).

    With ``T = s + s'`` the dual is ``max -s u - s' u' - T^2 / 4 - (mu / 2) |s - s0|^2`` over ``s, s' >= 0``,
    ``T <= cap``: both positive, or one of them zero.

    Implements: convexnn, Proposition 3 of theory/column_generation.
    """

    proximal = True

    def __init__(self, structure: QuadraticStructure, mu: float) -> None:
        super().__init__(structure)
        self.mu, self.center = mu, np.zeros(structure.n_terms)
        loss = structure.loss
        self.cap = 2.0 * loss.delta if isinstance(loss, Huber) else np.inf

    def at(self, w: Array) -> Bent:
        """Value, slopes and curvature at worst cases ``w`` (N,)."""
        mu = self.mu
        u, center = (w - self.structure.offset).reshape(2, -1), self.center.reshape(2, -1)
        pull = mu * center - u  # the slope mu s of a term without its partner and without the loss
        total = pull.sum(axis=0) / (mu + 1.0)
        capped = total > self.cap
        total = np.minimum(total, self.cap)
        half = 0.5 * (pull[0] - pull[1]) / mu
        slopes = np.stack([0.5 * total + half, 0.5 * total - half])
        single = pull / (mu + 0.5)
        best = pull[0] >= pull[1]
        lone = np.clip(np.where(best, single[0], single[1]), 0.0, self.cap)
        alone = (slopes < 0).any(axis=0)
        slopes = np.where(alone, np.stack([np.where(best, lone, 0.0), np.where(best, 0.0, lone)]), slopes)
        both = ~alone
        own = np.where(both, 0.5 / mu + np.where(capped, 0.0, 0.5 / (mu + 1.0)), 0.0)
        cross = np.where(both, -0.5 / mu + np.where(capped, 0.0, 0.5 / (mu + 1.0)), 0.0)
        bend = np.where(alone & (lone > 0) & (lone < self.cap), 1.0 / (mu + 0.5), 0.0)
        own = np.stack([own + np.where(best, bend, 0.0), own + np.where(best, 0.0, bend)])
        value = -(slopes * u).sum(axis=0) - 0.25 * slopes.sum(axis=0) ** 2
        value -= 0.5 * mu * ((slopes - center) ** 2).sum(axis=0)
        return Bent(float(self.structure.governing_share @ value), slopes.ravel(), own.ravel(), cross)

    def advance(self, slopes: Array, mu: float) -> None:
        """Move the proximal point to the slopes and change its weight."""
        self.center, self.mu = slopes, mu

    def weigh(self, mu: float) -> None:
        """Change the weight of the proximal term alone."""
        self.mu = mu


def term_loss(structure: QuadraticStructure, mu: float) -> TermLoss:
    """The smooth form of the loss of a structure; ``mu`` is the weight of the proximal term where there is a kink."""
    if isinstance(structure.loss, Hinge):
        return ProximalHinge(structure, mu)
    if structure.is_regression and structure.radius > 0:
        return ProximalResiduals(structure, mu)
    return TermLoss(structure)
