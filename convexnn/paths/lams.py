"""Grids of weights: given ones checked, default ones from the largest useful weight down."""

from __future__ import annotations

from numbers import Integral, Real

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]


def checked_lams(lams: ArrayLike) -> Array:
    """Distinct weights in decreasing order; InvalidInputError unless all are finite positive numbers."""
    try:
        grid = np.unique(np.asarray(lams, dtype=float).ravel())[::-1]
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"lams must hold finite positive numbers, got {lams!r}") from error
    if len(grid) == 0 or not np.isfinite(grid).all() or not (grid > 0).all():
        raise InvalidInputError(f"lams must hold finite positive numbers, got {lams!r}")
    return np.ascontiguousarray(grid)


def check_spacing(n_lams: int, lam_ratio: float) -> None:
    """Raise unless ``n_lams`` is an integer of at least 1 and ``lam_ratio`` a number in (0, 1)."""
    usable = (
        isinstance(n_lams, Integral)
        and not isinstance(n_lams, bool)
        and n_lams >= 1
        and isinstance(lam_ratio, Real)
        and 0 < lam_ratio < 1
    )
    if not usable:
        raise InvalidInputError(
            f"n_lams must be an integer >= 1 and lam_ratio lie in (0, 1), got {n_lams!r} and {lam_ratio!r}"
        )


def lams_below(top: float, n_lams: int, lam_ratio: float) -> Array:
    """``n_lams`` weights from ``top`` down to ``lam_ratio * top``, equal ratios between them."""
    grid: Array = top * np.geomspace(1.0, lam_ratio, n_lams)
    return grid
