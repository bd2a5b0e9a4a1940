r"""Lower bounds on training with weight decay over networks of every width, from any multipliers.

For every nu with ``sum nu = 0``, with ``kappa(nu) = max_{|w| <= 1} |sum_k nu_k relu(x_k'w)|`` over rows ``x_k`` that
end in 1::

    MSE + lam (|W|^2 + |b|^2 + |v|^2)  >=  constant - theta nu'y - theta^2 sum_k nu_k^2 / (4 om_k)

for all ``0 <= theta <= 2 lam / kappa(nu)``. Source: docs/theory/global_gap.md, Proposition 1.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.global_gap.kappa import KappaBracket, magnitude
from convexnn.global_gap.oracle import kappa_upper
from convexnn.inputs import real_array
from convexnn.restrictions.base import positive
from convexnn.restrictions.multipliers import SMALLEST
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from convexnn.rigorous import UNIT, gamma
from convexnn.values import ByValue

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class DualBound(ByValue):
    """``constant + theta linear - theta^2 quadratic``: what multipliers prove once kappa is bounded.

    Attributes
    ----------
    constant, linear, quadratic : float
        Rounded so that the bound can only fall.
    lam : float
    drift : float
        What centring nu in floating point can add to kappa.
    """

    constant: float
    linear: float
    quadratic: float
    lam: float
    drift: float

    @staticmethod
    def of(rows: DistinctRows, lam: float, nu: Array) -> DualBound:
        """Bound of the multipliers ``nu - om sum(nu)``, computed from any numbers nu of shape (n,)."""
        if nu.shape != rows.y.shape or not np.isfinite(nu).all():
            return DualBound(rows.proved_constant, 0.0, 0.0, lam, math.inf)
        left = abs(math.fsum(nu.tolist())) + len(nu) * UNIT * float(np.abs(nu).max(initial=0.0))
        y = rows.y - rows.y[0]
        y = y - rows.weight @ y
        terms = nu * y
        relative = 4.0 * gamma(len(nu) + 8)
        linear = -math.fsum(terms.tolist()) - relative * float(np.abs(terms).sum()) - 2 * left * float(np.abs(y).max())
        linear -= (1 + relative) * float(np.abs(nu) @ rows.mean_error) + 2 * left * float(rows.mean_error.max())
        quadratic = 0.25 * float(nu @ (nu / rows.weight)) * (1 + relative) + left * left
        drift = left * float(magnitude(homogeneous(rows), rows.weight))
        return DualBound(rows.proved_constant, linear, quadratic, lam, drift)

    def limit(self, kappa: float) -> float:
        """Largest scaling theta that an upper bound on kappa allows."""
        whole = (kappa + self.drift) * (1 + 4 * UNIT)
        if not math.isfinite(whole):
            return 0.0
        return 2 * self.lam / whole * (1 - 4 * UNIT) if whole > 0 else math.inf

    def lower(self, kappa: float) -> float:
        """Lower bound on every network's objective, given an upper bound on kappa of the multipliers."""
        theta = self._best(self.limit(kappa))
        if theta == 0.0:  # also where the multipliers overflow
            return self.constant
        return self.constant + theta * self.linear - theta * theta * self.quadratic

    def _best(self, limit: float) -> float:
        if not (self.linear > SMALLEST and SMALLEST < self.quadratic < math.inf):
            return 0.0
        return min(self.linear / (2 * self.quadratic), limit)

    def kappa_for(self, wanted: float) -> float:
        """Largest kappa with which :meth:`lower` still reaches ``wanted``; zero when none does."""
        rest = wanted - self.constant
        if rest <= 0:
            return math.inf
        root = self.linear * self.linear - 4 * self.quadratic * rest
        if self.linear <= 0 or root < 0:
            return 0.0
        theta = 2 * rest / (self.linear + math.sqrt(root))  # the smaller root, without cancellation
        return max(2 * self.lam / theta - self.drift, 0.0) * (1 - 16 * UNIT)


def homogeneous(rows: DistinctRows) -> Array:
    """Rows with the bias entry 1, shape (n, d + 1)."""
    return np.hstack([rows.X, np.ones((len(rows.X), 1))])


