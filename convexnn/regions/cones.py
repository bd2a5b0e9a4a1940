"""The cones of piecewise majorants for a barrier method: every piece under its quadratic, one multiplier a piece."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.regions.ridges import Ridges

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Cones:
    """Cones ``4 X Y > Z^2`` that say ``al a^2 + be a + de >= q a^2 + k a + e`` on every piece, with n > 0 one a piece.

        X = al - q + n x,   Y = de - e + n y,   Z = be - k + n z.

    An interval [s, t] has (x, y, z) = (1, s t, -s - t), a half line below t (0, -t, 1), one above s (0, s, -1), the
    whole line zeros: the S-lemma, in which nothing is lost.

    Attributes
    ----------
    q, k, e, x, y, z : array, shape (G, P)
    exists : array of bool, shape (G, P)
    bounded : array of bool, shape (G, P)
        Pieces with a multiplier n.
    """

    q: Array = field(repr=False)
    k: Array = field(repr=False)
    e: Array = field(repr=False)
    x: Array = field(repr=False)
    y: Array = field(repr=False)
    z: Array = field(repr=False)
    exists: NDArray[np.bool_] = field(repr=False)
    bounded: NDArray[np.bool_] = field(repr=False)

    @classmethod
    def of(cls, parts: Ridges, rows: NDArray[np.intp], reach: Array, size: float) -> Cones:
        """Of some groups, the variable scaled to ``|a| <= 1`` by ``reach`` and the values by ``size``."""
        r = reach[:, None]
        exists = parts.exists[rows]
        low, high = (np.where(exists, end[rows] / r, 0.0) for end in (parts.lower, parts.upper))
        left, right = np.isfinite(low), np.isfinite(high)
        s, t = np.where(left, low, 0.0), np.where(right, high, 0.0)
        x = np.where(left & right, 1.0, 0.0)
        y = np.where(left & right, s * t, np.where(left, s, -t))
        z = np.where(left & right, -s - t, np.where(left, -1.0, 1.0)) * (left | right)
        unit = np.maximum(np.maximum(np.abs(x), np.abs(y)), np.maximum(np.abs(z), 1e-300))
        bounded = exists & (left | right)
        x, y, z = (np.where(bounded, part / unit, 0.0) for part in (x, y, z))
        q, k, e = (np.where(exists, part[rows], 0.0) / size for part in (parts.curves, parts.slopes, parts.intercepts))
        return cls(q * r * r, k * r, e, x, y, z, exists, bounded)

    def start(self, curvature: Array, slope: Array, spare: float) -> tuple[Array, Array]:
        """Offsets de and multipliers n well inside the cones, given al > 0 and be, shapes (G,) and (G, P)."""
        n = np.where(self.bounded, spare, 0.0)
        X = curvature[:, None] - self.q + n * self.x
        Z = slope[:, None] - self.k + n * self.z
        needed = np.where(self.exists, self.e - n * self.y + Z * Z / (2.0 * X), -np.inf)
        return needed.max(axis=1) + spare, n

    def values(self, al: Array, be: Array, de: Array, n: Array) -> tuple[Array, Array, Array, Array] | None:
        """X, Y, Z and the slacks ``4 X Y - Z^2``; None outside the cones."""
        X, Y = al[:, None] - self.q + n * self.x, de[:, None] - self.e + n * self.y
        Z = be[:, None] - self.k + n * self.z
        D = np.where(self.exists, 4.0 * X * Y - Z * Z, 1.0)
        inside = (D > 0) & ((X > 0) | ~self.exists) & ((n > 0) | ~self.bounded)
        return (X, Y, Z, D) if inside.all() else None

    def barrier(self, D: Array, n: Array) -> float:
        """``-sum log D - sum log n``."""
        return float(-np.log(D).sum() - np.log(np.where(self.bounded, n, 1.0)).sum())

    @property
    def parameter(self) -> int:
        """Of the barrier: two a cone, one a multiplier."""
        return int(2 * self.exists.sum() + self.bounded.sum())

    def derivatives(self, values: tuple[Array, Array, Array, Array], n: Array) -> tuple[Array, Array]:
        """Gradient (G, 3 + P) and Hessian (G, 3 + P, 3 + P) of the barrier in (al, be, de, n)."""
        X, Y, Z, D = values
        G, P = D.shape
        live = np.where(self.exists, 1.0 / D, 0.0)
        J = np.zeros((G, P, 3, 3 + P))  # derivatives of (X, Y, Z) of each piece
        J[:, :, 0, 0] = J[:, :, 1, 2] = J[:, :, 2, 1] = 1.0
        piece = np.arange(P)
        for place, part in enumerate((self.x, self.y, self.z)):
            J[:, piece, place, 3 + piece] = part
        slack = np.stack([4.0 * Y, 4.0 * X, -2.0 * Z], axis=2)  # of D in (X, Y, Z)
        dD = np.einsum("gpi,gpij->gpj", slack, J) * live[:, :, None]
        H = np.einsum("gpi,gpj->gij", dD, dD)
        cross = np.einsum("gpi,gpj,gp->gij", J[:, :, 0], J[:, :, 1], live)
        H -= 4.0 * (cross + cross.transpose(0, 2, 1))
        H += 2.0 * np.einsum("gpi,gpj,gp->gij", J[:, :, 2], J[:, :, 2], live)
        gradient = -dD.sum(axis=1)
        inverse = np.where(self.bounded, 1.0 / np.where(self.bounded, n, 1.0), 0.0)
        gradient[:, 3:] -= inverse
        H[:, 3 + piece, 3 + piece] += np.where(self.bounded, inverse * inverse, 1.0)
        return gradient, H
