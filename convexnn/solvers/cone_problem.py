"""The training program in the layout the interior point method computes in.

Differences from :class:`convexnn.structure.ConeStructure`: units are columns (``U`` is ``(d + 1, p)``, flattened
coordinate-major, so that the Hessian block of two coordinates is one contiguous ``p x p`` slice), targets are
divided by a power of two near their standard deviation (exact in floating point), features far from zero are
shifted to mean zero (a unit's bias becomes its value at the mean), features are divided by powers of two near their
spread (exact again; weights are multiplied by them), and units whose cone has no interior are left out.
:meth:`ConeProblem.original` leads back.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy.linalg.blas import dsyrk

from convexnn.losses import Huber, Logistic, Loss
from convexnn.structure import ConeStructure, GroupNorm

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

#: Rows of the design matrix handled at a time while the loss Hessian is formed.
CHUNK_ENTRIES = 4_000_000
#: Initial units are at most this many times longer than the targets ask of one unit.
LONGEST_START = 100.0
#: The same for the logistic loss, whose curvature vanishes far out.
LONGEST_LOGISTIC_START = 1.0
#: A feature that varies by less than this share of its mean counts as constant.
ROUNDOFF = 1e-10


def _nothing() -> None:
    """Do nothing."""


def power_of_two_unit(structure: ConeStructure) -> float:
    """Power of two nearest the standard deviation of the targets; 0 when they are constant up to roundoff.

    Targets -1 / +1 have the unit 1, and 0 when there is one class only.
    """
    if structure.sample_loss.binary:
        return 1.0 if np.ptp(structure.y) > 0 else 0.0
    variance = float(structure.weight @ structure.y_centred**2)
    magnitude = float(np.abs(structure.y).max(initial=0.0))
    if variance <= (1e-14 * magnitude) ** 2:
        return 0.0
    return float(2.0 ** np.round(0.5 * np.log2(variance)))


def _shift(structure: ConeStructure) -> Array:
    """Weighted means of the features that are farther from zero than they spread, zero for the others."""
    features = structure.X[:, :-1]
    mean = structure.weight @ features
    spread = np.sqrt(structure.weight @ (features - mean) ** 2)
    return np.where(np.abs(mean) > spread, mean, 0.0)


def _scale(structure: ConeStructure, X: Array, shift: Array, unit: float) -> Array:
    """Powers of two near the root mean squares of the shifted features; near the mean of constant ones.

    A feature so small that the regularizer alone decides about its weights is scaled by what the regularizer
    makes of a weight, as long as that is below the largest feature.
    """
    features = X[:, :-1]
    largest = np.abs(features).max(axis=0)
    largest = np.where(largest > 0, largest, 1.0)
    size = largest * np.sqrt(structure.weight @ (features / largest) ** 2)
    size = np.where(size > ROUNDOFF * np.abs(shift), size, np.abs(shift))
    widest = float(size.max(initial=0.0))
    penalty = structure.coupling.weight
    if isinstance(structure.coupling, GroupNorm):
        penalty *= widest / unit  # of a unit that alone predicts values like the targets
    size = np.maximum(size, min(math.sqrt(penalty), widest))
    return np.asarray(2.0 ** np.round(np.log2(np.where(size > 0, size, 1.0))))


def _in_units(loss: Loss, unit: float) -> Loss:
    """Loss of targets divided by ``unit``, itself divided by ``unit^2``."""
    return dataclasses.replace(loss, delta=loss.delta / unit) if isinstance(loss, Huber) else loss


class ConeProblem:
    """Loss, cone rows and block Gram matrices of the units that take part.

    Parameters
    ----------
    structure : ConeStructure
        The program as offered.
    unit : float
        Targets are divided by it; objectives by its square.
    keep : array of int
        Indices of the units that take part.
    """

    #: Whether all outputs share their curvatures, as the systems that exploit directions need.
    one_curvature = True

    def __init__(self, structure: ConeStructure, unit: float, keep: IntArray) -> None:
        self.shift = _shift(structure)
        self.X = np.array(structure.X, order="C")
        self.X[:, :-1] -= self.shift
        self.scale = _scale(structure, self.X, self.shift, unit)
        self.X[:, :-1] /= self.scale
        self.y = structure.targets / unit
        self.weight = structure.weight
        self.is_squared = structure.is_squared
        self.sample_loss = _in_units(structure.sample_loss, unit)
        # weights of the loss Hessian and of the mean that the free output bias takes off
        self.curvature = 2 * self.weight
        self.centring = self.weight
        self.multiplier: Array | None = None
        self.constant = structure.constant / unit**2
        self.D = np.ascontiguousarray(structure.D[:, keep])
        self.S = np.ascontiguousarray(structure.S[:, keep])
        self.keep = keep
        #: Called within anything long; may raise to stop it.
        self.pulse: Callable[[], None] = _nothing
        self.n, self.d1 = self.X.shape
        self.p = len(keep)
        self.size = self.d1 * self.p
        self.n_weights = structure.n_weights
        self.directions: Array = np.ones((self.p, 1))  # of the outputs, one row a unit
        tilt = np.append(-self.shift / self.scale, 1.0)  # the original bias is tilt'u
        self.ridge_block = structure.ridge * np.outer(tilt, tilt)
        # a row that constrains nothing gets slack 1 and multiplier 0 and stays out of every sum
        self.is_row = (self.S != 0) & (np.abs(self.X).max(axis=1) > 0)[:, None]
        self.all_rows = bool(self.is_row.all())
        upper = np.triu_indices(self.d1)
        self.upper: tuple[IntArray, IntArray] = upper
        self.products = self.X[:, upper[0]] * self.X[:, upper[1]]
        self._position = np.zeros((self.d1, self.d1), dtype=np.intp)
        self._position[upper] = np.arange(len(upper[0]))
        self._position.T[upper] = np.arange(len(upper[0]))

    def original(self, U: Array) -> Array:
        """The same units over the features as offered, shape (d + 1, p)."""
        W = U[:-1] / self.scale[:, None]
        return np.vstack([W, U[-1] - self.shift @ W])

    def shifted(self, U: Array) -> Array:
        """Units over the features as offered in the layout of this problem: the inverse of :meth:`original`."""
        return np.vstack([U[:-1] * self.scale[:, None], U[-1] + self.shift @ U[:-1]])

    def original_adjoint(self, g: Array) -> Array:
        """Adjoint of :meth:`original`: gradients in this problem's variables."""
        return np.vstack([(g[:-1] - self.shift[:, None] * g[-1]) / self.scale[:, None], g[-1]])

    def slack(self, U: Array) -> Array:
        """``S_ki x_k'u_i`` (n, p); 1 where there is no row."""
        slack: Array = self.row_change(U)
        return slack if self.all_rows else np.where(self.is_row, slack, 1.0)

    def row_change(self, V: Array) -> Array:
        """Linear map of the cone rows, shape (n, p); 0 where there is no row."""
        image: Array = self.X @ V
        image *= self.S
        return image

    def row_adjoint(self, rows: Array) -> Array:
        """Adjoint of :meth:`row_change`, shape (d + 1, p)."""
        return self.X.T @ (self.S * rows)

    def centre_rows(self, v: Array) -> Array:
        """Subtract the weighted mean: what the free output bias does to predictions."""
        return v - self.centring @ v

    def set_curvature(self, curvature: Array) -> None:
        """Second derivatives of the loss at the current point (n,); the free output bias centres by them."""
        total = float(curvature.sum())
        self.curvature = curvature
        self.centring = curvature / total if total > 0 else self.weight

    def raw_predict(self, U: Array) -> Array:
        """Predictions without the output bias, shape (n,)."""
        return np.asarray(np.einsum("ki,ki->k", self.D, self.X @ U))

    def best_constant(self, U: Array) -> float:
        """Best output bias at a point."""
        return self.sample_loss.best_constant(self.raw_predict(U), self.y, self.weight)

    def intercept_step(self, defect: Array, raw: Array) -> float:
        """Change of the output bias in a Newton step: ``sum(defect) / sum(curvature)`` minus the centre of ``raw``."""
        return float(defect.sum() / self.curvature.sum() - self.centring @ raw)

    def fitted(self, U: Array) -> Array:
        """Predictions at the best output bias, shape (n,)."""
        raw = self.raw_predict(U)
        return raw + self.sample_loss.best_constant(raw, self.y, self.weight)

    def predict(self, U: Array) -> Array:
        """Centred predictions, shape (n,)."""
        return self.centre_rows(np.einsum("ki,ki->k", self.D, self.X @ U))

    def predict_adjoint(self, v: Array) -> Array:
        """Adjoint of :meth:`predict`, shape (d + 1, p)."""
        centred = v - self.centring * v.sum()
        return self.X.T @ (centred[:, None] * self.D)

    def residual(self, U: Array) -> Array:
        """``2 weight (prediction - target)``, the gradient of the loss in the predictions, shape (n,).

        For other losses the multiplier that the solver keeps at its current point.
        """
        if self.multiplier is not None:
            return self.multiplier
        return 2 * self.weight * (self.predict(U) - self.y)

    def loss(self, U: Array) -> float:
        """Weighted loss plus the bias ridge plus the constant."""
        if not self.is_squared:
            return self.loss_of(self.fitted(U), U)
        error = self.predict(U) - self.y
        return float(error @ (self.weight * error) + np.vdot(U, self.ridge_block @ U) + self.constant)

    def loss_of(self, f: Array, U: Array) -> float:
        """Weighted loss of predictions plus the bias ridge of a point plus the constant."""
        mean = float(self.weight @ self.sample_loss.value(f, self.y))
        return mean + float(np.vdot(U, self.ridge_block @ U)) + self.constant

    def loss_at_zero(self) -> float:
        """Loss of the best constant."""
        if not self.is_squared:
            return self.loss(np.zeros((self.d1, self.p)))
        return float(self.weight @ self.y**2) + self.constant

    def longest_start(self) -> float:
        """Longest initial unit: many times the length at which one unit alone predicts values like the targets."""
        length = np.sqrt(self.weight @ self.y**2 / (self.weight @ (self.X * self.X).sum(axis=1)))
        return float(self.longest_factor() * length)

    def longest_factor(self) -> float:
        """How many times that length an initial unit may have."""
        return LONGEST_LOGISTIC_START if isinstance(self.sample_loss, Logistic) else LONGEST_START

    def gradient(self, U: Array) -> Array:
        """Gradient of :meth:`loss`, shape (d + 1, p)."""
        return self.predict_adjoint(self.residual(U)) + 2 * self.ridge_block @ U

    def hessian_times(self, V: Array) -> Array:
        """Hessian of the loss (without the ridge) times ``V``."""
        return self.predict_adjoint(self.curvature * self.predict(V))

    def add_hessian(self, H: Array) -> None:
        """Add the Hessian of the loss (without the ridge) to the upper triangle of H, in C order.

        Index ``coordinate * p + unit``. Only a few rows of the design matrix exist at a time.
        """
        mean = self.X.T @ (self.centring[:, None] * self.D)
        root = np.sqrt(self.curvature)
        chunk = max(1, CHUNK_ENTRIES // self.size)
        for first in range(0, self.n, chunk):
            self.pulse()
            k = slice(first, first + chunk)
            design = self.X[k, :, None] * self.D[k, None, :] - mean
            design *= root[k, None, None]
            # the lower triangle of the Fortran-ordered transpose
            dsyrk(1.0, design.reshape(len(design), -1).T, beta=1.0, c=H.T, lower=1, overwrite_c=1)

    def gram(self, w: Array) -> Array:
        """``X' diag(w_i) X`` of every unit by one matrix product, shape (p, d + 1, d + 1)."""
        self.pulse()
        return (w.T @ self.products)[:, self._position]
