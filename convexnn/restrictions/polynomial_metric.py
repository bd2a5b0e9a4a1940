"""Boxes inside ellipsoids: the common metric of a training program that is robust to linf perturbations.

The worst case of a quadratic over a box is NP-hard. For every metric ``D > 0`` the box ``|delta_k| <= h_k`` lies in the
ellipsoid ``sum_k D_k delta_k^2 <= sum_k D_k h_k^2``, whose worst cases are trust regions; one metric for all samples
keeps one eigendecomposition. Which metric is best depends on the network, so the two are improved in turn.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize

from convexnn.exceptions import InvalidInputError
from convexnn.quadratic.structure import QuadraticStructure
from convexnn.quadratic.trust_region import minimize_over_ball
from convexnn.restrictions.polynomial_worst import quadratic_of
from convexnn.rigorous import UNIT

Array = NDArray[np.float64]

#: Logarithms of the metric stay within this of their mean: no direction is given up.
LARGEST_LOG = 12.0


def metric_around(box: ArrayLike, radius: float, shape: ArrayLike | None = None) -> Array:
    """Metric D, proportional to ``shape``, with the box inside ``sum_k D_k delta_k^2 <= radius^2``; rounded down.

    Parameters
    ----------
    box : array, shape (d,)
        Positive half-widths.
    radius : float
        Positive.
    shape : array, shape (d,), optional
        Positive; the default ``1 / box^2`` is the ellipsoid of least volume.

    Returns
    -------
    array, shape (d,)

    Raises
    ------
    InvalidInputError
        For half-widths or a shape that are not positive and finite.
    """
    h = np.asarray(box, dtype=float)
    D = np.ones(len(h)) if shape is None else np.asarray(shape, dtype=float)
    if h.ndim != 1 or D.shape != h.shape or not (np.isfinite(h) & np.isfinite(D) & (h > 0) & (D > 0)).all():
        raise InvalidInputError("A box needs positive finite half-widths and a positive metric of the same length.")
    parts = np.ones(len(h)) if shape is None else D / D.max() * (h / h.max()) ** 2
    shares = parts / parts.sum() * (1.0 - 4.0 * (len(h) + 8) * UNIT)
    return np.asarray(shares * (radius / h) ** 2)


@dataclass(frozen=True, eq=False)
class MetricLoss:
    """Robust loss of a fixed point as a function of the logarithm of the metric.

    Parameters
    ----------
    structure : QuadraticStructure
        Its own metric is not used.
    z : array, shape (2, C, d + 1, d + 1)
    box : array, shape (d,)
        Half-widths in the coordinates of the structure.
    """

    structure: QuadraticStructure
    z: Array
    box: Array

    def __call__(self, logs: Array) -> tuple[float, Array]:
        """Loss at ``D ~ exp(logs)`` and its gradient: a worst case changes by ``multiplier delta_k^2`` with D_k."""
        D = metric_around(self.box, self.structure.radius, np.exp(logs - logs.max()))
        values, pressure = self._worst_cases(D)
        loss = self.structure.loss_value(values)
        gradient = -(self._slopes(values) @ pressure)  # in the logarithms of D, before the normalization
        shares = D * self.box**2
        return loss, np.asarray(gradient - shares / shares.sum() * gradient.sum())

    def _slopes(self, values: Array) -> Array:
        """``share_t s_t``: in regression only of the term that decides."""
        s = self.structure
        u = values - s.offset
        slopes = s.share * s.term_slope(u)
        if not s.is_regression:
            return slopes
        low, high = np.split(u, 2)
        return slopes * np.concatenate([low <= high, high < low])

    def _worst_cases(self, D: Array) -> tuple[Array, Array]:
        """Worst cases (N,) and ``multiplier D_k delta_k^2`` (N, d)."""
        s, M = self.structure, self.z[0] - self.z[1]
        values, pressure = np.empty(s.n_terms), np.empty((s.n_terms, s.n_features))
        stretch = 1.0 / np.sqrt(D)
        for pair in s.pairs:
            Q, q, h = quadratic_of(s.difference(M, pair), s.coefficients)
            X, signs = s.X[s.rows[pair.terms]], pair.signs[:, None]
            slope = X @ Q + q
            eigenvalues, V = np.linalg.eigh(stretch[:, None] * Q * stretch)
            found = minimize_over_ball(signs * eigenvalues, signs * ((slope * stretch) @ V), s.radius)
            values[pair.terms] = pair.signs * (((slope + q) * X).sum(axis=1) + h) + found.values
            pressure[pair.terms] = found.multipliers[:, None] * (found.steps @ V.T) ** 2
        return values, pressure


def better_metric(structure: QuadraticStructure, z: Array, box: Array, *, max_iter: int = 50) -> Array:
    """Metric with a smaller robust loss of the point ``z``, or that of the structure where none is found.

    Descent on the logarithms of the metric; the result is kept only if the recomputed loss is smaller.

    Implements: docs/theory/polynomial_multiclass.md, Proposition 5.

    Parameters
    ----------
    structure : QuadraticStructure
        Radius positive; its metric is the start.
    z : array, shape (2, C, d + 1, d + 1)
    box : array, shape (d,)
        Half-widths of the box, in the coordinates of the structure.
    max_iter : int

    Returns
    -------
    array, shape (d,)
        The box lies in ``sum_k D_k delta_k^2 <= radius^2``.
    """
    start = metric_around(box, structure.radius, structure.metric)
    loss = MetricLoss(structure, z, box)
    logs = np.log(start)
    middle = logs.mean()
    bounds = [(middle - LARGEST_LOG, middle + LARGEST_LOG)] * len(logs)
    found = minimize(
        loss, np.clip(logs, *bounds[0]), jac=True, method="L-BFGS-B", bounds=bounds, options={"maxiter": max_iter}
    )
    better = metric_around(box, structure.radius, np.exp(found.x - found.x.max()))
    return better if loss(np.log(better))[0] < loss(np.log(start))[0] else start
