"""The set of inputs around one sample: a box, a Euclidean ball, or both at once, with outward-rounded linear bounds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import real_array
from convexnn.propagation.support import fill, over_ball, over_box
from convexnn.rigorous import gamma
from convexnn.threats import L2Ball, Threat
from convexnn.values import ByValue

Array = NDArray[np.float64]

TINY = float(np.finfo(float).tiny)


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

    def __post_init__(self) -> None:
        """Keep read-only copies; refuse corners that are crossed and balls without a centre or a radius."""
        for name in ("lower", "upper", "centre"):
            array = real_array(getattr(self, name), name).copy()
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        object.__setattr__(self, "radius", float(self.radius))
        if not (self.lower.ndim == 1 and self.lower.shape == self.upper.shape == self.centre.shape):
            raise InvalidInputError(
                f"A set of inputs needs corners and a centre of shape (d,), got {self.lower.shape}, {self.upper.shape} "
                f"and {self.centre.shape}."
            )
        if not (np.isfinite(self.centre).all() and (self.lower <= self.upper).all() and self.radius >= 0.0):
            raise InvalidInputError("A set of inputs needs a finite centre, lower <= upper and a radius >= 0.")

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
            away = np.abs(np.clip(point, low, high) - point)
            if not np.linalg.norm(away / max(threat.radius, TINY)) <= (1.0 if threat.radius > 0 else 0.0):
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
        if not self.has_ball:
            return np.asarray(np.where(A > 0, self.upper, np.where(A < 0, self.lower, self.centre)))
        with np.errstate(all="ignore"):
            scaled = A / _top(A)
            if not self._is_clipped:
                norms = np.linalg.norm(scaled, axis=1, keepdims=True)
                return np.asarray(self.centre + self.radius * (scaled / np.where(norms > 0, norms, 1.0)))
            moved = self.centre + np.where(scaled != 0, self._longest_step(scaled) * scaled, 0.0)
        return np.clip(moved, self.lower, self.upper)

    @property
    def _is_clipped(self) -> bool:
        return bool(np.isfinite(self.lower).any() or np.isfinite(self.upper).any())

    def _longest_step(self, A: Array) -> Array:
        """Largest t with ``clip(centre + t a)`` in the ball, shape (q, 1); ``inf`` where only the box counts."""
        if self.radius == 0.0:
            return np.zeros((len(A), 1))
        ends = np.stack([self.lower - self.centre, self.upper - self.centre]) / self.radius
        down, up, nearest = np.square(np.clip(np.vstack([ends, np.clip(0.0, *ends)]), -1e100, 1e100))
        return self.radius * np.sqrt(fill(np.square(A), nearest, np.where(A > 0, up, down)))[:, None]

    def maximum(self, A: Array, b: ArrayLike = 0.0) -> Array:
        """Upper bounds on ``max (A x + b)`` over the set, rounded up, shape (q,).

        Exact up to rounding. For a ball and a box at once the form is split, ``a = g + (a - g)``: every g gives a bound
        (weak duality), the one that is used comes from the maximizer ``x = clip(centre + t a)`` and leaves no gap.

        Implements: convexnn, Proposition 3 of theory/propagation, support function of a clipped ball.

        Parameters
        ----------
        A : array, shape (q, d)
        b : float or array, shape (q,)

        Returns
        -------
        array, shape (q,)
            ``inf`` for nan and for what overflows.
        """
        A = np.asarray(A, dtype=np.float64)
        offset = np.broadcast_to(np.asarray(b, dtype=np.float64), (len(A),))
        with np.errstate(all="ignore"):
            if not self.has_ball:
                found = over_box(A, offset, self.lower, self.upper)
            else:
                found = over_ball(A, offset, self.centre, self.radius)
                if self._is_clipped:
                    found = np.fmin(found, over_box(A, offset, *self.bounding_box()))
                    found = np.fmin(found, self._over_both(A, offset))
        return np.where(np.isfinite(found), found, np.inf)  # minus infinity is a product that overflowed

    def _over_both(self, A: Array, b: Array) -> Array:
        """By the split ``g = (x - centre) / t``, which is a, moved into intervals."""
        top = _top(A)
        rate = np.clip(top / self._longest_step(A / top), 1e-300, 1e300)
        G = np.clip(A, rate * (self.lower - self.centre), rate * (self.upper - self.centre))
        # the rounding of A - G is among the errors that are relative to the size
        rest = over_box(A - G, np.zeros(len(A)), *self.bounding_box())
        return over_ball(G, b + rest + 2.0 * gamma(4) * (np.abs(b) + np.abs(rest)), self.centre, self.radius)


def _top(A: Array) -> Array:
    top = np.max(np.abs(A), axis=1, keepdims=True, initial=0.0)
    return np.where(top > 0, top, 1.0)
