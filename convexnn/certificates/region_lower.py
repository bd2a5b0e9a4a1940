"""The largest value of a network that is found in a region: what a region bound cannot be below."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Polynomial
from convexnn.exceptions import CertificateError
from convexnn.network import Network
from convexnn.regions.region import BALL, Region
from convexnn.rigorous import TINY, UNIT, gamma

Array = NDArray[np.float64]


def consistent(lower: float, bound: float) -> float:
    """The value that was attained, which no bound can be below.

    Parameters
    ----------
    lower : float
        Rounded down, such as what :func:`attained` finds.
    bound : float
        Rounded up.

    Raises
    ------
    CertificateError
        When they contradict each other: both cover their own rounding, so one of them is wrong.
    """
    if lower > bound:
        raise CertificateError(
            f"The proved bound {bound!r} is below {lower!r}, which the network attains in the region, rounding "
            "included: one of them is wrong, so neither is given. Please report the network and the region."
        )
    return lower


def evaluation_slack(network: Network, output: Array, size: Array, moved: Array) -> float:
    """Bound on ``|computed output'f(x') - output'f(x)|`` wherever ``|x'| <= size`` and ``|x' - x| <= moved``.

    Parameters
    ----------
    network : Network
    output : array, shape (k,)
    size, moved : array, shape (d,)
        Nonnegative.

    Returns
    -------
    float
        ``inf`` where numbers overflow.
    """
    kind, error = network.activation, moved
    with np.errstate(all="ignore"):
        for depth, (W, b) in enumerate(network.layers):
            A, terms = np.abs(W), W.shape[1]
            size = A @ size + np.abs(b)
            error = A @ error + gamma(terms + 4) * size + (terms + 2) * TINY
            if depth == len(network.layers) - 1:
                break
            reach = size + error
            if isinstance(kind, Polynomial):
                a, steep, offset = abs(kind.a), 2.0 * abs(kind.a) * reach + abs(kind.b), abs(kind.c)
                size = (a * reach + abs(kind.b)) * reach + offset
            else:
                steep, offset = max(map(abs, kind.slopes)), abs(float(kind(np.zeros(1))[0]))
                size = offset + steep * reach
            error = steep * error + 16.0 * UNIT * size + 4.0 * TINY
        total = float(np.abs(output) @ (error + gamma(len(output) + 4) * (size + error)))
    return 1.01 * total if np.isfinite(total) else np.inf  # the rounding of this computation


def _rounding(network: Network, region: Region, output: Array) -> float:
    """What the evaluation at points of a region, which are rounded themselves, can be above the values there."""
    axes = np.abs(region.axes)
    sides = axes if axes.ndim == 1 else axes.sum(axis=1)
    size = (np.abs(region.center) + sides) * (1.0 + gamma(region.n_axes + 8))
    # the unit variable may be longer than one by its own rounding
    return evaluation_slack(network, output, size, 2.0 * gamma(2 * region.n_axes + 16) * size + region.n_axes * TINY)


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
    """Largest ``output'f`` found by projected gradient ascent from random points of the region, rounded down.

    What is returned is attained in the region itself: the rounding of the points and of the evaluation is subtracted.

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
    with np.errstate(over="ignore", invalid="ignore"):
        best = _ascent(network, region, weights, E, steps)
    return best - _rounding(network, region, weights) if np.isfinite(best) else -np.inf


def _ascent(network: Network, region: Region, weights: Array, E: Array, steps: int) -> float:
    best = -np.inf
    for step in range(steps):
        X = region.image(E)
        values = network(X).reshape(len(X), -1) @ weights
        best = max(best, float(values.max(initial=-np.inf, where=np.isfinite(values))))
        slopes = network.gradient(X).reshape(len(X), network.n_outputs, -1)
        G = np.einsum("k,nkd->nd", weights, slopes)
        G = G * region.axes if region.axes.ndim == 1 else G @ region.axes
        size = np.linalg.norm(G, axis=1, keepdims=True) if region.kind == BALL else np.abs(G).max(axis=1, keepdims=True)
        E = region.project_unit(E + 2.0 / (1.0 + step / 3.0) * G / np.where(size > 0, size, 1.0))
    return best
