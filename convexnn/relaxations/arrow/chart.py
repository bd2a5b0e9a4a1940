"""Scaled coordinates xi of the inputs: a box becomes ``[-1, 1]^d``, a ball the unit ball, a clipped ball both."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.input_set import InputSet
from convexnn.rigorous import UNIT, gamma, sum_up

Array = NDArray[np.float64]
TINY = float(np.finfo(float).tiny)
#: Directions of the row space whose squared length is below this share of the longest are dropped by the search.
RANK_SHARE = 1e-15


@dataclass(frozen=True, eq=False)
class Chart:
    """``x = centre + half * lift xi`` with the rows that hold on xi.

    A box: ``xi_i**2 <= 1`` for every i. A ball: ``|xi|**2 <= 1``, one row. A clipped ball: the rows of the box and
    ``sum_i curvature_i xi_i**2 + 2 tilt_i xi_i <= level``.

    Attributes
    ----------
    kind : str
        "box", "ball" or "clipped".
    centre : array, shape (n,)
        Raw input units.
    half : array, shape (n,)
        Raw input units; the radius in each coordinate for a ball.
    kept : array of int, shape (d,)
        Coordinates that vary (all of them for a ball).
    lift : array, shape (n, d), or None
        Orthonormal directions of a ball that was reduced to a subspace, None for the coordinates themselves.
    curvature, tilt : array, shape (d,)
        Of the ball row of a clipped ball; empty otherwise.
    level : float
        Rounded up.
    """

    kind: str
    centre: Array
    half: Array
    kept: NDArray[np.intp]
    lift: Array | None = None
    curvature: Array = field(default_factory=lambda: np.empty(0))
    tilt: Array = field(default_factory=lambda: np.empty(0))
    level: float = 0.0

    @property
    def d(self) -> int:
        """Number of coordinates."""
        return len(self.kept) if self.lift is None else self.lift.shape[1]

    @property
    def is_ball(self) -> bool:
        """Whether one multiplier serves all coordinates."""
        return self.kind == "ball"

    @property
    def is_clipped(self) -> bool:
        """Whether a box and a ball hold at once."""
        return self.kind == "clipped"

    def first_layer(self, W: Array, b: Array) -> tuple[Array, Array, Array]:
        """``W x + b = bias + slopes xi`` up to the error, for every x of the set.

        Returns
        -------
        bias : array, shape (units,)
        slopes : array, shape (units, d)
        error : array, shape (units,)
            Rounded up; says nothing when the chart has a lift.
        """
        bias = W @ self.centre + b
        if self.lift is not None:
            return bias, (W * self.half) @ self.lift, np.zeros(len(b))
        slopes = W[:, self.kept] * self.half[self.kept]
        relative = 2.0 * gamma(W.shape[1] + 4)
        size = np.abs(W) @ np.abs(self.centre) + np.abs(b)
        return bias, slopes, relative * size + 2.0 * UNIT * np.abs(slopes).sum(axis=1) + TINY * (W.shape[1] + 1)

    def points(self, xi: Array) -> Array:
        """Inputs (n, d_in) of coordinates (n, d)."""
        X = np.tile(self.centre, (len(xi), 1))
        if self.lift is not None:
            return X + self.half * (xi @ self.lift.T)
        X[:, self.kept] += self.half[self.kept] * xi
        return X

    def reduced(self, W: Array) -> Chart:
        """A ball in the row space of W (units, n): fewer coordinates, the same relaxation up to rounding.

        Only the search uses it; the check stays in the coordinates of the inputs.
        """
        if not self.is_ball or len(W) >= self.d:
            return self
        with np.errstate(all="ignore"):
            gram = W @ W.T
        if not np.isfinite(gram).all():
            return self
        square, V = np.linalg.eigh(gram)
        keep = square > RANK_SHARE * square.max(initial=0.0) + TINY
        lift = W.T @ (V[:, keep] / np.sqrt(square[keep]))
        return Chart(self.kind, self.centre, self.half, self.kept, lift)


def chart_of(inputs: InputSet) -> Chart:
    """The chart of a set of inputs; constants such as ``level`` are rounded so that every row holds on the set."""
    low, high = inputs.bounding_box()
    n = len(low)
    if inputs.has_ball and not _is_clipped(inputs):
        return Chart("ball", inputs.centre, np.full(n, inputs.radius), np.arange(n))
    centre = 0.5 * low + 0.5 * high
    half = np.maximum(high - centre, centre - low)
    half = np.where(low == high, 0.0, np.nextafter(half, np.inf))
    centre = np.where(low == high, low, centre)
    kept = np.flatnonzero(half > 0)
    if not inputs.has_ball:
        return Chart("box", centre, half, kept)
    return Chart("clipped", centre, half, kept, None, *_ball_row(inputs, centre, half, kept))


def _is_clipped(inputs: InputSet) -> bool:
    """Whether the box cuts into the ball."""
    if not inputs.radius > 0.0:
        return True
    return bool(
        np.any(inputs.lower > inputs.centre - inputs.radius) or np.any(inputs.upper < inputs.centre + inputs.radius)
    )


def _ball_row(inputs: InputSet, centre: Array, half: Array, kept: NDArray[np.intp]) -> tuple[Array, Array, float]:
    """``|centre + half xi - ball centre|**2 <= radius**2`` divided by the squared radius."""
    unit = inputs.radius if inputs.radius > 0.0 else 1.0
    offset, rate = (centre - inputs.centre) / unit, half[kept] / unit
    curvature, tilt = rate * rate, rate * offset[kept]
    level = (inputs.radius / unit) ** 2 - sum_up(offset * offset)
    size = 1.0 + curvature.sum() + 2.0 * np.abs(tilt).sum() + offset @ offset  # all roundings are relative ones
    return curvature, tilt, float(level + 32.0 * UNIT * size * (1.0 + gamma(len(centre) + 8)))
