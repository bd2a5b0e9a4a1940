"""The Newton system by the Woodbury identity: of the order of the rows where these are fewer than the variables."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dger

from convexnn.solvers._dense_system import REFINEMENTS, DenseSystem, Operator, cholesky_solver
from convexnn.solvers._small_matrices import triangular_inverse
from convexnn.solvers.cone_block import ConeBlock
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]

#: Relative residual at which a solution needs no refinement.
EXACT = 1e-10
#: Relative residual after refinement at which Woodbury is given up.
WOODBURY_ERROR = 1e-8


class WoodburySystem:
    """One Cholesky factorization of order ``n`` plus the rank of F: the rest is block diagonal over units.

    ``(B + A'A)^-1 = L (I - L'A' (I + A L L'A')^-1 A L) L'`` with ``B^-1 = L L'``; the rows of ``A`` are those of the
    loss, ``diag(sqrt(curvature)) (I - 1 centring') Phi``, and those of F.
    """

    def __init__(self, problem: ConeProblem, block: ConeBlock) -> None:
        self.problem, self.block = problem, block
        self._dense: DenseSystem | None = None
        self._gates = np.repeat(problem.D, problem.d1, axis=1).astype(float, copy=False)
        self.refinements = REFINEMENTS

    def factor(self, w: Array) -> None:
        """Factor at row weights ``w`` (n, p)."""
        self._w = w
        if self._dense is not None:
            self._dense.factor(w)
            return
        self._operator = Operator(self.problem, self.block, w)
        blocks = self._operator.blocks
        # equilibrated: multipliers over slacks spread a block over many orders of magnitude
        scale = 1 / np.sqrt(np.einsum("iaa->ia", blocks))
        equilibrated = blocks * scale[:, :, None] * scale[:, None, :] + 1e-15 * np.eye(self.problem.d1)
        inverse_roots = triangular_inverse(np.linalg.cholesky(equilibrated)) * scale[:, None, :]
        self._factors = inverse_roots.transpose(0, 2, 1)
        self._design = self._scaled_design()
        kernel = self._design @ self._design.T
        kernel[np.diag_indices(len(kernel))] += 1
        try:
            self._kernel = cholesky_solver(kernel)
        except np.linalg.LinAlgError:  # 1 is roundoff beside the design: no digits are left in this form
            self._use_dense()

    def _scaled_design(self) -> Array:
        """Rows of ``A L``, shape (rows, p (d + 1)), units first."""
        problem, n, shared = self.problem, self.problem.n, self._operator.shared
        design = np.empty((n + (0 if shared is None else len(shared)), problem.size))
        loss, root = design[:n], np.sqrt(problem.curvature)
        factors = self._factors.transpose(1, 0, 2).reshape(problem.d1, -1)
        np.matmul(root[:, None] * problem.X, factors, out=loss)
        loss *= self._gates
        # the free output bias takes off the weighted mean
        mean = np.sqrt(problem.centring) @ loss
        dger(-1.0, mean, np.sqrt(problem.centring), a=loss.T, overwrite_a=1)
        if shared is not None:
            rest = design[n:].reshape(shared.shape).transpose(1, 0, 2)
            np.matmul(shared.transpose(1, 0, 2), self._factors, out=rest)
        return design

    def _base_solve(self, right: Array) -> Array:
        v = (right.T[:, None, :] @ self._factors).ravel()
        v -= self._kernel(self._design @ v) @ self._design
        return (self._factors @ v.reshape(self.problem.p, -1, 1))[:, :, 0].T

    def solve(self, right: Array, extra: Array) -> tuple[Array, Array]:
        """Solve with a few steps of refinement; once that loses digits, change to the dense system for good."""
        if self._dense is not None:
            return self._dense.solve(right, extra)
        x, error = self._refined_solve(right)
        return (x, extra) if error < WOODBURY_ERROR else self._use_dense().solve(right, extra)

    def _use_dense(self) -> DenseSystem:
        self._dense = DenseSystem(self.problem, self.block)
        self._dense.refinements = REFINEMENTS
        self._dense.factor(self._w)
        return self._dense

    def _refined_solve(self, right: Array) -> tuple[Array, float]:
        """Solution and its relative residual in the true operator."""
        x, size = self._base_solve(right), float(np.abs(right).max())
        rest = self._rest(right, x)
        for _ in range(self.refinements):
            if np.abs(rest).max() < EXACT * size:
                return x, 0.0
            x = x + self._base_solve(rest)
            rest = self._rest(right, x)
        return x, float(np.abs(rest).max()) / max(size, np.finfo(float).tiny)

    def _rest(self, right: Array, x: Array) -> Array:
        return self._operator.rest(right, x)
