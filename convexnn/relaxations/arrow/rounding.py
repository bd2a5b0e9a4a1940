"""Inputs read off the moments of a relaxation: starts for attacks and lower bounds for branch and bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.query import Query
from convexnn.relaxations.arrow.factors import Completion, NotPositiveError, Primal, cholesky
from convexnn.relaxations.arrow.problem import Relaxation

Array = NDArray[np.float64]
#: Random roundings that are tried, and how many of the best points are kept besides the mean.
TRIALS, KEPT = 30, 3


def rounded_points(query: Query, relaxation: Relaxation, primal: Primal, seed: int) -> Array:
    """The mean of the inputs under X and the best of its roundings, shape (n, d_in).

    Roundings are the signs (boxes) or directions (balls) of the mean and of samples of the Gaussian with the moments of
    the completed X; the best are those with the largest value of the query's only row.

    Implements: Goemans and Williamson (1995), randomized rounding, for the moments of a network.

    Parameters
    ----------
    query : Query
        With one row.
    relaxation : Relaxation
    primal : Primal
    seed : int
    """
    chart = relaxation.chart
    mean = primal.Xx[:, 0]
    ways = np.vstack([mean, _samples(relaxation, primal, seed)])
    if chart.is_ball:
        corners = ways / np.maximum(np.linalg.norm(ways, axis=1, keepdims=True), 1e-300)
    else:
        corners = np.where(ways >= 0.0, 1.0, -1.0)
    if not np.isfinite(corners).all():
        return np.empty((0, len(chart.centre)))
    corners = np.unique(corners, axis=0)
    points = query.inputs.project(chart.points(corners))
    best = np.argsort(-query.values(points)[:, 0], kind="stable")[:KEPT]
    inside = mean / max(float(np.linalg.norm(mean)), 1.0) if chart.is_ball else np.clip(mean, -1.0, 1.0)
    return np.vstack([chart.points(inside[None]), points[best]])


def _samples(relaxation: Relaxation, primal: Primal, seed: int) -> Array:
    """Coordinates of inputs drawn with the mean and covariance of the completion, shape (n, d)."""
    rng = np.random.default_rng(seed)
    try:
        done = Completion.of(primal)
        spread = cholesky(primal.Xhh[1:, 1:] - np.outer(primal.Xhh[1:, 0], primal.Xhh[0, 1:]))
    except NotPositiveError:
        return np.empty((0, relaxation.d))
    units = primal.Xhh[1:, 0] + rng.standard_normal((TRIALS, relaxation.m)) @ spread.T
    own = np.sqrt(np.maximum(done.rest, 0.0)) * rng.standard_normal((TRIALS, relaxation.d))
    return done.Jx[:, 0] + units @ done.Jx[:, 1:].T + own
