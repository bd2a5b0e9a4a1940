"""Whole regions of the input space as affine images of the unit ball or the unit box."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import real_array
from convexnn.threats import Box, L2Ball, LInfBall
from convexnn.values import ByValue

Array = NDArray[np.float64]

BALL, BOX = "ball", "box"
POLYTOPE = (
    " A Polytope P comes alone, to region_bound(..., method='facets'), train_region_facets or SafeRegionClassifier; "
    "Box(P.lower, P.upper), which contains it, is taken here."
)


def read_only(values: ArrayLike, label: str) -> Array:
    """A copy of finite floats that nobody can change; ``label`` names them in errors."""
    array = real_array(values, label).copy()
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{label} holds NaN or infinite values.")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False, init=False)
class Region(ByValue):
    """``{center + axes e}`` with e in the unit ball (``|e|_2 <= 1``) or the unit box (``|e|_inf <= 1``).

    Parameters
    ----------
    center : array, shape (d,)
        Raw input units.
    axes : array, shape (d,) or (d, r)
        Half lengths along the coordinates, nonnegative, or the images of the r unit vectors as columns.
    kind : {"ball", "box"}
    """

    center: Array
    axes: Array
    kind: str

    def __init__(self, center: ArrayLike, axes: ArrayLike, kind: str) -> None:
        middle, spread = read_only(center, "center"), read_only(axes, "axes")
        if middle.ndim != 1 or not len(middle):
            raise InvalidInputError(f"center must have shape (d,), got {middle.shape}.")
        if spread.ndim not in (1, 2) or len(spread) != len(middle) or 0 in spread.shape:
            raise InvalidInputError(f"axes must have shape ({len(middle)},) or ({len(middle)}, r), got {spread.shape}.")
        if spread.ndim == 1 and (spread < 0).any():
            raise InvalidInputError("Half lengths must be nonnegative.")
        if kind not in (BALL, BOX):
            raise InvalidInputError(f"kind must be {BALL!r} or {BOX!r}, got {kind!r}.")
        object.__setattr__(self, "center", middle)
        object.__setattr__(self, "axes", spread)
        object.__setattr__(self, "kind", kind)

    @property
    def n_inputs(self) -> int:
        """Number of inputs d."""
        return len(self.center)

    @property
    def n_axes(self) -> int:
        """Dimension r of the unit ball or box."""
        return int(self.axes.shape[-1])

    def image(self, E: Array) -> Array:
        """``center + axes e`` of rows e (n, r), shape (n, d)."""
        moved = E * self.axes if self.axes.ndim == 1 else E @ self.axes.T
        return np.asarray(self.center + moved)

    def first_layer(self, W: Array, b: Array) -> tuple[Array, Array]:
        """Weights ``W axes`` (m, r) and biases ``W center + b`` (m,) of a layer in the unit variable e, in float64."""
        weights = W * self.axes if self.axes.ndim == 1 else W @ self.axes
        return np.asarray(weights), np.asarray(W @ self.center + b)

    def coordinates(self, X: Array) -> tuple[Array, Array]:
        """Unit variables (n, r) of points (n, d) by least squares, and what they miss (n,)."""
        shift = X - self.center
        if self.axes.ndim == 1:
            live = self.axes > 0
            E = np.divide(shift, self.axes, out=np.zeros_like(shift), where=live)
        else:
            E = np.linalg.lstsq(self.axes, shift.T, rcond=None)[0].T
        return E, np.asarray(np.linalg.norm(self.image(E) - X, axis=1))

    def contains(self, X: ArrayLike, tol: float = 1e-9) -> NDArray[np.bool_]:
        """Whether each row lies in the region up to ``tol`` in the unit variable, shape (n,).

        With more axes than inputs the least-norm unit variable decides: exact for balls, sufficient for boxes.
        """
        points = np.asarray(X, dtype=np.float64)
        E, missed = self.coordinates(points)
        size = np.linalg.norm(E, axis=1) if self.kind == BALL else np.abs(E).max(axis=1)
        scale = 1.0 + np.abs(points).max(axis=1, initial=0.0)
        return np.asarray((size <= 1.0 + tol) & (missed <= max(tol, 1e-12) * scale))

    def project_unit(self, E: Array) -> Array:
        """Unit variables (n, r) moved to the nearest point of the unit ball or box."""
        if self.kind == BOX:
            return np.clip(E, -1.0, 1.0)
        return E / np.maximum(np.linalg.norm(E, axis=1, keepdims=True), 1.0)

    def sample(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points: images of uniform points of the unit ball or box, shape (n, d)."""
        if self.kind == BOX:
            return self.image(rng.uniform(-1.0, 1.0, (n, self.n_axes)))
        E = rng.standard_normal((n, self.n_axes))
        E /= np.maximum(np.linalg.norm(E, axis=1, keepdims=True), np.finfo(float).tiny)
        return self.image(E * rng.random((n, 1)) ** (1.0 / self.n_axes))

    def sample_surface(self, n: int, rng: np.random.Generator) -> Array:
        """Draw n points: images of uniform points of the sphere or of the surface of the unit box, shape (n, d)."""
        if self.kind == BALL:
            E = rng.standard_normal((n, self.n_axes))
            return self.image(E / np.maximum(np.linalg.norm(E, axis=1, keepdims=True), np.finfo(float).tiny))
        E = rng.uniform(-1.0, 1.0, (n, self.n_axes))
        E[np.arange(n), rng.integers(self.n_axes, size=n)] = rng.choice([-1.0, 1.0], size=n)
        return self.image(E)


