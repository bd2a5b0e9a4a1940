"""Boxes on the faces of the cube ``[-1, 1]^r``, which meet every ray once."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]
Bool = NDArray[np.bool_]

#: Sweeps of :func:`tightened`.
SWEEPS = 2


@dataclass(frozen=True)
class Boxes:
    """Boxes on faces of the cube ``[-1, 1]^r``; centres and half widths are dyadic, hence exact.

    Parameters
    ----------
    centre, half : array, shape (k, r)
        The half width of the face's own coordinate is zero.
    face : array of int, shape (k,)
        The coordinate that is constant; its value is +1 or -1.
    bound : array, shape (k,)
        Upper bound on ``F(w) / |w|`` over the box.
    axis : array of int, shape (k,)
        The coordinate to split next.
    rows : array of int, shape (k, width)
        Undecided rows, filled up with n; of width zero where all rows are looked at.
    linear : array, shape (k, r)
        Sum of ``c_i x_i`` over rows that were found active on the box and are not in ``rows``.
    """

    centre: Array
    half: Array
    face: IntArray
    bound: Array
    axis: IntArray
    rows: NDArray[np.int32]
    linear: Array

    def __len__(self) -> int:
        """Count the boxes."""
        return len(self.bound)

    def select(self, index: IntArray | Bool | slice) -> Boxes:
        """The boxes with these numbers."""
        return Boxes(*(getattr(self, item.name)[index] for item in fields(self)))

    @staticmethod
    def join(parts: list[Boxes]) -> Boxes:
        """All boxes of parts of one width."""
        return Boxes(*(np.concatenate([getattr(part, item.name) for part in parts]) for item in fields(Boxes)))

    @staticmethod
    def faces(rank: int) -> Boxes:
        """The ``2 rank`` faces of the cube."""
        face = np.repeat(np.arange(rank), 2)
        centre = np.zeros((2 * rank, rank))
        centre[np.arange(2 * rank), face] = np.tile([1.0, -1.0], rank)
        empty = np.zeros((2 * rank, 0), dtype=np.int32)
        zeros = np.zeros((2 * rank, rank))
        half = 1.0 - np.abs(centre)
        return Boxes(centre, half, face, np.full(2 * rank, np.inf), np.zeros(2 * rank, dtype=int), empty, zeros)

    def halves(self) -> Boxes:
        """Both halves of every box along its axis; bounds are inherited."""
        number = np.arange(len(self))
        half = self.half.copy()
        half[number, self.axis] /= 2
        step = np.zeros_like(half)
        step[number, self.axis] = half[number, self.axis]
        two = Boxes.join([self, self])
        centre = np.concatenate([self.centre + step, self.centre - step])
        return Boxes(centre, np.concatenate([half, half]), two.face, two.bound, two.axis, two.rows, two.linear)


def cone_bound(G: Array, boxes: Boxes) -> Array:
    """Upper bound on ``G'w / |w|`` over each box, by the circular cone around its centre, shape (k,).

    With ``along`` the component of G along the centre, ``across`` the rest and ``sin = |half| / |centre|``: ``|G|``
    when G itself lies in the cone, else ``along cos + across sin``.
    """
    reach = np.sqrt((boxes.centre**2).sum(axis=1))
    sin = np.sqrt((boxes.half**2).sum(axis=1)) / reach
    cos = np.sqrt(np.maximum(1.0 - sin * sin, 0.0))
    along = (G * boxes.centre).sum(axis=1) / reach
    across = np.sqrt(((G - (along / reach)[:, None] * boxes.centre) ** 2).sum(axis=1))
    length = np.sqrt((G * G).sum(axis=1))
    inside = (along >= length * cos) | (sin >= 1.0)
    bound: Array = np.where(inside, length, along * cos + across * sin)
    return bound


def tightened(boxes: Boxes, G: Array, c: Array, rows: Array, slope: Array) -> Array:
    """Smaller bounds than :func:`cone_bound`, by multipliers of the box itself and better slopes, shape (k,).

    With ``s`` the value of the face's coordinate j and ``[lo, hi]`` the box, ``w_k - lo_k s w_j`` and
    ``hi_k s w_j - w_k`` are nonnegative on the box's cone, so nonnegative multiples of these forms may be added to G; a
    term with ``c_i < 0`` lies below ``c_i t x_i'w`` for every t in [0, 1]. Whatever the multipliers and slopes, the
    length of the sum is a bound. Coordinate descent makes it short.

    Parameters
    ----------
    boxes : Boxes
    G : array, shape (k, r)
        Linear forms with the slopes given; changed.
    c : array, shape (k, width)
    rows : array, shape (k, width, r)
    slope : array, shape (k, width)
        Slopes of undecided rows, zero for the others; changed.
    """
    number, rank = np.arange(len(G)), G.shape[1]
    side = boxes.centre[number, boxes.face]
    lo, hi = (boxes.centre - boxes.half) * side[:, None], (boxes.centre + boxes.half) * side[:, None]
    multipliers = np.zeros((2, len(G), rank))
    for _ in range(SWEEPS):
        for k in range(rank):
            away = boxes.face != k
            for which, (edge, sign) in enumerate(((lo[:, k], 1.0), (hi[:, k], -1.0))):
                value = sign * (G[:, k] - edge * G[number, boxes.face])
                old = multipliers[which, :, k]
                new = np.where(away, np.maximum(old - value / (1 + edge * edge), 0.0), 0.0)
                step = sign * (new - old)
                G[:, k] += step
                G[number, boxes.face] -= step * edge
                multipliers[which, :, k] = new
        for j in range(c.shape[1]):
            g = c[:, j, None] * rows[:, j]
            t = slope[:, j] - (g * G).sum(axis=1) / np.maximum((g * g).sum(axis=1), 1e-300)
            t = np.where((c[:, j] < 0) & (slope[:, j] > 0), np.clip(t, 1e-9, 1.0), slope[:, j])
            G += (t - slope[:, j])[:, None] * g
            slope[:, j] = t
    length: Array = np.sqrt((G * G).sum(axis=1))
    return length
