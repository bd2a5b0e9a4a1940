"""The set of inputs around one sample: a box, a Euclidean ball, or both at once, with outward-rounded linear bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.rigorous import gamma, row_norms_up
from convexnn.threats import L2Ball, Threat
from convexnn.values import ByValue

Array = NDArray[np.float64]

#: Halvings of the multiplier that splits a linear form between ball and box.
HALVINGS = 60


@dataclass(frozen=True, eq=False)
class InputSet(ByValue):
    """``{x : lower <= x <= upper, |x - centre|_2 <= radius}``: a box, a ball, or the points of both.

    Attributes
    ----------
    lower, upper : array, shape (d,)
        Raw input units; ``-inf`` and ``inf`` where there is no box.
    centre : array, shape (d,)
        Of the ball; without ball the middle of the box.
    radius : float
        Of the ball, ``inf`` without one.
    """

    lower: Array
    upper: Array
    centre: Array
    radius: float

    @classmethod
    def around(cls, x: ArrayLike, threat: Threat) -> InputSet:
        """The threat set of one sample, shape (d,); corners of the box are rounded outward, a clip is exact.

        Raises
        ------
        InvalidInputError
            When the set is empty.
        """
        point = np.asarray(x, dtype=np.float64)
        if isinstance(threat, L2Ball):
            clip = (-np.inf, np.inf) if threat.clip is None else threat.clip
            low, high = (np.broadcast_to(np.asarray(end, dtype=np.float64), point.shape).copy() for end in clip)
            if threat.clip is not None and not np.linalg.norm(np.clip(point, low, high) - point) <= threat.radius:
                raise InvalidInputError(f"The threat set is empty: {threat!r} excludes every point near the sample.")
            return cls(low, high, point, threat.radius)
        low, high = (end[0] for end in threat.bounding_box(point[None]))
        if np.any(low > high):
            raise InvalidInputError(f"The threat set is empty: {threat!r} excludes every point near the sample.")
        if getattr(threat, "radius", 0.0) > 0.0:
            clip = (-np.inf, np.inf) if getattr(threat, "clip", None) is None else threat.clip  # type: ignore[attr-defined]
            low = np.maximum(np.nextafter(low, -np.inf), clip[0])
            high = np.minimum(np.nextafter(high, np.inf), clip[1])
        return cls.box(low, high)

    @classmethod
    def box(cls, lower: ArrayLike, upper: ArrayLike) -> InputSet:
        """The box between two corners (d,)."""
        low, high = np.asarray(lower, dtype=np.float64), np.asarray(upper, dtype=np.float64)
        if low.shape != high.shape or low.ndim != 1 or not np.all(low <= high) or not np.isfinite(high - low).all():
            raise InvalidInputError("A box needs two corners of shape (d,) with finite lower <= upper.")
        return cls(low, high, np.clip(low + 0.5 * (high - low), low, high), np.inf)

    @property
    def has_box(self) -> bool:
        """Whether a box bounds the set."""
        return bool(np.isfinite(self.lower).all() and np.isfinite(self.upper).all())

    @property
    def has_ball(self) -> bool:
        """Whether a ball bounds the set."""
        return bool(np.isfinite(self.radius))

    def bounding_box(self) -> tuple[Array, Array]:
        """Corners (d,) of a box that contains the set, rounded outward."""
        if not self.has_ball:
            return self.lower, self.upper
        low, high = self.centre - self.radius, self.centre + self.radius
        return np.maximum(np.nextafter(low, -np.inf), self.lower), np.minimum(np.nextafter(high, np.inf), self.upper)

    def project(self, Z: Array) -> Array:
        """Points (n, d) of the set close to the rows of Z, exact for a box or a ball; both at once by bisection."""
        if not self.has_ball:
            return np.clip(Z, self.lower, self.upper)
        threat = L2Ball(
            self.radius, None if not np.isfinite([self.lower, self.upper]).any() else (self.lower, self.upper)
        )
        return threat.project(Z, np.broadcast_to(self.centre, Z.shape))

    def maximizer(self, A: Array) -> Array:
        """Point of the set with (nearly) the largest ``a'x`` for every row of A, shape (q, d)."""
        corner = np.where(A > 0, self.upper, np.where(A < 0, self.lower, self.centre))
        if not self.has_ball:
            return np.asarray(corner)
        norms = np.linalg.norm(A, axis=1, keepdims=True)
        unit = A / np.where(norms > 0, norms, 1.0)
        ray = self.centre + self.radius * unit
        if not np.isfinite([self.lower, self.upper]).any():
            return np.asarray(ray)
        return self._on_the_sphere(unit)

    def _on_the_sphere(self, unit: Array) -> Array:
        """``clip(centre + t unit)`` with the largest t for which it is in the ball (any t where all is clipped)."""
        inner = np.zeros((len(unit), 1))
        outer = np.full((len(unit), 1), max(self.radius, 1e-300))
        for _ in range(HALVINGS):  # until the point leaves the ball, or nothing moves any more
            inside = self._distance(outer, unit) <= self.radius
            if not inside.any() or outer.max() > 1e200:
                break
            outer = np.where(inside, 4.0 * outer, outer)
        for _ in range(HALVINGS):
            middle = 0.5 * (inner + outer)
            inside = self._distance(middle, unit) <= self.radius
            inner, outer = np.where(inside, middle, inner), np.where(inside, outer, middle)
        return np.clip(self.centre + inner * unit, self.lower, self.upper)

    def _distance(self, t: Array, unit: Array) -> Array:
        moved = np.clip(self.centre + t * unit, self.lower, self.upper) - self.centre
        return np.asarray(np.linalg.norm(moved, axis=1, keepdims=True))

    def maximum(self, A: Array, b: ArrayLike = 0.0) -> Array:
        """Upper bounds on ``max (A x + b)`` over the set, rounded up, shape (q,).

        Exact up to rounding for a ball or a box; for both at once the form is split, ``a = g + (a - g)``: every g
        gives a bound (weak duality), the one that is used comes from the maximizer.

        Parameters
        ----------
        A : array, shape (q, d)
        b : float or array, shape (q,)

        Returns
        -------
        array, shape (q,)
            ``inf`` for nan.
        """
        A = np.asarray(A, dtype=np.float64)
        offset = np.broadcast_to(np.asarray(b, dtype=np.float64), (len(A),))
        with np.errstate(over="ignore", invalid="ignore"):
            if not self.has_ball:
                found = self._over_box(A, offset)
            elif not np.isfinite([self.lower, self.upper]).any():
                found = self._over_ball(A, offset)
            else:
                found = np.minimum(self._over_ball(A, offset), self._split(A, offset))
                if self.has_box:
                    found = np.minimum(found, self._over_box(A, offset))
        return np.where(np.isnan(found), np.inf, found)

    def _split(self, A: Array, b: Array) -> Array:
        """Bound by a multiplier: the part along the step that is not stopped by the box goes to the ball."""
        if not self.has_box:
            return np.full(len(A), np.inf)
        point = self.maximizer(A)
        step = point - self.centre
        free = (point > self.lower) & (point < self.upper) & (step != 0)
        rate = np.where(free, np.abs(A), 0.0).sum(axis=1) / np.maximum(
            np.where(free, np.abs(step), 0.0).sum(axis=1), 1e-300
        )
        toward = np.where(np.isfinite(rate)[:, None], rate[:, None] * step, 0.0)
        G = np.where(np.abs(toward) < np.abs(A), toward, A)
        rest = A - G  # rounded: the difference is covered below
        spare = np.nextafter(np.abs(A - (G + rest)) + np.finfo(float).tiny, np.inf)
        low, high = self.bounding_box()
        slack = (4.0 * 2.0**-53 * np.abs(A) + spare) @ np.maximum(np.abs(low), np.abs(high))
        return self._over_ball(G, b) + self._over_box(rest, np.zeros(len(A))) + 2.0 * slack + 4e-16 * np.abs(b)

    def _over_box(self, A: Array, b: Array) -> Array:
        ends = np.where(A > 0, self.upper, self.lower)
        size = np.abs(A) @ np.maximum(np.abs(self.lower), np.abs(self.upper)) + np.abs(b)
        return (A * ends).sum(axis=1) + b + 2.0 * gamma(A.shape[1] + 4) * size + np.finfo(float).tiny * A.shape[1]

    def _over_ball(self, A: Array, b: Array) -> Array:
        reach = self.radius * row_norms_up(np.where(np.isfinite(A), A, 0.0)) if A.size else np.zeros(len(A))
        size = np.abs(A) @ np.abs(self.centre) + np.abs(b) + reach
        value = A @ self.centre + b + reach + 2.0 * gamma(A.shape[1] + 6) * size
        return np.asarray(value + np.finfo(float).tiny * A.shape[1])
