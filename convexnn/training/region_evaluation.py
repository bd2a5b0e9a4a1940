"""What a safe network is worth at one moment: its bound, what an ascent finds below it, and the samples above it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.training.region_frame import UnitBall
from convexnn.training.region_majorants_torch import Groups, region_maximum, union_maximum

Array = NDArray[np.float64]

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
    groups: Groups, balls: Sequence[UnitBall], positive: Array, negative: Array, margin: float, seed: int
) -> Evaluation:
    """Bound in float64, the best value that an ascent finds on the balls, and the shares of samples above and below.

    Parameters
    ----------
    groups : Groups
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
        bound = float(union_maximum(groups, balls, 0.0))
        lower = max(ascent(groups, ball, seed) for ball in balls)
        above = groups.values(torch.as_tensor(positive)).numpy()
        below = groups.values(torch.as_tensor(negative)).numpy()
    rejected = float(np.mean(below < bound + margin)) if len(below) else math.nan
    return Evaluation(
        bound, lower, float(np.mean(above > bound + margin)), float(np.mean(above > lower + margin)), rejected
    )


def ascent(groups: Groups, ball: UnitBall, seed: int, *, starts: int = STARTS, steps: int = ASCENT) -> float:
    """Largest ``f`` met on one ball by ``e <- gradient / |gradient|``, with and without a share of the old point.

    For a convex f the first map never descends. A lower bound on the maximum.
    """
    import torch

    V = groups.U if ball.map is None else groups.U @ torch.as_tensor(ball.map)
    shift = torch.zeros(len(V), dtype=V.dtype) if ball.shift is None else groups.U @ torch.as_tensor(ball.shift)
    rng = np.random.default_rng([seed, 2])
    e = torch.as_tensor(rng.standard_normal((starts, V.shape[1])), dtype=V.dtype)
    e = e / e.norm(dim=1, keepdim=True).clamp_min(1e-300)
    e[0] = 0.0  # the center is a point of the region too
    memory = torch.where(torch.arange(starts) % 2 == 0, 0.0, 1.0).to(V.dtype)[:, None]
    best = -math.inf
    for _ in range(steps):
        a = e @ V.T + shift
        best = max(best, float(groups.ridges(a).sum(dim=1).max()))
        slope = groups.slopes(a) @ V
        step = slope / slope.norm(dim=1, keepdim=True).clamp_min(1e-300) + memory * e
        e = step / step.norm(dim=1, keepdim=True).clamp_min(1.0)
    return best


def polished(groups: Groups, balls: Sequence[UnitBall], evaluations: int = POLISH) -> Groups:
    """The same network with better majorants: the bound, convex in them, is descended; never worse than before.

    L-BFGS on the barrier-smoothed bound, each region by itself.

    Parameters
    ----------
    groups : Groups
        In float64 on the CPU.
    balls : sequence of UnitBall
    evaluations : int
        Of each bound.
    """
    import torch

    n = groups.U.shape[0]
    flat = torch.cat([torch.log(groups.al), groups.be], dim=1).numpy().copy()
    for region, ball in enumerate(balls):
        for smoothing in (1e-2, 1e-4):
            flat[region] = _descended(groups, ball, region, flat[region], smoothing, evaluations // 2)
    al, be = torch.as_tensor(np.exp(flat[:, :n])), torch.as_tensor(flat[:, n:])
    found = Groups(groups.U, groups.S, groups.b, groups.c, al, be)
    rows = []
    with torch.no_grad():
        for region, ball in enumerate(balls):
            new, old = (float(region_maximum(g, ball, region, 0.0)) for g in (found, groups))
            rows.append(new < old)
    keep = torch.tensor(rows)[:, None]
    al, be = torch.where(keep, al, groups.al), torch.where(keep, be, groups.be)
    return Groups(groups.U, groups.S, groups.b, groups.c, al, be)


def _descended(groups: Groups, ball: UnitBall, region: int, start: Array, smoothing: float, evaluations: int) -> Array:
    """Logarithms of al, then be, of one region (2 n,)."""
    import torch
    from scipy.optimize import minimize

    n = groups.U.shape[0]
    with torch.no_grad():
        weight = smoothing * max(abs(float(region_maximum(groups, ball, region, 0.0))), 1e-100) / groups.U.shape[1]

    def objective(flat: Array) -> tuple[float, Array]:
        x = torch.tensor(flat, dtype=torch.float64, requires_grad=True)
        own = Groups(groups.U, groups.S, groups.b, groups.c, x[:n].exp()[None], x[None, n:])
        value = region_maximum(own, ball, 0, weight, smooth_value=True)
        (slope,) = torch.autograd.grad(value, x)
        return float(value.detach()), slope.numpy()

    settings: dict[str, Any] = {"jac": True, "options": {"maxfun": evaluations, "maxiter": evaluations}}
    return np.asarray(minimize(objective, start, method="L-BFGS-B", **settings).x)
