"""Linear systems of programs with several outputs: a bordered dense one, and Woodbury with grouped patterns.

Both have the methods of :class:`~convexnn.solvers.newton_system.NewtonSystem`.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.lapack import dpotrf, dpotrs

from convexnn.solvers._dense_system import REFINEMENTS, DenseSystem, cholesky_solver
from convexnn.solvers._woodbury import WOODBURY_ERROR
from convexnn.solvers.cone_block import BorderedBlock, ConeBlock
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]


def loss_hessian(problem: ConeProblem) -> Array:
    """Hessian of loss and ridge as a full matrix, index ``coordinate * p + unit``."""
    H = np.zeros((problem.size, problem.size))
    problem.add_hessian(H)
    H += np.triu(H, 1).T
    units = np.arange(problem.p)
    H.reshape(problem.d1, problem.p, problem.d1, problem.p)[:, units, :, units] += 2 * problem.ridge_block
    return H


class BorderedSystem:
    """One Cholesky factorization of order ``p (d + 1)`` plus the block's extra variables."""

    def __init__(self, problem: ConeProblem, block: BorderedBlock) -> None:
        self.problem, self.block = problem, block
        self.refinements = 0
        self.loss_hessian = loss_hessian(problem)
        order = problem.size + block.n_extra
        self._H = np.empty((order, order))
        self._factor = self._H

    def factor(self, w: Array) -> None:
        """Factor at row weights ``w`` (n, p), with the smallest diagonal shift that works."""
        self._w = w
        if not self.problem.is_squared:  # other losses bend
            self.loss_hessian = loss_hessian(self.problem)
        gram = self.problem.gram(w)
        for jitter in (1e-14, 1e-12, 1e-10, 1e-8):
            self._assemble(gram)
            diagonal = np.arange(len(self._H))
            self._H[diagonal, diagonal] *= 1 + jitter
            # the lower triangle of a C-ordered matrix is the upper one of its Fortran-ordered transpose
            self._factor, info = dpotrf(self._H.T, lower=0, overwrite_a=1, clean=0)
            if info == 0:
                return
        raise np.linalg.LinAlgError("the Newton matrix is numerically singular")

    def _assemble(self, gram: Array) -> None:
        N, d1, p = self.problem.size, self.problem.d1, self.problem.p
        H = self._H
        H[:N, :N] = self.loss_hessian
        row, column = H.strides
        blocks = np.lib.stride_tricks.as_strided(H, (d1, p, d1, p), (p * row, row, p * column, column))
        np.einsum("aibi->iab", blocks)[:] += gram
        self.block.add_hessian(H, blocks)

    def solve(self, right: Array, extra: Array) -> tuple[Array, Array]:
        """Solve for a right-hand side in ``U`` (d + 1, p) and the extra variables, refined on demand."""
        x, y = self._base_solve(right, extra)
        for _ in range(self.refinements):
            rest, rest_extra = self._rest(right, extra, x, y)
            dx, dy = self._base_solve(rest, rest_extra)
            x, y = x + dx, y + dy
        return x, y

    def _base_solve(self, right: Array, extra: Array) -> tuple[Array, Array]:
        x, _ = dpotrs(self._factor, np.concatenate([right.ravel(), extra]), lower=0)
        return x[: self.problem.size].reshape(right.shape), x[self.problem.size :]

    def _rest(self, right: Array, extra: Array, x: Array, y: Array) -> tuple[Array, Array]:
        problem = self.problem
        g, g_extra = self.block.hessian_times(x, y)
        image = problem.hessian_times(x) + 2 * problem.ridge_block @ x
        image += problem.row_adjoint(self._w * problem.row_change(x)) + g
        return right - image, extra - g_extra


