"""What a safe network is worth at one moment: its bound, what an ascent finds below it, and the samples above it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from convexnn.training.region_frame import UnitBall
from convexnn.training.region_majorants_torch import Bounded, union_maximum

Array = NDArray[np.float64]

Subject = TypeVar("Subject", bound=Bounded)

POLISH = 60  # evaluations of the bound when only the majorants are optimized
ASCENT = 20
STARTS = 64


@dataclass(frozen=True)
class Evaluation:
    """One row of the history; see :class:`RegionTraining`."""

    bound: float
    lower: float
    accuracy: float
    attainable: float
    rejected: float

    @property
    def merit(self) -> float:
        """Mean share of right answers over the classes that have samples."""
        return self.accuracy if math.isnan(self.rejected) else 0.5 * (self.accuracy + self.rejected)


def evaluate(
    network: Bounded, balls: Sequence[UnitBall], positive: Array, negative: Array, margin: float, seed: int
) -> Evaluation:
    """Bound in float64, the best value that an ascent finds on the balls, and the shares of samples above and below.

    Parameters
    ----------
    network : Groups or Layers
        In float64 on the CPU.
    balls : sequence of UnitBall
    positive, negative : array, shape (n, d)
        Coordinates of the frame.
    margin : float
        Above the bound, where samples begin to count as accepted.
    seed : int
        Of the starts of the ascent.
    """
    import torch

    with torch.no_grad():
        bound = float(union_maximum(network, balls, 0.0))
        lower = max(ascent(network, ball, seed) for ball in balls)
        above = network.values(torch.as_tensor(positive)).numpy()
        below = network.values(torch.as_tensor(negative)).numpy()
    rejected = float(np.mean(below < bound + margin)) if len(below) else math.nan
    return Evaluation(
        bound, lower, float(np.mean(above > bound + margin)), float(np.mean(above > lower + margin)), rejected
    )


def ascent(network: Bounded, ball: UnitBall, seed: int, *, starts: int = STARTS, steps: int = ASCENT) -> float:
    """Largest ``f`` met on one ball by ``e <- gradient / |gradient|``, with and without a share of the old point.

    For a convex f the first map never descends. A lower bound on the maximum.
    """
    import torch

    like = network.multipliers()
    shift = None if ball.shift is None else torch.as_tensor(ball.shift, dtype=like.dtype)
    axes = None if ball.map is None else torch.as_tensor(ball.map, dtype=like.dtype)
    width = network.n_inputs if ball.map is None else ball.map.shape[1]
    e = torch.as_tensor(np.random.default_rng([seed, 2]).standard_normal((starts, width)), dtype=like.dtype)
    e = e / e.norm(dim=1, keepdim=True).clamp_min(1e-300)
    e[0] = 0.0  # the center is a point of the region too
    memory = torch.where(torch.arange(starts) % 2 == 0, 0.0, 1.0).to(like.dtype)[:, None]
    best = -math.inf
    for _ in range(steps):
        points = e if axes is None else e @ axes.T
        points = points if shift is None else points + shift
        best = max(best, float(network.values(points).max()))
        slope = network.gradient(points)
        slope = slope if axes is None else slope @ axes
        step = slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-300) + memory * e
        e = step / step.norm(dim=1, keepdim=True).clamp_min(1.0)
    return best


def polished(network: Subject, balls: Sequence[UnitBall], evaluations: int = POLISH) -> Subject:
    """The same network with better multipliers: the bound is descended in them; never worse than before.

    L-BFGS on the barrier-smoothed bound, each region by itself.

    Parameters
    ----------
    network : Groups or Layers
        In float64 on the CPU.
    balls : sequence of UnitBall
    evaluations : int
        Of each bound.
    """
    import torch

    before = network.multipliers()
    flat = before.numpy().copy()
    for region, ball in enumerate(balls):
        for smoothing in (1e-2, 1e-4):
            flat[region] = _descended(network, ball, (region, flat), smoothing, evaluations // 2)
    after = torch.as_tensor(flat)
    found = network.with_multipliers(after)
    with torch.no_grad():
        better = [
            float(found.maximum(ball, region, 0.0)) < float(network.maximum(ball, region, 0.0))
            for region, ball in enumerate(balls)
        ]
    return network.with_multipliers(torch.where(torch.tensor(better)[:, None], after, before))


def _descended(network: Bounded, ball: UnitBall, where: tuple[int, Array], smoothing: float, evaluations: int) -> Array:
    """Multipliers of one region (p,)."""
    import torch
    from scipy.optimize import minimize

    region, flat = where
    now = network.with_multipliers(torch.tensor(flat))
    with torch.no_grad():
        size = max(abs(float(now.maximum(ball, region, 0.0))), 1e-100)

    def objective(row: Array) -> tuple[float, Array]:
        x = torch.tensor(row, dtype=torch.float64, requires_grad=True)
        rows = torch.cat([torch.tensor(flat[:region]), x[None], torch.tensor(flat[region + 1 :])])
        value = network.with_multipliers(rows).maximum(
            ball, region, smoothing * size / network.n_inputs, smooth_value=True
        )
        (slope,) = torch.autograd.grad(value, x)
        return float(value.detach()), slope.numpy()

    settings: dict[str, Any] = {"jac": True, "options": {"maxfun": evaluations, "maxiter": evaluations}}
    return np.asarray(minimize(objective, flat[region], method="L-BFGS-B", **settings).x)
