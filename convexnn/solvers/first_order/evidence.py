"""From an iterate of the splitting to a feasible point and multipliers of the program.

The point is projected until a pass finds no violated row, then moved off the rows it touches by a few units of
roundoff. Multipliers are refitted, unit by unit, on the working rows: for a given residual the best ones solve a small
nonnegative least-squares problem, and the remainder of that problem is the direction in which further rows are looked
for.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from convexnn.program import Dual
from convexnn.solvers.first_order.cones import Projector, WorkingRows
from convexnn.solvers.first_order.quadratic import Quadratic
from convexnn.solvers.first_order.splitting import Splitting
from convexnn.structure import ConeStructure, FixedSpectral, JointSpectral

Array = NDArray[np.float64]

#: Passes over the data that a point is given to become feasible.
PASSES = 30
#: Passes that multipliers are given to find their rows.
DUAL_PASSES = 4
#: Slack over length that a finished point has at least, where its cone has an interior.
MARGIN = 2e-15
#: Attempts to move units off the rows they touch, each twice as far as the last.
PUSHES = 8
#: Slack over length below which a point touches a row and is moved away from it.
TOUCHING = 1e-13


@dataclass(frozen=True, eq=False)
class Coordinates:
    """Translates between the solver's coordinates and the program's.

    Parameters
    ----------
    structure : ConeStructure
    scale : array, shape (d + 1,)
        Features are divided by it, weights multiplied.
    unit : float
        Targets are divided by it.
    """

    structure: ConeStructure
    scale: Array
    unit: float

    def original(self, U: Array) -> Array:
        """Point of the program."""
        return self.unit * U / self.scale

    def scaled(self, z: Array) -> Array:
        """Point of the solver."""
        return z * self.scale / self.unit

    def matrix(self, S: Array) -> Array:
        """Multiplier of the spectral block, scaled back."""
        d = self.structure.n_weights
        joint = isinstance(self.structure.coupling, JointSpectral)
        inner, outer = (self.unit, 1.0) if joint else (1.0, self.unit)
        size = np.where(np.arange(len(S)) < d, inner, outer)
        return np.asarray(S * size[:, None] * size)


def feasible_point(working: WorkingRows, V: Array, passes: int = PASSES) -> tuple[Array, NDArray[np.bool_]]:
    """Move a point strictly into the cones, or onto zero.

    Parameters
    ----------
    working : WorkingRows
        Receives the rows that are found.
    V : array, shape (p, d + 1)
    passes : int
        Most passes over the data for the projection.

    Returns
    -------
    point : array, shape (p, d + 1)
        No slack over length is negative.
    empty : array of bool, shape (p,)
        Units set to zero because no strictly interior point of their tight rows was found.
    """
    empty = np.zeros(len(V), dtype=bool)
    if not working.stream.sign.any():
        return V, empty
    project = Projector(working, lasting=False)
    for _ in range(passes):
        V = project(V)
        if not working.add_violated(V)[0]:
            break
    for push in range(PUSHES):
        length = np.linalg.norm(V, axis=1)
        units = np.flatnonzero(length > 0)
        if not units.size:
            break
        smallest = working.stream.slacks(V, units)[0].min(axis=0)
        short = smallest < (0.5 if push < PUSHES - 1 else 0.1) * MARGIN * length[units]
        if not short.any():
            break
        for unit, slack in zip(units[short], smallest[short], strict=True):
            inner = None if push == PUSHES - 1 else _inner_direction(working.of(int(unit)), V[unit])
            size = 2.0 ** (push + 1) * max(MARGIN * length[unit], -slack)
            empty[unit] = inner is None or size * np.linalg.norm(inner) > 0.1 * length[unit]
            V[unit] = 0.0 if inner is None or empty[unit] else V[unit] + size * inner
        working.add_violated(V, tol=0.0)
    return V, empty


def _inner_direction(rows: Array, v: Array) -> Array | None:
    """Shortest direction whose slack is at least one on the rows that v nearly touches; None when there is none."""
    tight = rows[rows @ v < TOUCHING * np.linalg.norm(v)]
    if not len(tight):
        return np.zeros_like(v)
    target = np.append(np.zeros(len(v)), 1.0)
    system = np.vstack([tight.T, np.ones(len(tight))])
    try:
        found = nnls(system, target, maxiter=20 * sum(system.shape))[0]
    except RuntimeError:
        return None
    rest = system @ found - target  # Lawson & Hanson, ch. 23
    if abs(rest[-1]) < 1e-13:
        return None
    inner: Array = -rest[:-1] / rest[-1]
    return inner if (tight @ inner).min() > 0.5 else None


class Multipliers:
    """Builds multipliers of the program from points of the solver.

    Parameters
    ----------
    coordinates : Coordinates
    quadratic : Quadratic
    working : WorkingRows
    weight : float
        Weight of the group norm in the solver's units; 0 with a spectral regularizer.
    """

    def __init__(self, coordinates: Coordinates, quadratic: Quadratic, working: WorkingRows, weight: float) -> None:
        self.coordinates, self.quadratic, self.working, self.weight = coordinates, quadratic, working, weight
        self.project = Projector(working)

    def norm_bound(self, U: Array) -> float:
        """Lower bound of a group-norm program from the residual at ``U``, without a pass over the data.

        In the solver's units, up to the variance inside repeated rows, and up to roundoff: it decides when to look.
        """
        gradient = self.quadratic.gradient(U)
        longest = float(np.linalg.norm(self.project(-gradient), axis=1).max())
        loss = self.quadratic.loss(U)
        linear = 2 * self.quadratic.stream.variance - float(np.vdot(self.quadratic.linear, self.quadratic.sums @ U))
        if not (loss > 0 and linear > 0):
            return 0.0
        theta = min(1.0, linear / (2 * loss), self.weight / longest if longest > 0 else math.inf)
        return theta * linear - theta * theta * loss

    def norm_dual(self, U: Array) -> Dual:
        """Multipliers of a group-norm program from the residual at ``U``."""
        descent = -self.quadratic.gradient(U)
        for _ in range(DUAL_PASSES):
            rest = self.project(descent)
            long = np.linalg.norm(rest, axis=1) > self.weight
            if not (long.any() and self.working.add_violated(np.where(long[:, None], rest, 0.0), 1e-9)[0]):
                break
        self.project(descent)
        pairs = [self.project.sparse_multipliers(i) for i in range(len(U))]
        return self._dual(U, pairs, None)

    def spectral_dual(self, U: Array, splitting: Splitting) -> Dual:
        """Multipliers of a Lipschitz program from the residual at ``U`` and the spectral multiplier."""
        assert splitting.split is not None
        matrix = splitting.split.matrix(splitting.split_penalty)
        wanted, metrics = self._wanted(U, matrix), self._metrics(U, matrix)
        pairs: list[tuple[NDArray[np.intp], Array]] = []
        for _ in range(DUAL_PASSES):
            rest = np.zeros_like(U)
            pairs = []
            for i, metric in enumerate(metrics):
                rows = self.working.of(i)
                found = _fit(metric @ rows.T, metric @ wanted[i])
                rest[i] = metric.T @ (metric @ (found @ rows - wanted[i]))
                pairs.append((self.working.index[i][found > 0], found[found > 0]))
            if not self.working.add_violated(rest, 1e-7)[0]:
                break
        return self._dual(U, pairs, matrix)

    def _wanted(self, U: Array, matrix: Array) -> Array:
        """What stationarity asks of ``G'rows`` of every unit: the loss gradient less the first multiplier."""
        d, structure = len(self.coordinates.scale) - 1, self.coordinates.structure
        wanted = self.quadratic.gradient(U)
        first = -matrix[d, :d]
        if isinstance(structure.coupling, FixedSpectral):
            first = first / math.sqrt(structure.coupling.q[0])
        wanted[:, :d] += first / self.coordinates.scale[:d]
        return wanted

    def _metrics(self, U: Array, matrix: Array) -> list[Array]:
        """Matrices M_i: unit i costs ``|M_i (G'rows - wanted)|^2`` in the conjugate and in the ridge of the bias."""
        structure, scale = self.coordinates.structure, self.coordinates.scale
        d = len(scale) - 1
        values, vectors = np.linalg.eigh(matrix[:d, :d])
        values = np.maximum(values, 0.0)
        total = float(values.sum())
        values = values / total + 1e-9 if total > 0 else np.ones(d)
        root = np.zeros((d + 1, d + 1))
        root[:d, :d] = math.sqrt(values.sum() / structure.coupling.weight) * (vectors / np.sqrt(values)).T * scale[:d]
        root[d, d] = 0.5 / math.sqrt(max(structure.ridge, 1e-30))
        if isinstance(structure.coupling, FixedSpectral):
            q = structure.coupling.q[1:]
        else:
            W = U[:, :d] / scale[:d]
            q = np.sqrt(np.maximum(np.einsum("ia,ab,ib->i", W, matrix[:d, :d], W), 0.0))
            q = q / max(float(q.sum()), np.finfo(float).tiny)
        metrics = []
        for share in np.sqrt(np.maximum(q, 1e-6)):
            metric = root.copy()
            metric[:d] *= share
            metrics.append(metric)
        return metrics

    def _dual(self, U: Array, pairs: list[tuple[NDArray[np.intp], Array]], matrix: Array | None) -> Dual:
        stream, unit = self.quadratic.stream, self.coordinates.unit
        rows = np.zeros((stream.n, stream.p))
        for i, (index, values) in enumerate(pairs):
            rows[index, i] = unit * values / stream.row_lengths(index)
        residual = unit * stream.residual(self.quadratic.sums @ U)
        return Dual(residual, rows, None if matrix is None else self.coordinates.matrix(matrix))


def _fit(A: Array, b: Array) -> Array:
    """Nonnegative least squares with columns of unit length; zero where the active-set method does not end."""
    if not A.shape[1]:
        return np.zeros(0)
    length = np.linalg.norm(A, axis=0)
    length = np.where(length > 0, length, 1.0)
    try:
        found: Array = nnls(A / length, b, maxiter=20 * sum(A.shape))[0] / length
    except RuntimeError:
        return np.zeros(A.shape[1])
    return found
