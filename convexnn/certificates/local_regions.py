"""Balls and boxes around every sample with what local bounds ask of them: reach, support, worst point, best step."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.rigorous import UNIT, gamma, row_norms_up
from convexnn.threats import Threat

Array = NDArray[np.float64]

#: Share of the largest entry of a gradient below which an entry is no direction.
TIE = 1e-9


@dataclass(frozen=True, eq=False)
class Region:
    """The sets ``centre + e`` with ``|e|_2 <= size`` (balls) or ``|e_j| <= size_j`` (boxes), one a sample.

    Attributes
    ----------
    centre : array, shape (n, d)
    size : array, shape (n, 1) for balls, (n, d) for boxes
        Radii or half widths.
    is_ball : bool
    """

    centre: Array
    size: Array
    is_ball: bool

    @classmethod
    def around(cls, X: Array, radii: Array, norm: str) -> Region:
        """Balls in ``norm`` "l2" or "linf" of these radii (n,) around the samples, rounding of their points covered."""
        distance = np.asarray(radii, dtype=float)[:, None]
        if norm == "l2":
            reached = distance + np.linalg.norm(X, axis=1, keepdims=True)
            grown = distance + 2.0 * gamma(X.shape[1] + 8) * (distance + reached)
        else:
            distance = np.broadcast_to(distance, X.shape)
            grown = distance + 8.0 * UNIT * (distance + np.abs(X))
        return cls(X, np.where(distance > 0, grown, 0.0), norm == "l2")

    @classmethod
    def boxes(cls, lower: Array, upper: Array, moved: bool) -> Region:
        """Boxes between two corners; ``moved`` says that the corners were rounded."""
        low, high = np.minimum(lower, upper), np.maximum(lower, upper)
        centre = low + 0.5 * (high - low)
        half = np.maximum(high - centre, centre - low)
        grown = half + 8.0 * UNIT * (np.abs(low) + np.abs(high))
        return cls(centre, np.where((half > 0) | moved, grown, half), False)

    def __getitem__(self, rows: slice) -> Region:
        """Those of some samples."""
        return Region(self.centre[rows], self.size[rows], self.is_ball)

    @property
    def extent(self) -> Array:
        """Upper bounds on ``|e|_1`` up to the dimension, shape (n,)."""
        return np.asarray(self.size.sum(axis=1) * (self.centre.shape[1] if self.is_ball else 1.0))

    def spread(self, W: Array) -> Array:
        """Largest ``|w_i'e|`` for the rows of W (m, d), shape (n, m); rounded up."""
        if self.is_ball:
            return np.asarray(self.size * row_norms_up(W) * (1.0 + 4.0 * UNIT))
        return np.asarray((self.size @ np.abs(W).T) * (1.0 + 2.0 * gamma(W.shape[1] + 8)))

    def support(self, G: Array) -> Array:
        """Largest ``g'e`` for the rows of G (n, P, d), shape (n, P); rounded up, ``inf`` for nan and inf."""
        n, P, d = G.shape
        if self.is_ball:
            found = self.size * row_norms_up(G.reshape(n * P, d)).reshape(n, P)
        else:
            found = np.matmul(np.abs(G), self.size[:, :, None])[:, :, 0]
        safe = found * (1.0 + 2.0 * gamma(d + 8))
        return np.where(np.isfinite(G).all(axis=2) & np.isfinite(safe), safe, np.inf)

    def attack(self, G: Array) -> Array:
        """The ``e`` with the smallest ``g'e``, shape (n, P, d)."""
        if not self.is_ball:
            counts = np.abs(G) > TIE * np.abs(G).max(axis=2, keepdims=True)  # rounding does not break ties
            return np.asarray(-self.size[:, None] * np.where(counts, np.sign(G), 0.0))
        length = np.linalg.norm(G, axis=2, keepdims=True)
        return np.asarray(-self.size[:, None] * G / np.where(length > 0, length, 1.0))

    def best_step(self, G: Array, H: Array, gain: Array) -> Array:
        """The t in [0, 1] with the largest ``t gain - h(G + t H)``, h the support function, shape (n, P)."""
        return _ball_step(G, H, gain, self.size) if self.is_ball else _box_step(G, H, gain, self.size[:, None])


def regions_of(threat: Threat, X: Array) -> list[Region]:
    """Regions that contain each threat set, rounding of its points covered: an l2 ball, its box when clipped; a box.

    Where a ball does not meet its clip, they contain the points that ``project`` gives.
    """
    clipped = getattr(threat, "clip", None) is not None
    found = []
    if threat.norm == "l2":
        radii = np.full(len(X), float(threat.radius))  # type: ignore[attr-defined]
        if clipped:
            radii = np.maximum(radii, row_norms_up(threat.project(X, X) - X))
        found.append(Region.around(X, radii, "l2"))
    if threat.norm != "l2" or clipped:
        found.append(Region.boxes(*threat.bounding_box(X), moved=getattr(threat, "radius", 0.0) > 0))
    return found


def _ball_step(G: Array, H: Array, gain: Array, radius: Array) -> Array:
    """Maximum of ``t gain - r |G + t H|``: with ``G + t H = P + q H`` and P orthogonal to H a function of q."""
    square = (H * H).sum(axis=2)
    safe = np.where(square > 0, square, 1.0)
    shift = (G * H).sum(axis=2) / safe
    rest = np.linalg.norm(G - shift[..., None] * H, axis=2)
    slope = gain / np.where(square > 0, radius * np.sqrt(safe), 1.0)
    inner = np.clip(slope, -1.0 + 1e-12, 1.0 - 1e-12)
    q = inner / np.sqrt(1.0 - inner * inner) * rest / np.sqrt(safe)
    step = np.where(slope >= 1.0, 1.0, np.where(slope <= -1.0, 0.0, np.clip(q - shift, 0.0, 1.0)))
    return np.where(square > 0, step, gain > 0).astype(float)


def _box_step(G: Array, H: Array, gain: Array, half: Array) -> Array:
    """Maximum of the concave piecewise linear ``t gain - sum_j half_j |G_j + t H_j|`` over its kinks in (0, 1)."""
    rates = half * np.abs(H)
    kinks = np.where((G * H < 0) & (rates > 0), -G / np.where(H != 0, H, 1.0), np.inf)
    order = np.argsort(kinks, axis=2)
    kinks, drops = np.take_along_axis(kinks, order, 2), 2.0 * np.take_along_axis(rates, order, 2)
    first = gain - np.where(G != 0, half * np.sign(G) * H, rates).sum(axis=2)
    after = first[..., None] - np.cumsum(np.where(np.isfinite(kinks), drops, 0.0), axis=2)
    number = np.argmax(after <= 0, axis=2)[..., None]
    stop = np.where((after <= 0).any(axis=2), np.take_along_axis(kinks, number, 2)[..., 0], 1.0)
    return np.where(first > 0, np.clip(stop, 0.0, 1.0), 0.0)