def ellipsoid(center: ArrayLike, axes: ArrayLike) -> Region:
    """``{center + axes e : |e|_2 <= 1}``, raw input units.

    Parameters
    ----------
    center : array-like, shape (d,)
        Of the ellipsoid.
    axes : array-like, shape (d,) or (d, r)
        Half lengths along the coordinates, or any matrix.
    """
    return Region(center, axes, BALL)


def rotated_box(center: ArrayLike, axes: ArrayLike) -> Region:
    """``{center + axes e : |e|_inf <= 1}``, raw input units.

    Parameters
    ----------
    center : array-like, shape (d,)
        Of the box.
    axes : array-like, shape (d,) or (d, r)
        Half widths along the coordinates, or any matrix (a zonotope).
    """
    return Region(center, axes, BOX)


def as_region(region: Any, n_inputs: int) -> Region:
    """The region of an input space with ``n_inputs`` coordinates.

    Parameters
    ----------
    region : Region, L2Ball, LInfBall or Box
        A ball of a threat has its centre at the origin; clips are refused.
    n_inputs : int

    Raises
    ------
    InvalidInputError
        When it is something else, or has another dimension.
    """
    if isinstance(region, L2Ball | LInfBall):
        if region.clip is not None:
            raise InvalidInputError("A region has no clip; give a Box, or the ball alone.")
        kind = BALL if isinstance(region, L2Ball) else BOX
        return Region(np.zeros(n_inputs), np.full(n_inputs, region.radius), kind)
    if isinstance(region, Box):
        low, high = (np.broadcast_to(end, (n_inputs,)) for end in (region.lower, region.upper))
        center = low + 0.5 * (high - low)
        half = np.maximum(high - center, center - low)
        return Region(center, np.where(half > 0, np.nextafter(half, np.inf), half), BOX)
    if not isinstance(region, Region):
        raise InvalidInputError(
            f"region must be a Region, an L2Ball, an LInfBall or a Box, got {type(region).__name__}."
            + (POLYTOPE if type(region).__name__ == "Polytope" else "")
        )
    if region.n_inputs != n_inputs:
        raise InvalidInputError(f"The region has {region.n_inputs} coordinates, the network takes {n_inputs} inputs.")
    return region


def as_regions(regions: Any, n_inputs: int) -> tuple[Region, ...]:
    """The members of a union: one region, or a sequence of them."""
    if isinstance(regions, Sequence) and not isinstance(regions, str):
        if not regions:
            raise InvalidInputError("A union of regions needs at least one member.")
        return tuple(as_region(one, n_inputs) for one in regions)
    return (as_region(regions, n_inputs),)