def centred(rows: DistinctRows, nu: Array) -> Array:
    """``nu - om sum(nu)``: the nearest multipliers that allow a free output bias."""
    shifted: Array = nu - rows.weight * nu.sum()
    return shifted


@dataclass(frozen=True, eq=False)
class GlobalBound(ByValue):
    """A lower bound on weight decay training over networks of every width, and where it comes from.

    Attributes
    ----------
    lower : float
        No network of any width has a smaller training objective.
    kappa : KappaBracket
    nu : array, shape (n,)
        Multipliers on the distinct rows.
    """

    lower: float
    kappa: KappaBracket
    nu: Array


def bound_on_rows(
    rows: DistinctRows, lam: float, nu: Array, *, wanted: float = math.inf, time_limit: float | None = None
) -> GlobalBound:
    """Bound from multipliers by bounding kappa, until ``wanted`` is proved where that is possible."""
    nu = centred(rows, nu)
    dual = DualBound.of(rows, lam, nu)
    target = dual.kappa_for(wanted) if math.isfinite(wanted) else 0.0
    kappa = kappa_upper(homogeneous(rows), nu, target=target, tol=1e-4, time_limit=time_limit)
    return GlobalBound(dual.lower(kappa.upper), kappa, nu)


def global_lam_max(
    X: ArrayLike,
    y: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    tol: float = 1e-4,
    time_limit: float | None = None,
) -> float:
    r"""Smallest proved ``lam`` from which on the best constant is the best network of EVERY width, under weight decay.

    With r the centred targets: ``max_{|w| <= 1} |sum_k om_k r_k relu(x_k'w)|``, over all activation patterns, not those
    of one program as in :func:`convexnn.lam_max`. Below ``lam / (1 + tol)`` a network is better than the constant,
    where the search converged.

    Implements: docs/theory/global_gap.md, Corollary 1.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    sample_weight : array-like, shape (n,), optional
    tol : float
        Relative accuracy.
    time_limit : float, optional
        Wall-clock seconds; a looser value, still sufficient, comes back.

    Returns
    -------
    float
        Zero when the targets are constant.
    """
    rows = distinct_rows(X, y, sample_weight)
    r = rows.y - rows.y[0]
    nu = rows.weight * (r - rows.weight @ r)
    limit = None if time_limit is None else positive(time_limit, "time_limit")
    if not nu.any():
        return 0.0
    dual = DualBound.of(rows, 1.0, nu)
    return kappa_upper(homogeneous(rows), nu, tol=positive(tol, "tol"), time_limit=limit).upper + dual.drift


def l2_global_bound(
    X: ArrayLike,
    y: ArrayLike,
    lam: float,
    nu: ArrayLike,
    *,
    sample_weight: ArrayLike | None = None,
    time_limit: float | None = None,
) -> GlobalBound:
    """Lower bound on ``mean((f(x_i) - y_i)^2) + lam (|W|^2 + |b|^2 + |v|^2)`` over ReLU networks of every width.

    Implements: docs/theory/global_gap.md, Proposition 1.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    lam : float
    nu : array-like, shape (n,)
        Multipliers, any numbers; ``2 weight (f(x_i) - y_i)`` of a good network proves much.
    sample_weight : array-like, shape (n,), optional
    time_limit : float, optional
        Wall-clock seconds.

    Returns
    -------
    GlobalBound

    Raises
    ------
    InvalidInputError
        For unusable data or multipliers of another shape.
    """
    rows = distinct_rows(X, y, sample_weight)
    multipliers = real_array(nu, "nu")
    if multipliers.shape != (len(np.asarray(X)),):
        raise InvalidInputError(f"nu has shape {multipliers.shape}; expected ({len(np.asarray(X))},)")
    merged = np.bincount(rows.inverse, multipliers[rows.used]).astype(np.float64)
    return bound_on_rows(rows, positive(lam, "lam"), merged, time_limit=time_limit)


def network_multipliers(rows: DistinctRows, network: Any) -> Array:
    """Multipliers ``2 om (f(x_k) - y_k)`` of a network with the best output bias, shape (n,)."""
    residual = network(rows.X) - rows.y
    return centred(rows, 2 * rows.weight * residual)
