"""Programs with several outputs in the layout of the interior point method; see ``ConeProblem``.

Directions are unit vectors, so the loss Hessian is that of one output times the Gram matrix of the directions, unit by
unit, and rows, cones and Gram matrices of the units are those of one output.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.program import Dual
from convexnn.solvers.cone_problem import LONGEST_START, ConeProblem
from convexnn.solvers.evidence import Boundary
from convexnn.vector_structure import OuterStructure, VectorSpectral, VectorStructure

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


def vector_unit(structure: VectorStructure) -> float:
    """Power of two nearest the root of the summed variance of the targets; 0 when they are constant up to roundoff.

    Targets -1 / +1 have the unit 1.
    """
    if structure.sample_loss.binary:
        return 1.0 if np.ptp(structure.y, axis=0).any() else 0.0
    variance = float((structure.weight @ structure.y_centred**2).sum())
    magnitude = float(np.abs(structure.y).max(initial=0.0))
    if variance <= (1e-14 * magnitude) ** 2:
        return 0.0
    return float(2.0 ** np.round(0.5 * np.log2(variance)))


class VectorConeProblem(ConeProblem):
    """Loss, cone rows and block Gram matrices of a program with several outputs.

    Parameters
    ----------
    structure : VectorStructure
        The program as offered.
    unit : float
        Targets are divided by it; objectives by its square.
    keep : array of int
        Indices of the units that take part.
    """

    def __init__(self, structure: VectorStructure, unit: float, keep: IntArray) -> None:
        super().__init__(structure.twin(), unit, keep)
        self.y = structure.y_centred / unit
        self.constant = structure.constant / unit**2
        self.directions = np.ascontiguousarray(structure.directions[keep])
        self.column_weight = self.weight[:, None]

    def predict(self, U: Array) -> Array:
        """Centred predictions, shape (n, outputs)."""
        return self.centre_rows((self.D * (self.X @ U)) @ self.directions)

    def predict_adjoint(self, v: Array) -> Array:
        """Adjoint of :meth:`predict`, shape (d + 1, p)."""
        centred = v - self.column_weight * v.sum(axis=0)
        return self.X.T @ ((centred @ self.directions.T) * self.D)

    def residual(self, U: Array) -> Array:
        """Gradient of the loss in the predictions, shape (n, outputs)."""
        gradient: Array = 2 * self.column_weight * (self.predict(U) - self.y)
        return gradient

    def loss(self, U: Array) -> float:
        """Weighted squared error, summed over outputs, plus the bias ridge plus the constant."""
        error = self.predict(U) - self.y
        squared = float(np.vdot(error, self.column_weight * error))
        return squared + float(np.vdot(U, self.ridge_block @ U)) + self.constant

    def loss_at_zero(self) -> float:
        """Loss of the zero network."""
        return float(np.vdot(self.y, self.column_weight * self.y)) + self.constant

    def longest_start(self) -> float:
        """Longest initial unit: many times the length at which one unit alone predicts values like the targets."""
        squared = np.vdot(self.y, self.column_weight * self.y) / (self.weight @ (self.X * self.X).sum(axis=1))
        return float(LONGEST_START * np.sqrt(squared))

    def gradient(self, U: Array) -> Array:
        """Gradient of :meth:`loss`, shape (d + 1, p)."""
        return self.predict_adjoint(self.residual(U)) + 2 * self.ridge_block @ U

    def hessian_times(self, V: Array) -> Array:
        """Hessian of the squared error (without the ridge) times ``V``."""
        return self.predict_adjoint(2 * self.column_weight * self.predict(V))

    def add_hessian(self, H: Array) -> None:
        """Hessian of the loss: that of one output times the Gram matrix of the directions (diagonal one)."""
        super().add_hessian(H)
        gram = self.directions @ self.directions.T
        np.fill_diagonal(gram, 1.0)
        H.reshape(self.d1, self.p, self.d1, self.p)[:] *= gram[None, :, None, :]


class VectorBoundary(Boundary):
    """Translates between the solver's layout and the program's; matrices are ordered inputs, outputs, units."""

    structure: VectorStructure

    def _matrix(self, S: Array) -> Array:
        d, k = self.structure.n_weights, self.structure.directions.shape[1]
        index = np.concatenate([np.arange(d + k), d + k + self.keep])
        scale = np.where(index < d, self.unit, 1.0)
        full = np.zeros((d + k + len(self.structure.directions),) * 2)
        full[np.ix_(index, index)] = S * scale[:, None] * scale
        return full

    def _wanted(self, i: int, residual: Array, matrix: Array | None) -> Array:
        structure = self.structure
        centred = residual - structure.weight[:, None] * residual.sum(axis=0)
        wanted = structure.X.T @ ((centred @ structure.directions[i]) * structure.D[:, i])
        if matrix is not None:
            d, k = structure.n_weights, structure.directions.shape[1]
            wanted[:d] -= structure.directions[i] @ matrix[d : d + k, :d]
        return np.asarray(wanted)


def vector_zero_dual(structure: VectorStructure) -> Dual:
    """Multipliers of the zero network for constant targets."""
    matrix = None
    if isinstance(structure.coupling, VectorSpectral):
        p, k = structure.directions.shape
        matrix = structure.coupling.weight * np.eye(structure.n_weights + k + p)
    outer = isinstance(structure, OuterStructure)  # whose rows belong to the ridge
    rows = np.zeros((len(structure.directions), structure.y.shape[1]) if outer else structure.D.shape)
    points = structure.directions.shape[0], structure.n_weights if outer else structure.X.shape[1]
    return Dual(structure.slopes(np.zeros(points)), rows, matrix)
