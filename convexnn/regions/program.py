"""The reduced dual as a conic program: one matrix of size r + 1, small matrices for the pieces, signs.

Unknowns are curvatures, slopes and offsets of the majorants, the multipliers n of the pieces, rho of the region, and
tau, the bound on ``g'K^-1 g / 4``; everything is scaled to numbers of size one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import eigvalsh

from convexnn.regions.cones import Cones
from convexnn.regions.region import BALL
from convexnn.regions.ridges import Ridges

Array = NDArray[np.float64]


@dataclass(eq=False)
class Unknowns:
    """The free variables: al, be, de (G,), n (G, P), rho (1,) or (r,), tau (1,)."""

    al: Array
    be: Array
    de: Array
    n: Array
    rho: Array
    tau: Array

    @property
    def all(self) -> tuple[Array, ...]:
        """In the order of the fields."""
        return self.al, self.be, self.de, self.n, self.rho, self.tau

    def plus(self, other: Unknowns, length: float) -> Unknowns:
        """The point ``self + length other``."""
        return Unknowns(*(own + length * moved for own, moved in zip(self.all, other.all, strict=True)))

    def dot(self, other: Unknowns) -> float:
        """Inner product."""
        return float(sum(np.vdot(own, moved) for own, moved in zip(self.all, other.all, strict=True)))

    def size(self, other: Unknowns) -> float:
        """``sum |self| |other|``."""
        return float(sum(np.abs(own * moved).sum() for own, moved in zip(self.all, other.all, strict=True)))


@dataclass(eq=False)
class Blocks:
    """An element of the space of the cones.

    Attributes
    ----------
    big : array, shape (r + 1, r + 1)
    small : array, shape (3, G, P)
        Entries 11, 22 and 12 of 2 x 2 matrices, one a piece.
    n : array, shape (G, P)
    rho : array, shape (1,) or (r,)
    """

    big: Array
    small: Array
    n: Array
    rho: Array

    def plus(self, other: Blocks, length: float) -> Blocks:
        """The element ``self + length other``."""
        return Blocks(self.big + length * other.big, self.small + length * other.small, self.n + length * other.n,
                      self.rho + length * other.rho)  # fmt: skip

    def dot(self, other: Blocks) -> float:
        """Inner product."""
        small = np.vdot(self.small, other.small) + np.vdot(self.small[2], other.small[2])
        return float(np.vdot(self.big, other.big) + small + np.vdot(self.n, other.n) + np.vdot(self.rho, other.rho))


class Program:
    """``min sum de + |rho| + tau`` over unknowns whose slacks lie in the cones.

    The slacks are ``[[tau, -g'/2], [-g/2, K]]`` with ``K = diag(rho) - sum al v v'`` and ``g = sum be v``, the 2 x 2
    matrices ``[[X, Z/2], [Z/2, Y]]`` of :class:`~convexnn.regions.cones.Cones`, n and rho. Entries of pieces that do
    not exist, or have no multiplier, are kept at one in slacks and zero in moments.

    Parameters
    ----------
    parts : Ridges
    rows : array of int
        Groups that are optimized; the others have fixed majorants.
    size : float
        Unit of the values.
    """

    def __init__(self, parts: Ridges, rows: NDArray[np.intp], size: float) -> None:
        self.reach = parts.reach[rows]
        self.V = parts.directions[rows] / self.reach[:, None]
        self.ball = parts.kind == BALL
        self.cones = Cones.of(parts, rows, self.reach, size)
        fixed = np.setdiff1d(np.arange(len(parts.reach)), rows)
        al, be = fixed_majorants(parts, fixed)
        W = parts.directions[fixed]
        self.linear = W.T @ be / size
        self.base = (W.T * (al / size)) @ W
        self.G, self.r = self.V.shape
        cones = self.cones
        self.degree = self.r + 1 + (1 if self.ball else self.r) + int(2 * cones.exists.sum() + cones.bounded.sum())
        one = np.ones(1)
        rho = one if self.ball else np.ones(self.r)
        self.cost = Unknowns(np.zeros(self.G), np.zeros(self.G), np.ones(self.G), 0.0 * cones.x, rho, one)

    def start(self) -> Unknowns:
        """Strictly feasible unknowns whose slacks all have the size of the group's slopes: a centred start."""
        cones = self.cones
        k = np.where(cones.exists, cones.k, np.nan)
        high, low = np.nanmax(k, axis=1, initial=-np.inf), np.nanmin(k, axis=1, initial=np.inf)
        unit = np.maximum(high - low, 0.1 / max(self.G, 1))
        al = np.where(cones.exists, cones.q, 0.0).max(axis=1, initial=0.0) + unit
        be = 0.5 * (high + low)
        n = np.where(cones.bounded, unit[:, None], 0.0)
        X, Z = al[:, None] - cones.q + n * cones.x, be[:, None] - cones.k + n * cones.z
        needed = np.where(cones.exists, cones.e - n * cones.y + Z * Z / (2.0 * X), -np.inf)
        A, g = (self.V.T * al) @ self.V + self.base, self.V.T @ be + self.linear
        top = max(float(eigvalsh(A)[-1]), 0.0)
        rho = np.full(1 if self.ball else self.r, 2.0 * top + 0.5 * float(np.linalg.norm(g)) + 0.1 / max(self.G, 1))
        inverse = float(g @ g) / (4.0 * (float(rho[0]) - top))
        spare = float(unit.mean()) if self.G else 1.0
        return Unknowns(al, be, needed.max(axis=1, initial=-np.inf) + unit, n, rho, np.array([2.0 * inverse + spare]))

    def value(self, y: Unknowns) -> float:
        """What is minimized."""
        return float(y.de.sum() + y.rho.sum() + y.tau[0])

    def slacks(self, y: Unknowns, *, change: bool = False) -> Blocks:
        """Slacks of a point, or of a change of a point (without the constants)."""
        cones, one = self.cones, 0.0 if change else 1.0
        big = np.empty((self.r + 1, self.r + 1))
        big[0, 0] = y.tau[0]
        big[0, 1:] = big[1:, 0] = -0.5 * (self.V.T @ y.be + one * self.linear)
        K = -(self.V.T * y.al) @ self.V - one * self.base
        K[np.diag_indices(self.r)] += y.rho
        big[1:, 1:] = 0.5 * (K + K.T)
        small = np.empty((3, *y.n.shape))
        small[0] = y.al[:, None] - one * cones.q + y.n * cones.x
        small[1] = y.de[:, None] - one * cones.e + y.n * cones.y
        small[2] = 0.5 * (y.be[:, None] - one * cones.k + y.n * cones.z)
        small = np.where(cones.exists, small, np.array([one, one, 0.0])[:, None, None])
        return Blocks(big, small, np.where(cones.bounded, y.n, one), y.rho.copy())

    def constants(self) -> Blocks:
        """The slacks of unknowns that are all zero, without the placeholders."""
        zero = Unknowns(*(np.zeros_like(own) for own in self.cost.all))
        found = self.slacks(zero)
        return Blocks(found.big, found.small * self.cones.exists, 0.0 * found.n, found.rho)

    def adjoint(self, N: Blocks) -> Unknowns:
        """Inner products of the slacks' derivatives with an element that is symmetric."""
        cones, inner = self.cones, N.big[1:, 1:]
        al = -((self.V @ inner) * self.V).sum(axis=1) + N.small[0].sum(axis=1)
        be = -self.V @ N.big[1:, 0] + N.small[2].sum(axis=1)
        n = N.n + cones.x * N.small[0] + cones.y * N.small[1] + cones.z * N.small[2]
        diagonal = np.diag(inner)
        rho = N.rho + (diagonal.sum() if self.ball else diagonal)
        return Unknowns(al, be, N.small[1].sum(axis=1), np.where(cones.bounded, n, 0.0), rho, N.big[:1, 0])


def fixed_majorants(parts: Ridges, rows: NDArray[np.intp]) -> tuple[Array, Array]:
    """Curvature and slope of groups that are not optimized: their only piece itself, or the middle slope."""
    exists = parts.exists[rows]
    one = exists.sum(axis=1) == 1
    q, k = (np.where(exists, part[rows], 0.0) for part in (parts.curves, parts.slopes))
    low, high = (
        np.where(exists, k, np.inf).min(axis=1, initial=np.inf),
        np.where(exists, k, -np.inf).max(axis=1, initial=-np.inf),
    )
    return np.where(one, q.sum(axis=1), 0.0), np.where(one, k.sum(axis=1), 0.5 * (low + high))
