"""Sets of allowed input perturbations: projection, support function, membership, sampling.

``X`` always holds the centres, one sample a row; radii are in the raw units of ``X``. An optional
``clip=(low, high)`` intersects the set with the box ``low <= x <= high`` (the data range).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number, real_array
from convexnn.values import ByValue

Array = NDArray[np.float64]


@runtime_checkable
class Threat(Protocol):
    """A set of perturbed inputs around each sample."""

    @property
    def norm(self) -> str:
        """``"l2"``, ``"linf"`` or ``"box"``."""

    def project(self, Z: Array, X: Array) -> Array:
        """Points of the sets around ``X`` close to ``Z``, shape (n, d)."""

    def support(self, G: Array, X: Array) -> Array:
        """Upper bound on ``max <g, x' - x>`` over each set, exact without clip, shape (n,)."""

    def contains(self, Z: Array, X: Array, tol: float = 1e-9) -> NDArray[np.bool_]:
        """Whether each row of ``Z`` lies in the set around the row of ``X``, shape (n,)."""

    def sample(self, X: Array, rng: np.random.Generator) -> Array:
        """One random point of each set, shape (n, d)."""

    def bounding_box(self, X: Array) -> tuple[Array, Array]:
        """Smallest enclosing boxes, two arrays of shape (n, d)."""


def _checked_radius(radius: Any) -> float:
    value = as_number(radius, "The radius")
    if not (np.isfinite(value) and value >= 0):
        raise InvalidInputError(f"The radius must be finite and nonnegative, got {radius!r}.")
    return value


def _checked_range(low: Any, high: Any, label: str) -> tuple[Array, Array]:
    lower, upper = real_array(low, label).copy(), real_array(high, label).copy()
    if lower.ndim > 1 or upper.ndim > 1 or (lower.ndim == upper.ndim == 1 and lower.shape != upper.shape):
        raise InvalidInputError(f"{label} needs two numbers or (d,) arrays, got {lower.shape} and {upper.shape}.")
    if np.isnan(lower).any() or np.isnan(upper).any() or np.any(lower > upper):
        raise InvalidInputError(f"{label} needs lower <= upper without NaN.")
    return lower, upper


def _clip_pair(clip: Any) -> tuple[Array, Array]:
    if not isinstance(clip, Sequence | np.ndarray) or len(clip) != 2:
        raise InvalidInputError(f"clip must be a pair (low, high), got {clip!r}.")
    return _checked_range(clip[0], clip[1], "clip")


@dataclass(frozen=True, eq=False, init=False, repr=False)
class _Ball(ByValue):
    """What the balls share: a radius, and a clip."""

    clip: Any
    radius: float

    def __init__(self, radius: float, clip: Any = None) -> None:
        object.__setattr__(self, "radius", _checked_radius(radius))
        object.__setattr__(self, "clip", clip)
        self._clip_range()

    def __repr__(self) -> str:
        """As it is written in code."""
        clip = "" if self.clip is None else f", clip={self.clip!r}"
        return f"{type(self).__name__}({self.radius!r}{clip})"

    def bounding_box(self, X: Array) -> tuple[Array, Array]:
        """``x -+ radius``, clipped; two arrays of shape (n, d)."""
        low, high = self._clip_range()
        return np.maximum(X - self.radius, low), np.minimum(X + self.radius, high)

    def _clip_range(self) -> tuple[Array, Array]:
        if self.clip is None:
            return np.asarray(-np.inf), np.asarray(np.inf)
        return _clip_pair(self.clip)

    def _in_clip(self, Z: Array, X: Array, tol: float) -> NDArray[np.bool_]:
        low, high = self._clip_range()
        size = tol * np.maximum(1.0, np.abs(X))
        return np.asarray(((Z >= low - size) & (Z <= high + size)).all(axis=1))


