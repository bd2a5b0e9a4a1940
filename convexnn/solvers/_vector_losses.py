"""Programs with several outputs and another loss than the squared one, for the interior point method.

A loss that is summed over outputs is one loss of ``n k`` samples: the terms of ``_loss_terms`` see predictions, targets
and weights as flat arrays, row by row, and every output has its own bias. Curvatures differ from output to output, so
the loss Hessian is no longer a product with the Gram matrix of the directions, and the linear systems are dense.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from convexnn.solvers._vector_outer import OuterProblem
from convexnn.solvers._vector_problem import VectorConeProblem
from convexnn.solvers.cone_problem import CHUNK_ENTRIES, ConeProblem
from convexnn.vector_structure import VectorStructure

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]


class VectorLossProblem(VectorConeProblem):
    """Loss of every output as samples of their own; see ``VectorConeProblem`` for the parameters.

    ``weight``, ``y``, ``curvature`` and the argument of the loss are flat, (n outputs,); ``centring`` is (n, outputs).
    """

    one_curvature = False

    def __init__(self, structure: VectorStructure, unit: float, keep: IntArray) -> None:
        super().__init__(structure, unit, keep)
        self.row_weight, self.k = structure.weight, structure.y.shape[1]
        self.y = (structure.targets / unit).ravel()
        self.weight = np.repeat(structure.weight, self.k)
        self.set_curvature(2 * self.weight)

    def _table(self, v: Array) -> Array:
        return v.reshape(self.n, self.k)

    def _outputs(self, U: Array) -> Array:
        """Predictions without biases, (n, outputs)."""
        return np.asarray((self.D * (self.X @ U)) @ self.directions)

    def _image(self, v: Array) -> Array:
        """Adjoint of :meth:`_outputs`, the shape of a point."""
        return np.asarray(self.X.T @ ((v @ self.directions.T) * self.D))

    def set_curvature(self, curvature: Array) -> None:
        """Second derivatives of the loss, flat; the free bias of every output centres by its own."""
        self.curvature = curvature
        table = self._table(curvature)
        total = table.sum(axis=0)
        share = np.divide(table, total, out=np.zeros_like(table), where=total > 0)
        self.centring = np.where(total > 0, share, self.column_weight)

    def raw_predict(self, U: Array) -> Array:
        """Predictions without biases, flat."""
        return self._outputs(U).ravel()

    def _spread(self, biases: Array) -> Array:
        """A bias for every output, flat."""
        return np.tile(biases, self.n)

    def _best(self, raw: Array) -> Array:
        pairs = zip(self._table(raw).T, self._table(self.y).T, strict=True)
        return self._spread(np.array([self.sample_loss.best_constant(f, y, self.row_weight) for f, y in pairs]))

    def best_constant(self, U: Array) -> Array:  # type: ignore[override]
        """Best biases at a point, flat."""
        return self._best(self.raw_predict(U))

    def intercept_step(self, defect: Array, raw: Array) -> Array:  # type: ignore[override]
        """Changes of the biases, flat."""
        total = self._table(self.curvature).sum(axis=0)
        return self._spread(self._table(defect).sum(axis=0) / total - (self.centring * self._table(raw)).sum(axis=0))

    def fitted(self, U: Array) -> Array:
        """Predictions at the best biases, flat."""
        raw = self.raw_predict(U)
        return raw + self._best(raw)

    def predict(self, U: Array) -> Array:
        """Centred predictions, flat."""
        outputs = self._outputs(U)
        return (outputs - (self.centring * outputs).sum(axis=0)).ravel()

    def predict_adjoint(self, v: Array) -> Array:
        """Adjoint of :meth:`predict`."""
        table = self._table(v)
        return self._image(table - self.centring * table.sum(axis=0))

    def residual(self, U: Array) -> Array:  # noqa: ARG002
        """The multiplier that the solver keeps at its current point, (n, outputs)."""
        assert self.multiplier is not None
        return self._table(self.multiplier)

    def loss(self, U: Array) -> float:
        """Weighted loss plus ridge plus constant."""
        return self.loss_of(self.fitted(U), U)

    def loss_at_zero(self) -> float:
        """Loss of the best constants."""
        return self.loss(np.zeros((self.d1, self.p)))

    def longest_start(self) -> float:
        """Longest initial unit; see ``ConeProblem``."""
        size = float(self.row_weight @ (self.X * self.X).sum(axis=1))
        return self.longest_factor() * float(np.sqrt(self.weight @ self.y**2 / size))

    def hessian_times(self, V: Array) -> Array:
        """Hessian of the loss (without the ridge) times ``V``."""
        return self.predict_adjoint(self.curvature * self.predict(V))

    def add_hessian(self, H: Array) -> None:
        """Hessian of the loss, output by output, added to the upper triangle of H; index ``coordinate * p + unit``."""
        chunk = max(1, CHUNK_ENTRIES // self.size)
        for c in np.flatnonzero(self.directions.any(axis=0)):
            gates = self.D * self.directions[:, c]
            mean = self.X.T @ (self.centring[:, c, None] * gates)
            root = np.sqrt(self._table(self.curvature)[:, c])
            for first in range(0, self.n, chunk):
                self.pulse()
                k = slice(first, first + chunk)
                design = (self.X[k, :, None] * gates[k, None, :] - mean) * root[k, None, None]
                dsyrk(1.0, design.reshape(len(design), -1).T, beta=1.0, c=H.T, lower=1, overwrite_c=1)


class OuterLossProblem(VectorLossProblem, OuterProblem):
    """The outer step with such a loss."""

    def _outputs(self, U: Array) -> Array:
        return np.asarray(self.D @ U.T)

    def _image(self, v: Array) -> Array:
        return np.asarray(v.T @ self.D)

    def loss_of(self, f: Array, U: Array) -> float:
        """Weighted loss of predictions plus the ridge of a point plus the constant."""
        return ConeProblem.loss_of(self, f, U) + float(self.penalties @ (U * U).sum(axis=0))

    def longest_start(self) -> float:
        """Longest initial unit; see ``OuterProblem``."""
        activity = float(self.row_weight @ (self.D * self.D).max(axis=1))
        return self.longest_factor() * float(np.sqrt(self.weight @ self.y**2 / max(activity, np.finfo(float).tiny)))

    def gradient(self, U: Array) -> Array:
        """Gradient of :meth:`loss` that the kept multiplier stands for, shape (outputs, p)."""
        return self.predict_adjoint(self.residual(U)) + 2 * self.penalties * U

    def hessian_times(self, V: Array) -> Array:
        """Hessian of :meth:`loss` times ``V``."""
        return super().hessian_times(V) + 2 * self.penalties * V

    def add_hessian(self, H: Array) -> None:
        """Upper triangle of the Hessian of :meth:`loss`, index ``output * p + unit``: one block for every output."""
        for c, curvature in enumerate(self._table(self.curvature).T):
            design = np.sqrt(curvature)[:, None] * (self.D - self.centring[:, c] @ self.D)
            own = slice(c * self.p, (c + 1) * self.p)
            H[own, own] += np.triu(design.T @ design + 2 * np.diag(self.penalties))
