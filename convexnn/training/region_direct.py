"""Safe dense networks: any units, one majorant each, which is as in Soletskyi & Dalrymple (2024)."""

from __future__ import annotations

import numpy as np

from convexnn.training.region_model import RegionStart
from convexnn.training.region_pairs import random_directions

RATE = 6e-3
BIAS = -0.05


def direct_start(d: int, hidden_units: int, rng: np.random.Generator, *, tight: bool, free_signs: bool) -> RegionStart:
    """Random rows, small negative biases, random weights (of both signs where these are free).

    Implements: convexnn, dense starts in docs/theory/region_training.md.

    Parameters
    ----------
    d, hidden_units : int
    rng : Generator
    tight : bool
        Whiten the rows.
    free_signs : bool
    """
    h = hidden_units
    U = random_directions(h, d, rng, tight=tight)
    c = rng.standard_normal((h, 1)) * np.sqrt(2.0 / (h + 1))
    c = c if free_signs else np.abs(c)
    size = np.maximum(np.abs(c[:, 0]), 1e-3 / np.sqrt(h))
    length = np.maximum(np.linalg.norm(U, axis=1), 1e-3)
    curvature, slope = 0.25 * np.sqrt(d) * size / length, 0.5 * c[:, 0]
    return RegionStart(U, np.ones((h, 1)), np.full((h, 1), BIAS), c, curvature, slope, free_signs)
