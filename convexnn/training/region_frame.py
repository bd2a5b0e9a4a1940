"""Coordinates in which balls and ellipsoids have unit size, and networks carried back from them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.regions.region import BALL, Region

Array = NDArray[np.float64]

FLAT = 1e-6  # axes below this share of the longest one take their unit from the samples


@dataclass(frozen=True, eq=False)
class UnitBall:
    """One region in the coordinates of a frame: ``{shift + map e : |e|_2 <= 1}``; None stands for identity and zero.

    Attributes
    ----------
    map : array, shape (d, r), or None
    shift : array, shape (d,), or None
    """

    map: Array | None
    shift: Array | None


@dataclass(frozen=True, eq=False)
class UnitFrame:
    """Coordinates z of inputs ``x = center + axes z`` in which regions and samples have sizes of order one.

    Attributes
    ----------
    center : array, shape (d,)
    inverse : array, shape (d, d)
        ``z = inverse (x - center)``.
    balls : tuple of UnitBall
        The regions; a single ball or ellipsoid with full axes is the unit ball itself.
    """

    center: Array
    inverse: Array
    balls: tuple[UnitBall, ...]

    @classmethod
    def of(cls, regions: Sequence[Region], samples: Array) -> UnitFrame:
        """Principal axes of the regions; where these are flat, the spread of the samples is the unit.

        Parameters
        ----------
        regions : sequence of Region
            Balls and ellipsoids.
        samples : array, shape (n, d)
        """
        if any(region.kind != BALL for region in regions):
            raise InvalidInputError("This trainer is for balls and ellipsoids; boxes have a trainer of their own.")
        center = np.mean([region.center for region in regions], axis=0)
        parts = [np.diag(region.axes) if region.axes.ndim == 1 else np.array(region.axes) for region in regions]
        directions, lengths = _principal_axes(np.hstack([*parts, *(_column(r.center - center) for r in regions)]))
        spread = np.sqrt(np.mean(((samples - center) @ directions.T) ** 2, axis=0))
        inverse = _with_units(directions, lengths, spread)
        if len(regions) == 1:
            maps = inverse @ parts[0]
            same = np.allclose(maps @ maps.T, np.eye(len(center)), rtol=0.0, atol=1e-12)
            return cls(center, inverse, (UnitBall(None if same else maps, None),))
        shifts = [inverse @ (region.center - center) for region in regions]
        return cls(center, inverse, tuple(UnitBall(inverse @ A, s) for A, s in zip(parts, shifts, strict=True)))

    def into(self, X: Array) -> Array:
        """Coordinates z (n, d) of inputs (n, d)."""
        return np.asarray((X - self.center) @ self.inverse.T)

    def raw(self, U: Array) -> tuple[Array, Array]:
        """Rows (n, d) that act on raw inputs, and their values at the center (n,), for rows acting on z."""
        W = U @ self.inverse
        return W, W @ self.center


def _column(shift: Array) -> Array:
    return np.asarray(shift[:, None])


def _principal_axes(spans: Array) -> tuple[Array, Array]:
    """Principal directions as rows (d, d) and half lengths (d,) of the ellipsoid with these axes."""
    used = spans[:, np.abs(spans).max(axis=0) > 0]
    if not used.shape[1]:
        return np.eye(len(spans)), np.zeros(len(spans))
    if (np.count_nonzero(used, axis=0) == 1).all():  # axes along the coordinates stay there, exactly
        return np.eye(len(spans)), np.abs(used).sum(axis=1)
    P, s, _ = np.linalg.svd(used)
    return P.T, np.r_[s, np.zeros(len(spans) - len(s))][: len(spans)]


def _with_units(directions: Array, lengths: Array, spread: Array) -> Array:
    flat = lengths <= FLAT * lengths.max(initial=0.0)
    unit = np.where(flat, np.where(spread > 0, spread, lengths.max(initial=0.0)), lengths)
    return np.asarray(directions / np.where(unit > 0, unit, 1.0)[:, None])
