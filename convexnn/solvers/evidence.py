"""From an iterate of the interior point method to a feasible point and multipliers of the program.

What is believed is only what the program recomputes from these two: its objective and its lower bound.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from convexnn.program import Dual, Program, relative_gap
from convexnn.solvers.cone_problem import ConeProblem
from convexnn.structure import ConeStructure, FixedSpectral, GroupNorm, JointSpectral

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

#: Rows per coordinate of a unit that the dual polish may use.
POLISH_ROWS = 40
#: Shares of the trace tried by :func:`spread_variants`.
TRACE_SHARES = (3e-10, 3e-9, 3e-8, 1e-7, 3e-7)


def zero_dual(structure: ConeStructure) -> Dual:
    """Multipliers that belong to the zero network: its slopes, no rows, a multiple of the identity."""
    matrix = None
    if not isinstance(structure.coupling, GroupNorm):
        matrix = structure.coupling.weight * np.eye(structure.n_weights + structure.D.shape[1] + 1)
    zero = np.zeros((structure.D.shape[1], structure.X.shape[1]))
    return Dual(structure.slopes(zero), np.zeros(structure.D.shape), matrix)


@dataclass(frozen=True)
class Boundary:
    """Translates between the solver's layout and the program's: scale, transposition, units left out.

    Parameters
    ----------
    structure : ConeStructure
        The program as offered.
    unit : float
        Power of two by which targets were divided.
    keep : array of int
        Units that take part.
    centre : array, shape (p, d + 1)
        Strictly interior direction of every unit that takes part, zero for the others.
    """

    structure: ConeStructure
    unit: float
    keep: IntArray
    centre: Array

    def point(self, problem: ConeProblem, U: Array) -> Array:
        """Feasible point (p, d + 1) of an iterate (d + 1, kept units)."""
        z = np.zeros((self.structure.D.shape[1], len(U)))
        z[self.keep] = self.unit * problem.original(U).T
        return push_inside(self.structure, z, self.centre)

    def dual(self, problem: ConeProblem, U: Array, rows: Array, matrix: Array | None) -> Dual:
        """Multipliers of the program at an iterate."""
        residual = self.unit * problem.residual(U)
        all_rows = np.zeros(self.structure.D.shape)
        all_rows[:, self.keep] = self.unit * np.maximum(rows, 0.0)
        full = None if matrix is None else self._matrix(matrix)
        return self.with_left_out_rows(Dual(residual, all_rows, full))

    def with_left_out_rows(self, dual: Dual) -> Dual:
        """Give units left out the row multipliers that bring them nearest to stationarity at zero."""
        rows = dual.rows.copy()
        for i in np.setdiff1d(np.arange(len(self.centre)), self.keep):
            rows[:, i] = self._left_out_rows(int(i), dual.residual, dual.matrix)
        return Dual(dual.residual, rows, dual.matrix)

    def _matrix(self, S: Array) -> Array:
        """Scale the multiplier back (see the block layouts in convexnn.structure) and insert units left out."""
        d = self.structure.n_weights
        joint = isinstance(self.structure.coupling, JointSpectral)
        inner, outer = (self.unit, 1.0) if joint else (1.0, self.unit)
        index = np.concatenate([np.arange(d + 1), d + 1 + self.keep])
        scale = np.where(index < d, inner, outer)
        full = np.zeros((d + 1 + self.structure.D.shape[1],) * 2)
        full[np.ix_(index, index)] = S * scale[:, None] * scale
        return full

    def _left_out_rows(self, i: int, residual: Array, matrix: Array | None) -> Array:
        """Nonnegative multipliers with ``G_i' rows`` nearest to what stationarity at ``u_i = 0`` asks for."""
        wanted = self._wanted(i, residual, matrix)
        signed = self.structure.S[:, i][:, None] * self.structure.X
        return _nonnegative_fit(signed.T, wanted, np.zeros(len(signed)))

    def _wanted(self, i: int, residual: Array, matrix: Array | None) -> Array:
        """What stationarity at ``u_i = 0`` asks of ``G_i' rows``, shape (d + 1,)."""
        structure = self.structure
        centred = residual - structure.weight * residual.sum()
        wanted: Array = structure.X.T @ (centred * structure.D[:, i])
        if matrix is not None:
            d, scale = structure.n_weights, 1.0
            if isinstance(structure.coupling, FixedSpectral):
                scale = 1 / math.sqrt(structure.coupling.q[0])
            wanted[:d] -= scale * matrix[d, :d]
        return wanted


