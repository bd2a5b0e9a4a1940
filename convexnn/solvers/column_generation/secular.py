"""The smoothed worst case of many samples with one curvature: the multiplier of the ball, started from the last one.

The same problem as :func:`convexnn.quadratic.trust_region.smoothed_over_ball`, for the inner loop of a solver: one row
of curvature for all samples, arrays that fit into the cache, no rescaling, and Newton's method from wherever the last
evaluation ended. ``F^(-1/2)`` is increasing and concave in the multiplier, so one step from anywhere lands below the
root or where the lower bound takes over, and the steps after it rise.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

MAX_STEPS = 80
PRECISION = 1e-10
SMALLEST = 1e-250
LOG_PARTS = 6


def lower_ends(linear: Array, above: Array, base: float, radius: float, smoothing: float) -> Array:
    """Offsets that are not above the root, shape (n,): each term of the equation alone would reach ``radius^2``."""
    ends = np.abs(linear)
    ends *= 1.0 / radius
    ends -= above
    level = smoothing / radius**2
    floor = np.maximum(level - min(float(above.min()), base), SMALLEST)
    return np.asarray(np.maximum(ends.max(axis=1), floor))


def barrier_offsets(
    linear: Array, above: Array, base: float, radius: float, smoothing: float, start: Array | None
) -> tuple[Array, Array]:
    """Root ``mu`` of ``sum g^2 / D^2 + nu sum 1 / D + nu / (base + mu) = radius^2``, ``D = above + mu``.

    Parameters
    ----------
    linear : array, shape (n, d)
        Half of the gradients g at zero.
    above : array, shape (d,)
        Curvature plus ``base``, nonnegative.
    base : float
        ``max(0, -min curvature)``: multipliers are ``base + mu``.
    radius : float
        Positive.
    smoothing : float
        Positive.
    start : array, shape (n,), or None
        Guess of the root.

    Returns
    -------
    offsets : array, shape (n,)
    inverse : array, shape (n, d)
        ``1 / D`` at the offsets.
    """
    low = lower_ends(linear, above, base, radius, smoothing)
    mu = low if start is None else np.maximum(start, low)
    inverse, part = np.empty_like(linear), np.empty_like(linear)
    ones = np.ones(len(above))
    for _ in range(MAX_STEPS):
        np.add(mu[:, None], above, out=inverse)
        np.reciprocal(inverse, out=inverse)
        np.multiply(linear, inverse, out=part)
        np.multiply(part, part, out=part)
        last = 1.0 / (base + mu)
        total = part @ ones + smoothing * (inverse @ ones + last)
        fall = 2.0 * np.einsum("ij,ij->i", part, inverse)
        fall += smoothing * (np.einsum("ij,ij->i", inverse, inverse) + last * last)
        moved = np.maximum(mu + 2.0 * total / fall * (np.sqrt(total) / radius - 1.0), low)
        done = bool((np.abs(moved - mu) <= PRECISION * mu).all())
        mu = moved
        if done:
            break
    np.add(mu[:, None], above, out=inverse)
    np.reciprocal(inverse, out=inverse)
    return mu, inverse


def log_sums(positive: Array) -> Array:
    """``sum_k log`` of the rows of a positive array, with a sixth of the logarithms."""
    n, d = positive.shape
    whole = d // LOG_PARTS
    if whole == 0:
        return np.asarray(np.log(positive).sum(axis=1))
    product = positive[:, :whole].copy()
    for part in range(1, LOG_PARTS):
        product *= positive[:, part * whole : (part + 1) * whole]
    sums: Array = np.log(product).sum(axis=1)
    return sums + np.log(positive[:, LOG_PARTS * whole :]).sum(axis=1)
