"""What a structured solver may read of a training program with several outputs and fixed output directions.

Unit i contributes ``relu(x'w_i) vh_i`` with a unit vector ``vh_i`` that is given. In the variables ``w_i`` (rows of
``U``, last column the bias)::

    min_U  sum_k weight_k l(f_k; y_k) + constant + ridge |U[:, -1]|^2 + coupling(U)
    s.t.   S_ki x_k'w_i >= 0,   S = 2 D - 1                         for all rows k, units i

    f_k = sum_i D_ki (x_k'w_i) vh_i + c,   c free (minimized out exactly)

The loss ``l`` is summed over the outputs; for the squared one minimizing c out is the same as centring predictions.
With one output ``vh_i = +-1`` and ``u_i = vh_i w_i`` are the variables of :mod:`convexnn.structure`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.structure import ConeStructure, GroupNorm, JointSpectral, balanced_slopes

Array = NDArray[np.float64]


@dataclass(frozen=True)
class VectorGroupNorm:
    """``weight * sum_i ||w_i[:n_weights]||_2``."""

    weight: float


@dataclass(frozen=True)
class VectorSpectral:
    """``weight * LipSDP^2`` of the network with several outputs, multipliers free.

    In the form of one linear matrix inequality in ``W`` (weights only), ``sigma`` and ``a`` (p,), with
    ``U_0 = sum_i vh_i w_i'`` and rows in the order inputs, outputs, units::

        weight * min sigma
        s.t.  [[I, U_0'/2, W'/2], [U_0/2, sigma I - sum_i a_i vh_i vh_i', 0], [W/2, 0, diag(a)]] >= 0
    """

    weight: float


VectorCoupling = VectorGroupNorm | VectorSpectral


@dataclass(frozen=True, eq=False)
class VectorStructure(ConeStructure):
    """Data, cones and coupling of a program with several outputs.

    Parameters
    ----------
    y : array, shape (n, outputs)
        Weighted mean targets of the distinct rows; the other fields are those of ``ConeStructure``.
    S : array, shape (n, p)
        ``2 D_ki - 1``; all zero when the cones are dropped (gated). Directions carry the signs.
    coupling : VectorCoupling
        The regularizer.
    directions : array, shape (p, outputs)
        Unit vectors ``vh_i``.
    """

    coupling: VectorCoupling  # type: ignore[assignment]
    directions: Array = field(kw_only=True)

    def twin(self) -> ConeStructure:
        """A scalar structure with the same rows, cones and weight of the coupling; its targets are zero."""
        kind = GroupNorm if isinstance(self.coupling, VectorGroupNorm) else JointSpectral
        return ConeStructure(
            X=self.X,
            y=np.zeros(len(self.X)),
            weight=self.weight,
            constant=0.0,
            D=self.D,
            S=self.S,
            ridge=self.ridge,
            n_weights=self.n_weights,
            coupling=kind(self.coupling.weight),
            sample_loss=self.sample_loss,
        )

    def column(self, c: int) -> ConeStructure:
        """The rows and the targets of one output."""
        return replace(self.twin(), y=self.y[:, c], constant=0.0)

    def raw_predict(self, U: Array) -> Array:
        """``sum_i D_ki (x_k'w_i) vh_i`` without the intercept, shape (n, outputs)."""
        predictions: Array = (self.D * (self.X @ U.T)) @ self.directions
        return predictions

    def adjoint(self, p: Array) -> Array:
        """Adjoint of :meth:`predict` at ``p`` (n, outputs), shape (p, d + 1)."""
        centred = p - self.weight[:, None] * p.sum(axis=0)
        image: Array = ((centred @ self.directions.T) * self.D).T @ self.X
        return image

    def output_bias(self, U: Array) -> Array:
        """The best output bias for ``U``, shape (outputs,): means of ``y - prediction`` for the squared loss."""
        raw, mean = self.raw_predict(U), self.y[0] + self.weight @ (self.y - self.y[0])
        if self.is_squared:
            bias: Array = self.y[0] + self.weight @ (self.y - self.y[0] - raw)
            return bias
        centred = raw - self.weight @ raw
        offset = np.zeros(len(mean)) if self.sample_loss.binary else mean
        return np.asarray(offset - self.weight @ raw + self._constants(centred))

    def _constants(self, f: Array) -> Array:
        """Best constants to add to predictions (n, outputs), shape (outputs,)."""
        pairs = zip(f.T, self.targets.T, strict=True)
        return np.array([self.sample_loss.best_constant(own, y, self.weight) for own, y in pairs])

    def fitted(self, U: Array) -> Array:
        """Predictions at the best biases, to be compared with ``targets``, shape (n, outputs)."""
        centred = self.predict(U)
        return centred if self.is_squared else centred + self._constants(centred)

    def slopes(self, U: Array) -> Array:
        """Gradient ``weight_k l'(f_k; y_k)`` of the loss in the predictions, shape (n, outputs)."""
        if self.is_squared:
            slopes: Array = 2 * self.weight[:, None] * (self.predict(U) - self.y_centred)
            return slopes
        pairs = zip(self.fitted(U).T, self.targets.T, strict=True)
        columns = [self.weight * balanced_slopes(self.sample_loss, own, y, self.weight) for own, y in pairs]
        return np.stack(columns, axis=1)

    def loss(self, U: Array) -> float:
        """Weighted mean loss (summed over the outputs) at the best intercept, without the ridge."""
        if not self.is_squared:
            losses = self.sample_loss.value(self.fitted(U), self.targets)
            return float(self.weight @ losses.sum(axis=1)) + self.constant
        error = self.predict(U) - self.y_centred
        return float(np.vdot(error, self.weight[:, None] * error)) + self.constant

    def gradient(self, U: Array) -> Array:
        """Gradient of loss plus bias penalty, shape (p, d + 1)."""
        gradient = self.adjoint(self.slopes(U))
        gradient[:, -1] += 2 * self.ridge * U[:, -1]
        return gradient


@dataclass(frozen=True, eq=False)
class OuterStructure(VectorStructure):
    """The other half: hidden units fixed, their outer weights ``v_i`` (rows of ``U``, one column an output) free.

    ``f_k = sum_i D_ki v_i + c`` with activations ``D_ki = relu(x_k'wh_i)`` of normalized units. There are no cones and
    ``X`` is not read; ``directions`` are those of the hidden weights, the ridge is ``sum_i penalties_i |v_i|^2``.

    Parameters
    ----------
    penalties : array, shape (p,)
        Nonnegative.
    """

    penalties: Array = field(kw_only=True)

    def raw_predict(self, U: Array) -> Array:
        """``sum_i D_ki v_i`` without the intercept, shape (n, outputs)."""
        predictions: Array = self.D @ U
        return predictions

    def adjoint(self, p: Array) -> Array:
        """Adjoint of :meth:`predict` at ``p`` (n, outputs), shape (p, outputs)."""
        image: Array = self.D.T @ (p - self.weight[:, None] * p.sum(axis=0))
        return image

    def bias_penalty(self, U: Array) -> float:
        """``sum_i penalties_i |v_i|^2``."""
        return float(self.penalties @ (U**2).sum(axis=1))

    def gradient(self, U: Array) -> Array:
        """Gradient of loss plus ridge, shape (p, outputs)."""
        return self.adjoint(self.slopes(U)) + 2 * self.penalties[:, None] * U
