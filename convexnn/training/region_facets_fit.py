"""Pairs of opposite units on a polyhedral region, trained jointly under their interval bound (torch)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.training.region_facets_pricing import Frame

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
Batch = Callable[[], tuple[Array, Array]]

COLDEST, HOTTEST = -2.0, 5.0


@dataclass(frozen=True, eq=False)
class Pairs:
    """``f(y) = sum_g c_g1 act(u_g.y + b_g1) + c_g2 act(-u_g.y + b_g2)`` in the coordinates of a frame.

    Attributes
    ----------
    U : array, shape (n, d)
        Directions with support function one: ``|u_g.y| <= 1`` on the region, ``u_g.y <= 1`` for single units.
    b, c : array, shape (n, 2), or (n, 1) for single units
        Biases; positive output weights.
    leak : float
        Slope of the activation below zero.
    """

    U: Array
    b: Array
    c: Array
    leak: float = 0.0

    @classmethod
    def of(cls, U: Array, threshold: float, leak: float, sides: int = 2) -> Pairs:
        """Pairs that start just below their facets: biases ``-threshold``, weights one; one side gives single units."""
        return cls(U, np.full((len(U), sides), -threshold), np.ones((len(U), sides)), leak)


@dataclass(frozen=True)
class Schedule:
    """Steps and rates of the joint training.

    Attributes
    ----------
    steps : int
    learning_rate : float
        Of biases and output weights; directions move at a fifth of it.
    negative_weight : float
        Of the negative samples, against one for the positive ones.
    every : int
        Steps between looks.
    """

    steps: int
    learning_rate: float
    negative_weight: float
    every: int

    def rate(self, step: int) -> float:
        """Fifty steps of warming up, then a cosine down to two percent."""
        fall = 0.02 + 0.98 * 0.5 * (1.0 + np.cos(np.pi * min(step / max(self.steps, 1), 1.0)))
        return float(self.learning_rate * fall * min(1.0, (step + 1) / 50))


def fitted(pairs: Pairs, frame: Frame, batch: Batch, plan: Schedule, look: Callable[[int, Pairs], bool]) -> None:
    """Adam on directions, biases and output weights; the bound is part of the function, so every iterate is safe.

    The logit of a sample is ``T (f - B) / (B - f(center) + 0.05 mean(f - f(center)))`` with the bound B: it does not
    depend on the scale of f. ``look`` sees the pairs every so often and stops the run by a true value.

    Parameters
    ----------
    pairs : Pairs
    frame : Frame
    batch : callable
        Draws positive and negative samples (n, d), in the frame.
    plan : Schedule
    look : callable (step, pairs) -> bool
    """
    import torch

    parts = [torch.tensor(a, dtype=torch.float64) for a in (pairs.U, pairs.b, np.log(pairs.c))]
    U, b, log_c = (part.requires_grad_(True) for part in parts)
    temperature = torch.tensor(np.log(10.0), dtype=torch.float64, requires_grad=True)
    rates = (0.2, 1.0, 1.0, 2.5)
    optimizer = torch.optim.Adam([{"params": [p], "lr": 0.0} for p in (U, b, log_c, temperature)], foreach=False)

    def now() -> Pairs:
        with torch.no_grad():
            return Pairs(frame.normalized(U.numpy()), b.numpy().copy(), log_c.exp().numpy(), pairs.leak)

    for step in range(plan.steps):
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate * plan.rate(step)
        reached = torch.as_tensor(frame.touched(U.detach().numpy()))  # h is linear where this stays
        u = U / (U * reached).sum(dim=1, keepdim=True)
        loss = _loss(_Terms(u, b, log_c.exp(), pairs.leak), temperature, batch(), plan.negative_weight)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            temperature.clamp_(COLDEST, HOTTEST)
            b.clamp_(max=0.0)
        if (step + 1) % plan.every == 0 and step + 1 < plan.steps and look(step + 1, now()):
            return
    look(plan.steps, now())


@dataclass(eq=False)
class _Terms:
    """The pairs as tensors."""

    u: torch.Tensor
    b: torch.Tensor
    c: torch.Tensor
    leak: float

    def ridges(self, a: torch.Tensor) -> torch.Tensor:
        """``phi_g(a_g)`` for a (batch, n), shape (batch, n)."""
        z = a[..., None] * a.new_tensor([1.0, -1.0])[: self.b.shape[1]] + self.b
        return (self.c * z.clamp_min(0.0) + self.leak * self.c * z.clamp_max(0.0)).sum(dim=-1)

    def bound(self) -> torch.Tensor:
        """``sum_g max(phi_g(1), phi_g(-1))``: phi_g is convex and ``|u_g.y| <= 1``; it rises for single units."""
        ends = self.ridges(self.b.new_tensor([[1.0], [-1.0]]).expand(2, len(self.b)))
        return ends.max(dim=0).values.sum()

    def values(self, Y: Any) -> torch.Tensor:
        """``f`` at samples (batch, d), shape (batch,)."""
        import torch

        return self.ridges(torch.as_tensor(Y) @ self.u.T).sum(dim=1)


def _loss(terms: _Terms, temperature: torch.Tensor, batch: tuple[Array, Array], weight: float) -> torch.Tensor:
    from torch.nn.functional import softplus

    bound, middle = terms.bound(), terms.ridges(terms.b.new_zeros(1, len(terms.b))).sum()
    positive = terms.values(batch[0])
    size = bound - middle + 0.05 * (positive.detach() - middle.detach()).mean().clamp_min(0.0) + 1e-9
    loss = softplus(-temperature.exp() * (positive - bound) / size).mean() + 1e-5 * temperature.exp()
    if len(batch[1]) and weight:
        loss = loss + weight * softplus(temperature.exp() * (terms.values(batch[1]) - bound) / size).mean()
    return loss
