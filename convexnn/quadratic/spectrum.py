"""Eigendecompositions with rigorous errors, and the weak duality bound of a trust region that they allow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.rigorous import gamma, norm_up, product_up, row_norms_up, sum_up

Array = NDArray[np.float64]

#: Bounds what underflow takes away a thousand times over, relative to numbers of size one.
UNDERFLOW = 2.0**-1050
#: Keeps the denominators of the bound away from zero; in units of the curvature it costs nothing.
FLOOR = 2.0**-100


@dataclass(frozen=True, eq=False)
class Spectrum:
    """``Q = V diag(values) V' + E`` with almost orthogonal V, and rigorous bounds on what "almost" means.

    Attributes
    ----------
    values : array, shape (d,)
        Increasing.
    vectors : array, shape (d, d)
        One a column.
    error : float
        ``|E|_2`` is at most this.
    skew : float
        ``|V'V - I|_2`` is at most this.
    size : float
        ``|Q|_F`` is at most this.
    """

    values: Array = field(repr=False)
    vectors: Array = field(repr=False)
    error: float
    skew: float
    size: float

    @classmethod
    def of(cls, Q: Array) -> Spectrum:
        """Decompose a symmetric matrix (d, d) and bound the residuals of the result.

        Implements: convexnn, Proposition 3 of docs/theory/quadratic_worst_cases.md.
        """
        values, V = np.linalg.eigh(Q)
        d = len(values)
        frobenius = norm_up(V)
        skew = sum_up([norm_up(V.T @ V - np.eye(d)), product_up(2.0 * gamma(d + 2), frobenius, frobenius)])
        size, stretch = norm_up(Q), product_up(sum_up(np.abs(values)), 1.0 + skew)
        product = product_up(2.0 * gamma(d + 4), sum_up([stretch, size]))
        error = sum_up([norm_up(Q - (V * values) @ V.T), product, product_up(UNDERFLOW, d, sum_up([1.0, size]))])
        return cls(values, V, error, skew, size)


@dataclass(frozen=True, eq=False)
class LocalQuadratic:
    """``s f(x + delta) = sign value + 2 sign slope'delta + sign delta'Q delta`` around samples, in eigen coordinates.

    Attributes
    ----------
    value : array, shape (n,)
        ``s f(x)`` as computed.
    linear : array, shape (n, d)
        ``s V'(Q x + q)`` as computed.
    curvature : array, shape (n, d)
        ``s values``.
    """

    value: Array = field(repr=False)
    linear: Array = field(repr=False)
    curvature: Array = field(repr=False)


def duality_bounds(
    local: LocalQuadratic, spectrum: Spectrum, X: Array, q: Array, h: float, radius: Array, excesses: Array
) -> Array:
    """Rigorous LOWER bounds on ``min s f(x + delta)`` over ``|delta|_2 <= radius``, f(x) = x'Qx + 2 q'x + h.

    Weak duality holds for every multiplier ``mu >= max(0, -min L)``::

        s f(x) - sum_k g_k^2 / (L_k + mu) - mu radius^2

    All roundings of f, g and the decomposition are added as norms.

    Implements: convexnn, Proposition 3 of docs/theory/quadratic_worst_cases.md.

    Parameters
    ----------
    local : LocalQuadratic
    spectrum : Spectrum
        Of Q.
    X : array, shape (n, d)
    q : array, shape (d,)
    h : float
    radius : array, shape (n,)
        Nonnegative.
    excesses : array, shape (n,)
        ``mu + min L``: any numbers; what is not admissible is raised to what is.

    Returns
    -------
    bounds : array, shape (n,)
        Below the exact minimum for the real numbers Q, q, h, X; ``-inf`` where nothing is proved.
    """
    d = X.shape[1]
    relative = 2.0 * gamma(4 * d + 60)
    lengths, own = row_norms_up(X), norm_up(q)
    with np.errstate(all="ignore"):
        reach = radius * (1.0 + spectrum.skew) * (1.0 + relative)  # |V'delta| <= sqrt(1 + skew) |delta|
        slope = (spectrum.size * lengths + own) * (1.0 + relative)  # |Qx + q|, absolute values throughout
        drift = relative * (1.0 + math.sqrt(d) * (1.0 + spectrum.skew)) * slope  # of the computed V'(Qx + q)
        lowest = local.curvature.min(axis=1)
        unit = np.maximum(np.abs(local.curvature).max(axis=1), np.abs(local.linear).max(axis=1) / radius)
        shift = np.maximum(np.maximum(np.nan_to_num(excesses, nan=0.0, posinf=0.0), lowest), 0.0) + FLOOR * unit
        denominators = (local.curvature - lowest[:, None]) + shift[:, None]
        gains = ((local.linear / denominators) * local.linear).sum(axis=1)
        price = np.maximum(shift - lowest, 0.0) * reach * reach
        ball = np.where(radius > 0, gains + price, 0.0)
        size = (spectrum.size * lengths + 2.0 * own) * lengths + abs(h)
        losses = spectrum.error * radius * radius + 2.0 * (spectrum.skew * slope * radius + drift * reach)
        rounding = relative * (ball + size + np.abs(local.value) + losses)
        scale = 1.0 + lengths + radius + np.abs(local.linear).max(axis=1) + spectrum.size + own
        bounds = local.value - (ball + losses + rounding + d * d * UNDERFLOW * scale * scale)
    return np.where(np.isfinite(bounds), bounds, -np.inf)
