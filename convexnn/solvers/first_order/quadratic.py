"""The squared loss as a quadratic of the sums of units that share a pattern, and the linear system of a step.

With ``t_j = sum of the units of pattern j``, flattened, the loss is ``1/2 t'H t - c't + variance``. Up to
``LARGEST_DENSE`` variables H is formed in one pass over the rows, and from then on nothing depends on their number;
above, every product with H is a pass, and systems are solved by conjugate gradients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from convexnn.solvers.first_order.stream import RowStream

Array = NDArray[np.float64]

#: Variables of distinct patterns up to which the Hessian is formed.
LARGEST_DENSE = 6000
CG_STEPS = 60
#: Share of the residual at the last solution that is left: errors shrink as the steps do.
CG_ACCURACY = 0.01


class Quadratic:
    """Loss of points ``U`` (p, d + 1) in the coordinates of a stream.

    Parameters
    ----------
    stream : RowStream
    ridge : float
        Weight of the squared biases.
    dense : bool or None
        Whether to form the Hessian; None decides by size.
    """

    def __init__(self, stream: RowStream, ridge: float, *, dense: bool | None = None) -> None:
        self.stream, self.ridge = stream, ridge
        self.shape = (stream.groups, stream.d1)
        self.sums = (stream.group == np.arange(stream.groups)[:, None]).astype(float)
        self.mean, self.linear = stream.moments()
        self.is_dense = stream.groups * stream.d1 <= LARGEST_DENSE if dense is None else dense
        self.H = stream.hessian(self.mean) if self.is_dense else np.zeros((0, 0))
        self.blocks = self._diagonal_blocks()

    def _diagonal_blocks(self) -> Array:
        if not self.is_dense:
            return self.stream.diagonal_blocks(self.mean)
        G, d1 = self.shape
        j = np.arange(G)
        blocks: Array = self.H.reshape(G, d1, G, d1)[j, :, j, :]
        return blocks

    def hessian_times(self, T: Array) -> Array:
        """H times group sums ``T`` (groups, d + 1)."""
        if self.is_dense:
            image: Array = (self.H @ T.ravel()).reshape(self.shape)
            return image
        return self.stream.hessian_times(T, self.mean)

    def gradient(self, U: Array) -> Array:
        """Gradient of the loss without the ridge, shape (p, d + 1)."""
        gradient: Array = (self.hessian_times(self.sums @ U) - self.linear)[self.stream.group]
        return gradient

    def loss(self, U: Array) -> float:
        """Loss without the ridge and without the variance inside repeated rows."""
        T = self.sums @ U
        value = 0.5 * np.vdot(T, self.hessian_times(T)) - np.vdot(self.linear, T)
        return float(value) + self.stream.variance

    def system(self, shift: Array, total: Array) -> System:
        """Solver of ``(H + 2 ridge + diag(shift) + (1 1') x diag(total)) U = right`` over units.

        Parameters
        ----------
        shift : array, shape (p, d + 1)
            Positive.
        total : array, shape (d + 1,)
            Weight of the squared sum of all units, coordinate by coordinate.
        """
        return System(self, shift, total)


class System:
    """Positive definite system of one step, reduced to the sums of units that share a pattern.

    Implements: docs/theory/first_order.md, Proposition 3.
    """

    def __init__(self, quadratic: Quadratic, shift: Array, total: Array) -> None:
        self.quadratic, self.total = quadratic, total
        self.shift = shift.copy()
        self.shift[:, -1] += 2 * quadratic.ridge
        self.spread = quadratic.sums @ (1 / self.shift)  # of the sum, when every unit answers on its own
        self._guess = np.zeros(quadratic.shape)
        if quadratic.is_dense:
            self._factor: Any = cho_factor(self._matrix(), lower=True, overwrite_a=True, check_finite=False)
        else:
            diagonal = np.arange(quadratic.shape[1])
            blocks = quadratic.blocks.copy()
            blocks[:, diagonal, diagonal] += 1 / self.spread + total
            self._factor = np.linalg.inv(blocks)

    def _matrix(self) -> Array:
        quadratic = self.quadratic
        G, d1 = quadratic.shape
        matrix = quadratic.H.copy()
        matrix[np.diag_indices(len(matrix))] += 1 / self.spread.ravel()
        cube = matrix.reshape(G, d1, G, d1)
        for a in np.flatnonzero(self.total):
            cube[:, a, :, a] += self.total[a]
        return matrix

    def _times(self, T: Array) -> Array:
        """H and the weight of the sum, times ``T``."""
        return self.quadratic.hessian_times(T) + self.total * T.sum(axis=0)

    def solve(self, right: Array) -> Array:
        """Minimizer ``U`` of ``loss + 1/2 <U, (shift + total) U> - <right, U>``, shape (p, d + 1)."""
        quadratic = self.quadratic
        right = right + quadratic.linear[quadratic.stream.group]
        answer = (quadratic.sums @ (right / self.shift)) / self.spread
        if quadratic.is_dense:
            T = cho_solve(self._factor, answer.ravel(), check_finite=False).reshape(quadratic.shape)
        else:
            T = self._conjugate_gradients(answer)
        moved: Array = (right - self._times(T)[quadratic.stream.group]) / self.shift
        return moved

    def _conjugate_gradients(self, right: Array) -> Array:
        """Solve from the last solution, preconditioned by the blocks of single patterns."""
        T = self._guess
        rest = right - self._times(T) - T / self.spread
        direction, before = np.zeros_like(T), 1.0
        target = max(CG_ACCURACY * float(np.linalg.norm(rest)), 1e-14 * float(np.linalg.norm(right)))
        for _ in range(CG_STEPS):
            if np.linalg.norm(rest) <= target:
                break
            scaled = np.einsum("jab,jb->ja", self._factor, rest)
            square = float(np.vdot(rest, scaled))
            direction = scaled + (square / before) * direction
            image = self._times(direction) + direction / self.spread
            length = square / float(np.vdot(direction, image))
            T, rest, before = T + length * direction, rest - length * image, square
        self._guess = T
        return T
