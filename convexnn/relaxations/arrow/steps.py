"""How far a direction may be followed: primal cliques and the dual slack stay positive definite."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dsyevr

from convexnn.relaxations.arrow.directions import Direction, Point
from convexnn.relaxations.arrow.factors import NotPositiveError, cholesky, solve_lower

Array = NDArray[np.float64]
SHRINK = 0.85
TRIALS = 60
#: Share of S that must be left after a dual step with a fraction below one.
DUAL_SHARE = 0.2


def largest_ratio(v: Array, dv: Array) -> float:
    """Largest step that keeps ``v + step dv`` nonnegative."""
    falling = dv < 0
    return float(np.min(-v[falling] / dv[falling], initial=np.inf))


def primal_step(point: Point, way: Direction, fraction: float) -> float:
    """Step in X and s; every clique ``(h, xi_i)`` of the arrow stays positive definite."""
    positive, primal, done = point.relaxation.positive, point.primal, point.done
    step = min(1.0, fraction * largest_ratio(primal.s[positive], way.ds[positive]))
    scaled = solve_lower(done.L, solve_lower(done.L, way.dXhh).T)
    values, _, _, _, info = dsyevr(scaled, compute_v=0, range="I", il=1, iu=1, lower=1)
    if info or not np.isfinite(values[0]):
        raise NotPositiveError
    lowest = float(values[0])
    if lowest < 0:
        step = min(step, -fraction / lowest)
    for _ in range(TRIALS):
        try:
            turned = solve_lower(cholesky(primal.Xhh + step * way.dXhh), (primal.Xx + step * way.dXx).T)
        except NotPositiveError:
            step *= SHRINK
            continue
        rest = primal.Xd + step * way.dXd - np.einsum("ij,ij->j", turned, turned)
        if np.all(rest > 0.5 * (1.0 - fraction) * (1.0 - step) * done.rest + 1e-14 * primal.Xd):
            return step
        step *= SHRINK
    return 0.0


def dual_step(point: Point, way: Direction, fraction: float) -> float:
    """Step in (y, nu); Z stays positive definite."""
    positive, slack = point.relaxation.positive, point.slack
    step = min(
        1.0,
        fraction * largest_ratio(slack.v[positive], way.dv[positive]),
        fraction * largest_ratio(slack.N, way.dN),
    )
    floor = (1.0 - fraction) * DUAL_SHARE * slack.S
    for _ in range(TRIALS):
        N, B = slack.N + step * way.dN, slack.B + step * way.dB
        if np.all(N > 0.0):
            try:
                cholesky(slack.Zhh + step * way.dZ - (B / N) @ B.T - floor)
                return step
            except NotPositiveError:
                pass
        step *= SHRINK
    return 0.0
