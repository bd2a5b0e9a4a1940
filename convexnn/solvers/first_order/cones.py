"""Nearest points in the units' cones from a few of their rows, found as they are needed.

A cone of n rows in d + 1 dimensions has at most d + 1 independent rows active at a projection. Each unit keeps a small
working set of rows; rows that a point violates are added by passes over the data. The nearest point of a working cone
is exact: the rows active last time give it in closed form, and where that violates a sign or a row, nonnegative least
squares find the active rows anew.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from convexnn.solvers.first_order.stream import RowStream

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

#: Slack over length, below which a working row counts as violated.
ROUNDOFF = 1e-13
#: Most violated rows of one unit that one pass adds.
NEW_ROWS = 10
#: Working rows per coordinate above which idle rows are dropped.
KEPT_ROWS = 6


class WorkingRows:
    """Rows of every unit's cone that have mattered so far, of unit length.

    Parameters
    ----------
    stream : RowStream
    """

    def __init__(self, stream: RowStream) -> None:
        self.stream = stream
        p, d1 = stream.p, stream.d1
        self.index: list[IntArray] = [np.zeros(0, dtype=np.intp) for _ in range(p)]
        self.age: list[IntArray] = [np.zeros(0, dtype=np.intp) for _ in range(p)]
        self.rows: Array = np.zeros((p, 4, d1))  # padded with zero rows
        self.projectors: list[Projector] = []

    def of(self, unit: int) -> Array:
        """Rows of one unit, shape (k, d + 1)."""
        rows: Array = self.rows[unit, : len(self.index[unit])]
        return rows

    def slack(self, V: Array) -> Array:
        """Slacks of the working rows, shape (p, widest working set)."""
        slack: Array = np.matmul(self.rows, V[:, :, None])[:, :, 0]
        return slack

    def add_violated(self, V: Array, tol: float = ROUNDOFF) -> tuple[int, float]:
        """One pass over the data: add the worst rows of every unit; how many were new, and the worst relative slack."""
        if not self.stream.sign.any():
            return 0, 0.0
        length = np.linalg.norm(V, axis=1)
        units = np.flatnonzero(length > 0)
        if not units.size:
            return 0, 0.0
        values, rows = self.stream.slacks(V, units)
        values = values / length[units]
        added = 0
        for column in np.flatnonzero(values.min(axis=0) < -tol):
            worst = np.argsort(values[:, column])[:NEW_ROWS]
            worst = worst[values[worst, column] < -tol]
            added += self._add(int(units[column]), rows[worst, column])
        return added, float(values.min())

    def _add(self, unit: int, rows: IntArray) -> int:
        fresh = np.setdiff1d(rows, self.index[unit])
        if not fresh.size:
            return 0
        before = len(self.index[unit])
        if before + len(fresh) > self.rows.shape[1]:
            wider = np.zeros((len(self.rows), 2 * (before + len(fresh)), self.rows.shape[2]))
            wider[:, : self.rows.shape[1]] = self.rows
            self.rows = wider
        self.index[unit] = np.concatenate([self.index[unit], fresh])
        self.age[unit] = np.concatenate([self.age[unit], np.zeros(len(fresh), dtype=np.intp)])
        self.rows[unit, before : before + len(fresh)] = self.stream.cone_rows(unit, fresh)
        return len(fresh)

    def drop_idle(self, patience: int = 8) -> None:
        """Count calls since each row was last active in a lasting projector, and drop rows idle for long."""
        for unit, index in enumerate(self.index):
            self.age[unit] += 1
            for projector in self.projectors:
                self.age[unit][projector.active[unit]] = 0
            keep = self.age[unit] <= patience
            if len(index) > KEPT_ROWS * self.rows.shape[2] and not keep.all():
                rows = self.of(unit)[keep].copy()
                self.rows[unit] = 0
                self.rows[unit, : len(rows)] = rows
                self.index[unit], self.age[unit] = index[keep], self.age[unit][keep]
                for projector in self.projectors:
                    projector.renumber(unit, keep)
        widest = max(4, *(len(index) for index in self.index))
        if widest < 0.7 * self.rows.shape[1]:
            self.rows = self.rows[:, :widest].copy()


class Projector:
    """Projections onto the working cones, with the active rows of the last call as a first guess.

    Parameters
    ----------
    working : WorkingRows
        May grow and shrink between calls; several projectors can share it.
    lasting : bool
        Whether rows active here are kept. Rows may be dropped only between calls of lasting projectors.
    """

    def __init__(self, working: WorkingRows, *, lasting: bool = True) -> None:
        self.working = working
        if lasting:
            working.projectors.append(self)
        p, _, d1 = working.rows.shape
        self.basis: Array = np.zeros((p, d1, d1))  # orthonormal columns that span the active rows
        self.inverse: Array = np.zeros((p, d1, d1))
        self.active: list[IntArray] = [np.zeros(0, dtype=np.intp) for _ in range(p)]
        self.multipliers: Array = np.zeros((p, d1))
        self.normal: Array = np.zeros((p, d1))  # point minus what was projected, of the last exact projection

    def __call__(self, V: Array, needed: NDArray[np.bool_] | None = None) -> Array:
        """Nearest points of the working cones, shape (p, d + 1); inexact where not ``needed``."""
        coordinates = np.matmul(V[:, None, :], self.basis)[:, 0]
        U = V - np.matmul(self.basis, coordinates[:, :, None])[:, :, 0]
        self.multipliers = -np.matmul(self.inverse, coordinates[:, :, None])[:, :, 0]
        length = np.linalg.norm(V, axis=1)
        lowest = np.minimum(self.multipliers.min(axis=1), self.working.slack(U).min(axis=1))
        redo = lowest < -ROUNDOFF * length
        if needed is not None:
            redo &= needed
        for unit in np.flatnonzero(redo):
            U[unit] = self._project(int(unit), V[unit])
        U[np.linalg.norm(U, axis=1) <= 1e-11 * length] = 0.0
        exact = (lowest >= -ROUNDOFF * length) | redo
        self.normal = np.where(exact[:, None], U - V, self.normal)
        return U

    def _project(self, unit: int, v: Array) -> Array:
        rows = self.working.of(unit)
        try:
            found = nnls(rows.T, -v, maxiter=20 * sum(rows.shape))[0] if len(rows) else np.zeros(0)
        except RuntimeError:
            return v - self.basis[unit] @ (self.basis[unit].T @ v)
        self._activate(unit, np.flatnonzero(found > 0))
        coordinates = self.basis[unit].T @ v
        self.multipliers[unit] = -self.inverse[unit] @ coordinates
        point: Array = v - self.basis[unit] @ coordinates
        return point

    def _activate(self, unit: int, active: IntArray) -> None:
        self.active[unit] = active
        self.basis[unit] = 0
        self.inverse[unit] = 0
        k = len(active)
        if k:
            Q, R = np.linalg.qr(self.working.of(unit)[active].T)
            diagonal = np.abs(np.diag(R))
            R[np.diag_indices(len(R))] += np.where(diagonal < 1e-14, 1e-14, 0.0)
            self.basis[unit, :, : Q.shape[1]] = Q
            self.inverse[unit, :k, :k] = np.linalg.inv(R)[:k, :k]

    def bound(self, V: Array) -> Array:
        """Upper bounds on the lengths of the nearest points of the cones, shape (p,).

        The nearest point is the shortest of ``V + G'a`` over ``a >= 0``; tried are multiples of the last ``G'a``.

        Implements: docs/theory/first_order.md, Proposition 2.
        """
        square = (self.normal * self.normal).sum(axis=1)
        share = -(V * self.normal).sum(axis=1) / np.where(square > 0, square, 1.0)
        return np.asarray(np.linalg.norm(V + np.maximum(share, 0.0)[:, None] * self.normal, axis=1))

    def renumber(self, unit: int, keep: NDArray[np.bool_]) -> None:
        """Follow the working rows of a unit, of which only those to ``keep`` stay; active ones do."""
        self.active[unit] = (np.cumsum(keep) - 1)[self.active[unit]]

    def sparse_multipliers(self, unit: int) -> tuple[IntArray, Array]:
        """Data rows and nonnegative multipliers of the last projection of one unit."""
        active = self.active[unit]
        return self.working.index[unit][active], np.maximum(self.multipliers[unit, : len(active)], 0.0)