class GroupedSystem:
    """One Cholesky factorization of order ``n``: all but the loss is block diagonal over units.

    ``(B + A'A)^-1 = B^-1 - B^-1 A' (I + A B^-1 A')^-1 A B^-1`` with ``A = diag(sqrt(2 weight)) (I - 1 weight') Phi``;
    units with the same pattern share their columns of ``A``, so their inverse blocks are added up first.
    """

    def __init__(self, problem: ConeProblem, block: ConeBlock) -> None:
        self.problem, self.block = problem, block
        pairs = np.vstack([problem.D, _outer_products(problem.directions)])  # directions +v and -v are one
        _, first, self._group = np.unique(pairs, axis=1, return_index=True, return_inverse=True)
        self._group = self._group.ravel()
        patterns, self._directions = problem.D[:, first], problem.directions[first]
        self._patterns = patterns
        self._dense: DenseSystem | None = None
        self.refinements = REFINEMENTS

    def factor(self, w: Array) -> None:
        """Factor at row weights ``w`` (n, p)."""
        self._w = w
        if self._dense is not None:
            self._dense.factor(w)
            return
        problem = self.problem
        self._root = np.sqrt(problem.curvature)
        self._gates = self._root[:, None] * self._patterns
        diagonal = np.arange(problem.d1)
        self._blocks = problem.gram(w) + self.block.unit_hessian() + 2 * problem.ridge_block
        # equilibrated: multipliers over slacks spread a block over many orders of magnitude
        scale = np.sqrt(self._blocks[:, diagonal, diagonal])
        scales = scale[:, :, None] * scale[:, None, :]
        inverse = np.linalg.inv(self._blocks / scales + 1e-15 * np.eye(problem.d1)) / scales
        self._inverse = (inverse + inverse.transpose(0, 2, 1)) / 2
        self._kernel = cholesky_solver(self._kernel_matrix())

    def _kernel_matrix(self) -> Array:
        problem = self.problem
        d1, groups = problem.d1, self._gates.shape[1]
        summed = np.zeros((groups, d1, d1))
        np.add.at(summed, self._group, self._inverse)
        values, vectors = np.linalg.eigh(summed)
        factors = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
        image = (problem.X @ factors.transpose(1, 0, 2).reshape(d1, -1)).reshape(problem.n, groups, d1)
        design = (image * self._gates[:, :, None]).reshape(problem.n, -1)
        # the free output bias: rows are projected orthogonally to sqrt(weight)
        direction = np.sqrt(problem.centring)
        design -= np.outer(direction, direction @ design)
        outputs = self._directions.shape[1]
        kernel: Array = np.zeros((outputs, problem.n, outputs, problem.n))
        for a, b in zip(*np.tril_indices(outputs), strict=True):
            products = self._directions[:, a] * self._directions[:, b]
            used = np.repeat(products != 0, d1)
            kernel[a, :, b] = (design[:, used] * np.repeat(products, d1)[used]) @ design[:, used].T
        kernel = kernel.reshape(outputs * problem.n, -1)  # lower triangle only
        kernel[np.diag_indices(len(kernel))] += 1
        return kernel

    def _base_solve(self, right: Array) -> Array:
        z = np.einsum("iab,bi->ai", self._inverse, right)
        right = self._root * self.problem.predict(z).T  # one row an output
        v = self._kernel(right.ravel()).reshape(right.shape)
        image = self.problem.predict_adjoint((self._root * v).T)
        return cast(Array, z - np.einsum("iab,bi->ai", self._inverse, image))

    def solve(self, right: Array, extra: Array) -> tuple[Array, Array]:
        """Solve with a few steps of refinement; once that loses digits, change to the dense system for good."""
        if self._dense is None:
            x, error = self._refined_solve(right)
            if error < WOODBURY_ERROR:
                return x, extra
            self._dense = DenseSystem(self.problem, self.block)
            self._dense.refinements = REFINEMENTS
            self._dense.factor(self._w)
        return self._dense.solve(right, extra)

    def _refined_solve(self, right: Array) -> tuple[Array, float]:
        """Solution and its relative residual in the true operator."""
        x, size = self._base_solve(right), float(np.abs(right).max())
        for _ in range(self.refinements):
            rest = self._rest(right, x)
            if np.abs(rest).max() < 1e-12 * size:
                return x, 0.0
            x = x + self._base_solve(rest)
        return x, float(np.abs(self._rest(right, x)).max()) / size

    def _rest(self, right: Array, x: Array) -> Array:
        return cast(Array, right - self.problem.hessian_times(x) - np.einsum("iab,bi->ai", self._blocks, x))


def _outer_products(V: Array) -> Array:
    """``v_i v_i'`` as columns, shape (outputs^2, p)."""
    products: Array = (V[:, :, None] * V[:, None, :]).reshape(len(V), -1).T
    return products
