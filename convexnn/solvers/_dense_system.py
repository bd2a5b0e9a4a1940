"""The Newton matrix as the sum of its parts, and as one dense Cholesky factorization."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk
from scipy.linalg.lapack import dpotrf, dpotrs

from convexnn.solvers.cone_block import ConeBlock
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]

#: Steps of refinement where digits were lost.
REFINEMENTS = 3
#: Rows of a triangle copied at a time.
STRIP = 64


class Operator:
    """The Newton matrix as a sum of its parts, for residuals."""

    def __init__(self, problem: ConeProblem, block: ConeBlock, w: Array) -> None:
        self.problem = problem
        self.blocks = problem.gram(w)
        self.blocks += block.unit_hessian()
        self.blocks += 2 * problem.ridge_block
        self.shared = block.low_rank()

    def rest(self, right: Array, x: Array) -> Array:
        """``right`` minus the matrix times ``x``, both (d + 1, p)."""
        units = x.T
        image = (self.blocks @ units[:, :, None])[:, :, 0]
        if self.shared is not None:
            flat = self.shared.reshape(len(self.shared), -1)
            image += ((flat @ units.ravel()) @ flat).reshape(units.shape)
        return right - self.problem.hessian_times(x) - image.T


class DenseSystem:
    """One Cholesky factorization of order ``p (d + 1)``.

    One matrix holds both: the loss Hessian above the diagonal, the factor on and below it.
    """

    def __init__(self, problem: ConeProblem, block: ConeBlock) -> None:
        self.problem, self.block = problem, block
        self.refinements = 0
        self._H = np.zeros((problem.size, problem.size))
        self._set_loss()

    def _set_loss(self) -> None:
        """Loss Hessian into the upper triangle, its diagonal kept apart; index ``coordinate * p + unit``."""
        self.problem.add_hessian(self._H)
        self._diagonal = np.diag(self._H).copy()

    def factor(self, w: Array) -> None:
        """Factor at row weights ``w`` (n, p), with the smallest diagonal shift that works."""
        if not self.problem.is_squared:
            self._clear_upper()
            self._set_loss()
        self._operator = Operator(self.problem, self.block, w)
        for jitter in (1e-14, 1e-12, 1e-10, 1e-8):
            self._assemble()
            np.einsum("ii->i", self._H)[:] *= 1 + jitter
            # the lower triangle of a C-ordered matrix is the upper one of its Fortran-ordered transpose
            self._factor, info = dpotrf(self._H.T, lower=0, overwrite_a=1, clean=0)
            if info == 0:
                return
        raise np.linalg.LinAlgError("the Newton matrix is numerically singular")

    def _clear_upper(self) -> None:
        for first in range(0, len(self._H), STRIP):
            self._H[first : first + STRIP, first:] = 0

    def _assemble(self) -> None:
        H, p, d1 = self._H, self.problem.p, self.problem.d1
        for first in range(0, len(H), STRIP):
            last = min(first + STRIP, len(H))
            H[first:last, :first] = H[:first, first:last].T
            corner = np.triu(H[first:last, first:last], 1)
            H[first:last, first:last] = corner + corner.T
        np.einsum("ii->i", H)[:] = self._diagonal
        units = np.arange(p)
        for a in range(d1):
            for b in range(a + 1):
                H[a * p + units, b * p + units] += self._operator.blocks[:, a, b]
        shared = self._operator.shared
        if shared is not None:
            flat = np.ascontiguousarray(shared.transpose(0, 2, 1)).reshape(len(shared), -1)
            dsyrk(1.0, flat.T, beta=1.0, c=H.T, lower=0, overwrite_c=1)

    def solve(self, right: Array, extra: Array) -> tuple[Array, Array]:
        """Solve for a right-hand side in ``U`` (d + 1, p), refined on demand."""
        x = self._base_solve(right)
        for _ in range(self.refinements):
            x = x + self._base_solve(self._rest(right, x))
        return x, extra

    def _base_solve(self, right: Array) -> Array:
        return cast(Array, dpotrs(self._factor, right.ravel(), lower=0)[0].reshape(right.shape))

    def _rest(self, right: Array, x: Array) -> Array:
        return self._operator.rest(right, x)


def cholesky_solver(matrix: Array) -> Callable[[Array], Array]:
    factor, info = dpotrf(matrix, lower=1, overwrite_a=1)
    if info != 0:
        raise np.linalg.LinAlgError("the kernel of the Newton matrix is numerically singular")

    def solve(right: Array) -> Array:
        return cast(Array, dpotrs(factor, right, lower=1)[0])

    return solve
