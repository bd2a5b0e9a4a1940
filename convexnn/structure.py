"""What a structured solver may read of a convex training program, and nothing more.

All programs of the package with scalar output share one shape, in the merged
variables ``u_i = v_i (w_i, b_i)`` (rows of ``U``, last column the bias)::

    min_U  sum_k weight_k l(f_k; y_k) + constant + ridge |U[:, -1]|^2 + coupling(U)
    s.t.   S_ki x_k'u_i >= 0                                        for all rows k, units i

    f_k = sum_i D_ki x_k'u_i + c,   c free (minimized out exactly)

For the squared loss ``l = (f - y)^2`` minimizing c out is the same as centring predictions and targets; for the other
losses it is a search in one dimension. A solver reads a :class:`ConeStructure`; a program builds one. A solver that
knows the squared loss alone asks ``structure.is_squared`` first.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convexnn.losses import Hinge, Loss, Squared

Array = NDArray[np.float64]


@dataclass(frozen=True)
class GroupNorm:
    """``weight * sum_i ||u_i[:n_weights]||_2``, one second-order cone a unit."""

    weight: float


@dataclass(frozen=True)
class JointSpectral:
    """``weight * LipSDP(U)^2`` with the multiplier free.

    In the form of one linear matrix inequality, with ``B = [sum_i u_i; u_1; ...; u_p]`` (weights only)::

        weight * min_q sum(q)   s.t.  [[I, B'/2], [B/2, diag(q)]] >= 0
    """

    weight: float


@dataclass(frozen=True, eq=False)
class FixedSpectral:
    """``weight * lambda_max(B' diag(1/q) B) / 4`` with ``q`` (p + 1,) positive and fixed.

    In the form of one linear matrix inequality, ``weight * min x`` subject to
    ``[[x I, C'], [C, I]] >= 0`` with ``C = diag(q)^(-1/2) B / 2``.
    """

    weight: float
    q: Array


def balanced_slopes(loss: Loss, f: Array, y: Array, weight: Array) -> Array:
    """Slopes of the loss at predictions with the best intercept, their weighted sum zero, shape (n,).

    Only the hinge loss leaves a choice: at a kink any slope between those of the two sides will do, and an equal share
    of the jumps there brings the sum to zero.
    """
    if not isinstance(loss, Hinge):
        return loss.gradient(f, y)
    side = 1e-9 * (1 + np.abs(f).max())
    below, above = loss.gradient(f - side, y), loss.gradient(f + side, y)
    jump = float(weight @ (above - below))
    share = min(max(-float(weight @ below) / jump, 0.0), 1.0) if jump > 0 else 0.0
    balanced: Array = below + share * (above - below)
    return balanced


Coupling = GroupNorm | JointSpectral | FixedSpectral


@dataclass(frozen=True, eq=False)
class ConeStructure:
    """Data, cones and coupling of a training program on its distinct rows.

    Parameters
    ----------
    X : array, shape (n, d + 1)
        Distinct rows, the last column is the appended bias column of ones.
    y : array, shape (n,)
        Weighted mean target of each distinct row; with losses other than squared, rows that differ in y are distinct.
    weight : array, shape (n,)
        Positive weights that sum to one.
    constant : float
        Variance of the targets within repeated rows; adds to the loss whatever the network.
    D : array, shape (n, p)
        Activation patterns as 0.0 / 1.0.
    S : array, shape (n, p)
        ``sign_i * (2 D_ki - 1)``; all zero when the cones are dropped (gated), and on a row whose x occurred before.
    ridge : float
        Weight of ``|U[:, -1]|^2``.
    n_weights : int
        Number of leading coordinates of a unit that the coupling sees: ``d`` or ``d + 1``.
    coupling : Coupling
        The regularizer.
    sample_loss : Loss
        Loss of one sample; the squared one unless said otherwise.
    """

    X: Array
    y: Array
    weight: Array
    constant: float
    D: Array
    S: Array
    ridge: float
    n_weights: int
    coupling: Coupling
    sample_loss: Loss = Squared()

    @property
    def is_squared(self) -> bool:
        """Whether the loss is the squared one: only then ``y``, ``constant`` and centred predictions say all of it."""
        return isinstance(self.sample_loss, Squared)

    @property
    def has_cones(self) -> bool:
        """Whether any sign constraint is present."""
        return bool(self.S.any())

    @cached_property
    def y_centred(self) -> Array:
        """Targets minus their weighted mean, shape (n,)."""
        shifted = self.y - self.y[0]  # constant targets become exactly zero
        centred: Array = shifted - self.weight @ shifted
        return centred

    @property
    def targets(self) -> Array:
        """Targets without the part that the free intercept takes up: centred, or -1 / +1 for the binary losses."""
        return self.y if self.sample_loss.binary else self.y_centred

    def raw_predict(self, U: Array) -> Array:
        """``sum_i D_ki x_k'u_i`` without the intercept, shape (n,)."""
        predictions: Array = np.einsum("ki,ki->k", self.D, self.X @ U.T)
        return predictions

    def predict(self, U: Array) -> Array:
        """Predictions minus their weighted mean, shape (n,)."""
        raw = self.raw_predict(U)
        centred: Array = raw - self.weight @ raw
        return centred

    def adjoint(self, p: Array) -> Array:
        """Adjoint of :meth:`predict`, shape (units, d + 1)."""
        centred = p - self.weight * p.sum()
        image: Array = (centred[:, None] * self.D).T @ self.X
        return image

    def slack(self, U: Array) -> Array:
        """``S_ki x_k'u_i``, nonnegative on the cones, shape (n, p)."""
        slack: Array = self.S * (self.X @ U.T)
        return slack

    def slack_adjoint(self, rows: Array) -> Array:
        """Adjoint of :meth:`slack`, shape (p, d + 1)."""
        image: Array = (self.S * rows).T @ self.X
        return image

    def intercept(self, U: Array) -> float:
        """The best output bias for ``U``: weighted mean of ``y - prediction`` for the squared loss."""
        if self.is_squared:
            return float(self.y[0] + self.weight @ (self.y - self.y[0] - self.raw_predict(U)))
        raw = self.raw_predict(U)
        mean = float(self.weight @ raw)
        offset = 0.0 if self.sample_loss.binary else float(self.y[0] + self.weight @ (self.y - self.y[0]))
        return offset - mean + self.sample_loss.best_constant(raw - mean, self.targets, self.weight)

    def fitted(self, U: Array) -> Array:
        """Predictions at the best intercept, to be compared with :attr:`targets`, shape (n,)."""
        centred = self.predict(U)
        if self.is_squared:
            return centred
        best: Array = centred + self.sample_loss.best_constant(centred, self.targets, self.weight)
        return best

    def loss(self, U: Array) -> float:
        """Weighted mean loss at the best intercept, without the ridge."""
        if self.is_squared:
            residual = self.predict(U) - self.y_centred
            return float(residual @ (self.weight * residual)) + self.constant
        return float(self.weight @ self.sample_loss.value(self.fitted(U), self.targets)) + self.constant

    def slopes(self, U: Array) -> Array:
        """``weight_k l'(f_k; y_k)`` at the best intercept, a multiplier of the prediction equation, shape (n,)."""
        if self.is_squared:
            slopes: Array = 2 * self.weight * (self.predict(U) - self.y_centred)
            return slopes
        return self.weight * balanced_slopes(self.sample_loss, self.fitted(U), self.targets, self.weight)

    def bias_penalty(self, U: Array) -> float:
        """``ridge * |U[:, -1]|^2``."""
        return self.ridge * float(U[:, -1] @ U[:, -1])

    def gradient(self, U: Array) -> Array:
        """Gradient of loss plus bias penalty (a subgradient where the loss has a kink), shape (p, d + 1)."""
        gradient = self.adjoint(self.slopes(U))
        gradient[:, -1] += 2 * self.ridge * U[:, -1]
        return gradient