@dataclass(frozen=True, eq=False, init=False, repr=False)
class L2Ball(_Ball):
    """Euclidean ball ``|x' - x|_2 <= radius`` around each sample.

    Parameters
    ----------
    radius : float
        Raw input units.
    clip : pair of float or array, optional
        Data range; perturbed inputs stay inside it.
    """

    norm = "l2"

    def project(self, Z: Array, X: Array) -> Array:
        """Onto the ball; with a clip, onto the intersection of ball and box.

        The projection on the intersection is ``clip(x + t (z - x))`` with the largest ``t`` in [0, 1] for which
        it lies in the ball (its multiplier is ``1 / t - 1``), found by bisection. Where ball and box do not meet,
        the clipped centre is returned.
        """
        low, high = self._clip_range()
        if self.clip is None:
            return self._ball(Z, X)
        clipped, near = np.clip(Z, low, high), self._ball(Z, X)
        fits = self._fits(clipped, X)
        found = np.where(fits[:, None], clipped, near)
        hard = np.flatnonzero(~fits & (found != np.clip(found, low, high)).any(axis=1))
        if len(hard):
            found[hard] = self._bisect(Z[hard], X[hard], low, high)
        return found

    def _bisect(self, Z: Array, X: Array, low: Array, high: Array) -> Array:
        inner, outer = np.zeros((len(X), 1)), np.ones((len(X), 1))
        for _ in range(60):
            middle = 0.5 * (inner + outer)
            fits = self._fits(np.clip(X + middle * (Z - X), low, high), X)[:, None]
            inner, outer = np.where(fits, middle, inner), np.where(fits, outer, middle)
        return np.clip(X + inner * (Z - X), low, high)

    def _fits(self, Z: Array, X: Array) -> NDArray[np.bool_]:
        return np.asarray(np.linalg.norm(Z - X, axis=1) <= self.radius)

    def _ball(self, Z: Array, X: Array) -> Array:
        step = Z - X
        length = np.linalg.norm(step, axis=1, keepdims=True)
        factor = np.divide(self.radius, length, out=np.ones_like(length), where=length > self.radius)
        return X + step * factor

    def support(self, G: Array, X: Array) -> Array:
        """``radius |g|_2`` (an upper bound when clipped)."""
        del X
        return self.radius * np.linalg.norm(G, axis=1)

    def contains(self, Z: Array, X: Array, tol: float = 1e-9) -> NDArray[np.bool_]:
        """Distance at most the radius, up to ``tol`` of the sizes involved, and inside the clip."""
        size = tol * np.maximum(1.0, np.maximum(self.radius, np.abs(X).max(axis=1, initial=0.0)))
        close: NDArray[np.bool_] = np.linalg.norm(Z - X, axis=1) <= self.radius + size
        return close & self._in_clip(Z, X, tol)

    def sample(self, X: Array, rng: np.random.Generator) -> Array:
        """Uniform in the ball, then projected on the clip."""
        direction = rng.standard_normal(X.shape)
        direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), np.finfo(float).tiny)
        length = self.radius * rng.random((len(X), 1)) ** (1 / X.shape[1])
        return self.project(X + length * direction, X)


@dataclass(frozen=True, eq=False, init=False, repr=False)
class LInfBall(_Ball):
    """Box ``|x' - x|_inf <= radius`` around each sample.

    Parameters
    ----------
    radius : float
        Raw input units.
    clip : pair of float or array, optional
        Data range; perturbed inputs stay inside it.
    """

    norm = "linf"

    def project(self, Z: Array, X: Array) -> Array:
        """Exact projection."""
        lower, upper = self.bounding_box(X)
        return np.minimum(np.maximum(Z, lower), upper)

    def support(self, G: Array, X: Array) -> Array:
        """``max <g, x' - x>`` over the clipped box, exact."""
        lower, upper = self.bounding_box(X)
        best: Array = np.where(G >= 0, G * (upper - X), G * (lower - X)).sum(axis=1)
        return best

    def contains(self, Z: Array, X: Array, tol: float = 1e-9) -> NDArray[np.bool_]:
        """Every coordinate within the radius, up to ``tol`` of its size, and inside the clip."""
        close = np.asarray(np.abs(Z - X) <= self.radius + tol * np.maximum(1.0, np.abs(X))).all(axis=1)
        return np.asarray(close & self._in_clip(Z, X, tol))

    def sample(self, X: Array, rng: np.random.Generator) -> Array:
        """Uniform in the clipped box."""
        lower, upper = self.bounding_box(X)
        upper = np.maximum(lower, upper)
        return lower + (upper - lower) * rng.random(X.shape)


@dataclass(frozen=True, eq=False, init=False)
class Box(ByValue):
    """A fixed box ``lower <= x' <= upper``, the same for every sample.

    Parameters
    ----------
    lower, upper : float or array, shape (d,)
        Raw input units.
    clip : pair of float or array, optional
        Data range; the box is cut to it.
    """

    lower: Array
    upper: Array

    def __init__(self, lower: ArrayLike, upper: ArrayLike, clip: Any = None) -> None:
        low, high = _checked_range(lower, upper, "Box")
        if clip is not None:
            range_low, range_high = _clip_pair(clip)
            low, high = _checked_range(np.maximum(low, range_low), np.minimum(high, range_high), "Box with clip")
        if not (np.isfinite(low).all() and np.isfinite(high).all()):
            raise InvalidInputError("Box needs finite bounds.")
        object.__setattr__(self, "lower", low)
        object.__setattr__(self, "upper", high)

    norm = "box"

    def bounding_box(self, X: Array) -> tuple[Array, Array]:
        """The box, repeated for each sample."""
        return np.broadcast_to(self.lower, X.shape).copy(), np.broadcast_to(self.upper, X.shape).copy()

    def project(self, Z: Array, X: Array) -> Array:
        """Exact projection; the centres do not matter."""
        del X
        return np.minimum(np.maximum(Z, self.lower), self.upper)

    def support(self, G: Array, X: Array) -> Array:
        """``max <g, x' - x>`` over the box, exact."""
        best: Array = np.where(G >= 0, G * (self.upper - X), G * (self.lower - X)).sum(axis=1)
        return best

    def contains(self, Z: Array, X: Array, tol: float = 1e-9) -> NDArray[np.bool_]:
        """Every coordinate inside, up to ``tol`` of its size."""
        del X
        size = tol * np.maximum(1.0, np.abs(Z))
        return np.asarray(((Z >= self.lower - size) & (Z <= self.upper + size)).all(axis=1))

    def sample(self, X: Array, rng: np.random.Generator) -> Array:
        """Uniform in the box."""
        return self.lower + (self.upper - self.lower) * rng.random(X.shape)
