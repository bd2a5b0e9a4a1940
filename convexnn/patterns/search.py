"""Neighbouring patterns: cross the boundaries on which a solved network lies."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike

from convexnn.network import Network
from convexnn.patterns.multiset import ActivationPatterns


def flip_active_rows(
    network: Network, X: ArrayLike, patterns: ActivationPatterns, tol: float = 1e-7
) -> ActivationPatterns:
    """Flip, unit by unit, every row on whose boundary the unit lies.

    A unit with ``|w'x + b| <= tol |(w, b)| |(x, 1)|`` contributes (almost) nothing on that row, active or
    not, so the network remains feasible, up to ``tol``, for the flipped patterns: solving again from there
    can only go down. Zero units are left alone.

    Parameters
    ----------
    network : Network
        Shallow, one output; its units are the columns of ``patterns``, in order.
    X : array, shape (n, d)
    patterns : ActivationPatterns
        All counts one.
    tol : float
        Relative size of a pre-activation that counts as zero.

    Returns
    -------
    ActivationPatterns
        Same shape and signs; equal to ``patterns`` when no unit lies on a boundary.
    """
    rows = np.asarray(X, dtype=float)
    z = network.pre_activations(rows)[0]
    unit = np.sqrt((network.W**2).sum(axis=1) + network.b**2)
    size = np.sqrt((rows**2).sum(axis=1) + 1.0)
    on_boundary = (np.abs(z) <= tol * size[:, None] * unit) & (unit > 0)
    return ActivationPatterns(patterns.D ^ on_boundary, patterns.s, patterns.counts)