def push_inside(structure: ConeStructure, z: Array, centre: Array) -> Array:
    """Move units with a negative slack (roundoff) toward their centre until no slack is negative.

    Parameters
    ----------
    structure : ConeStructure
        The cones.
    z, centre : array, shape (p, d + 1)
        Point to repair; strictly interior directions.

    Returns
    -------
    array, shape (p, d + 1)
        A unit that needs more than about 1e-4 of its own length is left as it is.
    """
    if not structure.has_cones:
        return z
    length = np.linalg.norm(z, axis=1) / np.maximum(np.linalg.norm(centre, axis=1), 1e-300)
    for k in range(40):
        outside = structure.slack(z).min(axis=0) < 0
        if not outside.any():
            break
        z = z + np.where(outside, 1e-16 * 2.0**k * length, 0.0)[:, None] * centre
    return z


def polished_rows(problem: ConeProblem, U: Array, slack: Array, rows: Array, dual_gradient: Array) -> Array:
    """Refit the row multipliers of each unit by nonnegative least squares on its nearly tight rows.

    In a thin cone multipliers grow like one over its width and ``G' rows`` loses digits; a basic solution is
    small and sparse with the same image.

    Parameters
    ----------
    U, slack, rows : arrays
        The iterate.
    dual_gradient : array, shape (d + 1, p)
        Subgradient of the regularizer that its dual variable stands for.

    Returns
    -------
    array, shape (n, p)
    """
    wanted = problem.gradient(U) + dual_gradient
    polished = np.zeros_like(rows)
    count = min(POLISH_ROWS * problem.d1, problem.n)
    for i in np.flatnonzero(problem.is_row.any(axis=0)):
        order = slack[:, i] / np.maximum(rows[:, i], 1e-300)
        k = np.argsort(order)[:count]
        signed = problem.X[k] * problem.S[k, i][:, None]
        polished[k, i] = _nonnegative_fit(signed.T, wanted[:, i], rows[k, i])
    return polished


def spread_variants(plain: Dual, polished: Dual, d: int) -> list[Dual]:
    """Both duals with shares of the leading trace spread over the leading block of the matrix.

    At the optimum that block loses rank, and what roundoff leaves of stationarity outside its range costs much.
    """
    if plain.matrix is None:
        return []
    variants = []
    for share in TRACE_SHARES:
        matrix = plain.matrix.copy()
        matrix[:d, :d] += share * np.trace(matrix[:d, :d]) * np.eye(d)
        variants += [Dual(plain.residual, rows, matrix) for rows in (plain.rows, polished.rows)]
    return variants


def _nonnegative_fit(A: Array, b: Array, otherwise: Array) -> Array:
    """NNLS, or the given multipliers when it does not converge."""
    try:
        return np.asarray(nnls(A, b)[0])
    except RuntimeError:
        return otherwise


@dataclass
class Incumbent:
    """Best point and best multipliers so far, judged by the program's own arithmetic."""

    program: Program
    z: Array
    upper: float
    dual: Dual | None = None
    lower: float = -math.inf

    def offer_point(self, z: Array, dual: Dual | None) -> None:
        """Take the point if its objective is lower."""
        upper = self.program.objective(z, dual)
        if upper < self.upper:
            self.z, self.upper = z, upper

    def offer_dual(self, dual: Dual) -> None:
        """Take the multipliers if their bound is higher; they may tighten the objective of the point."""
        lower = self.program.lower_bound(dual)
        if lower > self.lower:
            self.dual, self.lower = dual, lower

    @property
    def gap(self) -> float:
        """Relative gap of the pair as it will be published."""
        return relative_gap(self.upper, self.lower, self.program.scale)
