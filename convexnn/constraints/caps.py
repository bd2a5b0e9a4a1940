"""Upper bounds over a region inside the training program: one matrix inequality, linear in the units.

``relu(a) <= a/2 + (a^2 / kappa + kappa) / 4`` for the units that add, ``-relu(a) <= -tau a`` with tau in [0, 1] fixed
for those that subtract; what is left is a quadratic on a ball or box, bounded by multipliers rho of the region.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.constraints.cones import FEWER, NONNEGATIVE, PSD, Block, Effort, minimized, triangle
from convexnn.constraints.shape import Cap
from convexnn.regions.region import BALL

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]
EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class CapDual:
    """Multiplier of the matrix inequality, or None."""

    matrix: Any = None


@dataclass(frozen=True)
class Halfspace:
    """``<H, U> + h_a'linear + h_c constant >= h_c level`` for every feasible point, over all units.

    ``error`` (d + 1,) bounds the roundoff in the columns of H and, but for its last entry, in h_a; the rest is exact.
    """

    H: Array
    h_a: Array
    h_c: float
    level: float
    error: Array


@dataclass(frozen=True)
class CapProgram:
    """A cap with the slopes of the units that subtract.

    Attributes
    ----------
    cap : Cap
    signs : array, shape (g p,)
        Of all units.
    tau : array, shape (g p,)
        In [0, 1]; read where ``cap.sign * signs < 0``.
    """

    cap: Cap
    signs: Array
    tau: Array

    @property
    def adds(self) -> NDArray[np.bool_]:
        """Units that add to ``sign f``."""
        return np.asarray(self.cap.sign * self.signs > 0)

    @property
    def frame(self) -> Array:
        """Matrix (d + 1, r + 1) that takes a row ``(w, b)`` to the coordinates of the unit ball or box."""
        region = self.cap.region
        axes = np.diag(region.axes) if region.axes.ndim == 1 else region.axes
        d, r = axes.shape
        frame = np.zeros((d + 1, r + 1))
        frame[:d, :r], frame[:d, r], frame[d, r] = axes, region.center, 1.0
        return frame

    def conditions(self, U: Any, linear: Any, constant: Any, label: str) -> list[cvxpy.Constraint]:
        """The matrix inequality for all units ``U`` (g p, d + 1).

        Implements: docs/theory/shape_constraints.md, Proposition 7.
        """
        return self._inequality(U, linear, constant, self.cap.value, self.tau, label)

    def _inequality(self, U: Any, linear: Any, constant: Any, value: Any, tau: Any, label: str) -> Any:
        import cvxpy as cp

        sign, adds, frame = self.cap.sign, np.flatnonzero(self.adds), self.frame
        rest = np.flatnonzero(~self.adds)
        r, m = frame.shape[1] - 1, len(adds)
        moved = sign * (U @ frame)  # sign f, in the coordinates of the region
        h = sign * (cp.hstack([linear, constant]) @ frame)
        h = h + (0.5 * cp.sum(moved[adds], axis=0) if m else 0)
        h = h + (tau[rest] @ moved[rest] if len(rest) else 0)
        kappa = cp.Variable(m, nonneg=True) if m else None
        rho = cp.Variable(1 if self.cap.region.kind == BALL else r, nonneg=True)
        spread = rho * np.ones(r) if self.cap.region.kind == BALL else rho
        corner = sign * value - h[r] - cp.sum(rho) - (0.25 * cp.sum(kappa) if m else 0)
        side = cp.reshape(-0.5 * h[:r], (r, 1), order="C")
        blocks = [[cp.diag(spread), side], [side.T, cp.reshape(corner, (1, 1), order="C")]]
        if m:
            V = 0.5 * moved[adds]
            blocks[0].append(V[:, :r].T)
            blocks[1].append(cp.reshape(V[:, r], (1, m), order="C"))
            blocks.append([V[:, :r], cp.reshape(V[:, r], (m, 1), order="C"), cp.diag(kappa)])
        matrix = cp.bmat(blocks)
        return [(0.5 * (matrix + matrix.T) >> 0).set_label(label)]

    def best_tau(self, U: Array, linear: Array, constant: float) -> CapProgram:
        """The same cap with the slopes that bound given units best (one semidefinite program)."""
        frame, adds = self.frame, np.flatnonzero(self.adds)
        rest, r, m = np.flatnonzero(~self.adds), frame.shape[1] - 1, len(adds)
        moved, h = self.cap.sign * (U @ frame), self.cap.sign * (np.append(linear, constant) @ frame)
        size = max(float(np.abs(moved).max(initial=0.0)), float(np.abs(h).max())) or 1.0
        moved, h = moved / size, h / size  # the slopes do not depend on it
        h = h + 0.5 * moved[adds].sum(axis=0)
        rho = np.ones((r, 1)) if self.cap.region.kind == BALL else np.eye(r)
        n_tau, n_rho, order = len(rest), rho.shape[1], r + 1 + m
        rows, columns, factors = triangle(order)
        line = np.flatnonzero(columns == r)  # (0, r), ..., (r, r)
        diagonal = np.flatnonzero(rows == columns)
        shares = np.append(np.full(r, -0.5), -1.0)
        constants, A = np.zeros(len(rows)), np.zeros((len(rows), n_tau + 1 + m + n_rho))  # tau, value, kappa, rho
        constants[line] = shares * h
        if m:
            constants[(columns > r) & (rows <= r)] = 0.5 * moved[adds].ravel()
        A[line, :n_tau] = shares[:, None] * moved[rest].T
        A[line[-1], n_tau:] = np.concatenate([[1.0], np.full(m, -0.25), -np.ones(n_rho)])
        A[diagonal[r + 1 :], n_tau + 1 + np.arange(m)] = 1.0
        A[diagonal[:r], n_tau + 1 + m :] = rho
        count, bounded = A.shape[1], np.delete(np.eye(A.shape[1]), n_tau, axis=0)
        blocks = [
            Block("cap", PSD, factors[:, None] * A, factors * constants, order),
            Block("positive", NONNEGATIVE, bounded, np.zeros(count - 1)),
            Block("at most one", NONNEGATIVE, -np.eye(n_tau, count), np.ones(n_tau)),
        ]
        found = minimized(np.zeros(count), np.eye(count)[n_tau], blocks, Effort(), FEWER)
        return self if found is None else CapProgram(self.cap, self.signs, np.clip(self._spread(found.z), 0.0, 1.0))

    def _spread(self, z: Array) -> Array:
        tau = self.tau.copy()
        tau[~self.adds] = z[: int((~self.adds).sum())]
        return tau

    def halfspace(self, dual: CapDual, n_units: int) -> Halfspace | None:
        """What a multiplier says about every feasible point: moments of the region, made admissible first.

        For moments Z of a distribution on the region (last entry 1) and any ``|w_i| <= 1``, ``Z = F F'``::

            sign value >= sign (a, c) frame mu + sum_+ (mu + F w_i)'u_i / 2 + sum_- tau_j mu'u_j

        Implements: docs/theory/shape_constraints.md, Proposition 8.
        """
        frame, adds = self.frame, np.flatnonzero(self.adds)
        r, m = frame.shape[1] - 1, len(adds)
        matrix = np.asarray(dual.matrix)
        if matrix.shape != (r + 1 + m, r + 1 + m) or matrix.dtype.kind not in "biuf":
            return None
        matrix = 0.5 * matrix.astype(np.float64) + 0.5 * matrix.T.astype(np.float64)
        weight = float(matrix[r, r])
        found = self._factors(matrix / weight, r) if 0 < weight < np.inf else None
        if found is None:
            return None
        F, W = found
        mu = np.append(F[:r] @ F[r], 1.0)
        moments = np.zeros((n_units, r + 1))
        moments[adds] = 0.5 * (mu + (F @ W).T)
        rest = np.flatnonzero(~self.adds)
        moments[rest] = self.tau[rest, None] * mu
        factor = -weight * self.cap.sign
        error = 16 * (r + 16) * EPS * weight * np.abs(frame).sum(axis=1)  # no moment is above one
        return Halfspace(factor * moments @ frame.T, factor * (frame @ mu)[:-1], factor, float(self.cap.value), error)

    def _factors(self, matrix: Array, r: int) -> tuple[Array, Array] | None:
        """Factor of moments of the region, last row normalized up to rounding, and vectors of norm at most one."""
        try:
            values, vectors = np.linalg.eigh(matrix[: r + 1, : r + 1])
            F = vectors * np.sqrt(np.maximum(values, 0.0))
            W = np.linalg.lstsq(F, -2 * matrix[: r + 1, r + 1 :], rcond=None)[0]
        except np.linalg.LinAlgError:
            return None
        sizes = np.linalg.norm(F[:r]) if self.cap.region.kind == BALL else np.linalg.norm(F[:r], axis=1, keepdims=True)
        F[:r] /= np.maximum(sizes, 1.0) * (1 + (F.size + 16) * EPS)
        F[r] /= np.linalg.norm(F[r])
        W /= np.maximum(np.linalg.norm(W, axis=0), 1.0) * (1 + (len(W) + 16) * EPS)
        return (F, W) if np.isfinite(F).all() and np.isfinite(W).all() else None
