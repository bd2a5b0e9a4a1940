"""The largest value of a network that is found in a region: what a region bound cannot be below."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.regions.region import BALL, Region

Array = NDArray[np.float64]


def attained(
    network: Network,
    region: Region,
    output: Array | None = None,
    *,
    n: int = 64,
    steps: int = 40,
    seed: int = 0,
    starts: Array | None = None,
) -> float:
    """Largest ``output'f`` found by projected gradient ascent from random points of the region, in float64.

    Parameters
    ----------
    network : Network
    region : Region
    output : array, shape (k,), optional
        Weights of the outputs; default the only one.
    n, steps, seed : int
        Starts (half of them on the surface), steps of each, seed of the draws.
    starts : array, shape (m, r), optional
        More starts, in the unit variable of the region.
    """
    weights = np.ones(1) if output is None else output
    rng = np.random.default_rng(seed)
    X = np.vstack([region.sample(n // 2, rng), region.sample_surface(n - n // 2, rng), region.center[None]])
    E = region.coordinates(X)[0]
    if starts is not None and starts.ndim == 2 and starts.shape[1] == region.n_axes:
        E = np.vstack([E, starts[np.isfinite(starts).all(axis=1)]])
    E = region.project_unit(E)
    best = -np.inf
    for step in range(steps):
        X = region.image(E)
        values = network(X).reshape(len(X), -1) @ weights
        best = max(best, float(values.max()))
        slopes = network.gradient(X).reshape(len(X), network.n_outputs, -1)
        G = np.einsum("k,nkd->nd", weights, slopes)
        G = G * region.axes if region.axes.ndim == 1 else G @ region.axes
        size = np.linalg.norm(G, axis=1, keepdims=True) if region.kind == BALL else np.abs(G).max(axis=1, keepdims=True)
        E = region.project_unit(E + 2.0 / (1.0 + step / 3.0) * G / np.where(size > 0, size, 1.0))
    return best
