"""Safe networks with parallel units: a few units share a direction, and one majorant lies above all of them.

For two opposite units this is the semidefinite bound of Soletskyi & Dalrymple (2024) with the equality that two units
of a pair are never both on (or never both off); see docs/theory/region_training.md.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.training.region_model import RegionStart

Array = NDArray[np.float64]

RATE = 5e-3


def pairs_start(
    d: int, hidden_units: int, per_direction: int, rng: np.random.Generator, *, tight: bool, free_signs: bool
) -> RegionStart:
    """Random directions with alternating units, random thresholds, equal weights.

    Implements: convexnn, starts of pairs in docs/theory/region_training.md.

    Parameters
    ----------
    d : int
    hidden_units : int
        The last direction has fewer units where they do not come out even.
    per_direction : int
        Units a direction, alternating in sign.
    rng : Generator
    tight : bool
        Whiten the directions: ``U'U = (n / d) I``, which uses only that the region is a ball.
    free_signs : bool
    """
    m = min(per_direction, hidden_units)
    n = -(-hidden_units // m)
    signs = np.tile(np.where(np.arange(m) % 2 == 0, 1.0, -1.0), (n, 1))
    signs[-1, hidden_units - (n - 1) * m :] = 0.0
    biases = -rng.random((n, m)) / np.sqrt(d) * (signs != 0)
    curvature = np.full(n, 0.5 * np.sqrt(d) * max(1.0, m / 2))
    U = random_directions(n, d, rng, tight=tight)
    present = np.abs(signs)
    if free_signs:  # both curvatures from the start: a sign that is missing is hard to learn
        present *= np.where(np.arange(n) % 2 == 0, 1.0, -1.0)[:, None]
    return RegionStart(U, signs, biases, present, curvature, np.zeros(n), free_signs)


def random_directions(n: int, d: int, rng: np.random.Generator, *, tight: bool) -> Array:
    """Gaussian rows of about unit length (n, d), or the same rows whitened."""
    U = rng.standard_normal((n, d))
    if not tight:
        return U / np.sqrt(d)
    if n < d:
        return np.ascontiguousarray(np.linalg.qr(U.T)[0].T)
    return np.asarray(np.linalg.qr(U)[0] * np.sqrt(n / d))
