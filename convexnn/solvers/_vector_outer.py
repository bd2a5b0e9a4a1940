"""The outer step in the layout of the interior point method: rows ``v_i`` as columns, no cones."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.program import Dual
from convexnn.solvers._norm_block import NormBlock
from convexnn.solvers._vector_problem import VectorBoundary, VectorConeProblem
from convexnn.solvers.cone_problem import LONGEST_START, ConeProblem
from convexnn.vector_structure import OuterStructure

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


class OuterProblem(VectorConeProblem):
    """Loss and ridge of the outer step; see ``VectorConeProblem`` for the parameters."""

    def __init__(self, structure: OuterStructure, unit: float, keep: IntArray) -> None:
        super().__init__(structure, unit, keep)
        self.scale = np.ones(self.d1)
        self.penalties = structure.penalties[keep]
        centred = self.D - self.weight @ self.D
        self._design = np.sqrt(self.weight)[:, None] * centred

    def original(self, U: Array) -> Array:
        """The same point: outer weights are not scaled."""
        return U

    def shifted(self, U: Array) -> Array:
        """The same point: outer weights are not scaled."""
        return U

    def original_adjoint(self, g: Array) -> Array:
        """The same gradient: outer weights are not scaled."""
        return g

    def predict(self, U: Array) -> Array:
        """Centred predictions, shape (n, outputs)."""
        return self.centre_rows(self.D @ U.T)

    def predict_adjoint(self, v: Array) -> Array:
        """Adjoint of :meth:`predict`, shape (outputs, p)."""
        return (v - self.column_weight * v.sum(axis=0)).T @ self.D

    def loss(self, U: Array) -> float:
        """Weighted squared error plus the ridge plus the constant."""
        return super().loss(U) + float(self.penalties @ (U * U).sum(axis=0))

    def longest_start(self) -> float:
        """Longest initial unit: many times the length at which one unit alone predicts values like the targets."""
        activity = float(self.weight @ (self.D * self.D).max(axis=1))
        squared = float(np.vdot(self.y, self.column_weight * self.y)) / max(activity, np.finfo(float).tiny)
        return float(LONGEST_START * np.sqrt(squared))

    def gradient(self, U: Array) -> Array:
        """Gradient of :meth:`loss`, shape (outputs, p)."""
        return self.predict_adjoint(self.residual(U)) + 2 * self.penalties * U

    def hessian_times(self, V: Array) -> Array:
        """Hessian of :meth:`loss` times ``V``."""
        return self.predict_adjoint(2 * self.column_weight * self.predict(V)) + 2 * self.penalties * V

    def add_hessian(self, H: Array) -> None:
        """Upper triangle of the Hessian of :meth:`loss`, index ``output * p + unit``: one block for every output."""
        block = 2 * self._design.T @ self._design + 2 * np.diag(self.penalties)
        H += np.triu(np.kron(np.eye(self.d1), block))


class OuterNormBlock(NormBlock):
    """Group norms of the outer weights; of a rank that rules out the Woodbury systems, which read cone rows."""

    def __init__(self, problem: ConeProblem, lam: float) -> None:
        super().__init__(problem, lam)
        self.rank = problem.size


class OuterBoundary(VectorBoundary):
    """Evidence of the outer step: the rows of a dual belong to the ridge."""

    def point(self, problem: ConeProblem, U: Array) -> Array:  # noqa: ARG002
        """Outer weights (p, outputs) of an iterate."""
        z = np.zeros((self.structure.D.shape[1], len(U)))
        z[self.keep] = self.unit * U.T
        return z

    def dual(self, problem: ConeProblem, U: Array, rows: Array, matrix: Array | None) -> Dual:  # noqa: ARG002
        """Multipliers of the program at an iterate."""
        assert isinstance(self.structure, OuterStructure)
        ridge = 2 * self.structure.penalties[:, None] * self.point(problem, U)
        full = None if matrix is None else self._matrix(matrix)
        return Dual(self.unit * problem.residual(U), ridge, full)
