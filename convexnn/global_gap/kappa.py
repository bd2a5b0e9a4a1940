r"""The one hard number of the dual of training: ``kappa(nu) = max_{|w| <= 1} |sum_i nu_i relu(x_i'w)|``.

Rows ``x_i`` carry the bias as their last entry where there is one. Whoever bounds kappa works on :class:`ReducedRows`
and hands back a :class:`KappaBracket`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.rigorous import UNIT, gamma, product_up, round_up, row_norms_up, spectral_norm_up, sum_up
from convexnn.values import ByValue

Array = NDArray[np.float64]

#: Singular values below this share of the largest one are left to :attr:`ReducedRows.slack`.
RANK = 1e-11
#: Largest entries of rows and multipliers between which nothing over- or underflows.
SAFE = 1e-60, 1e60


@dataclass(frozen=True, eq=False)
class KappaBracket(ByValue):
    """What a method knows about kappa of some rows and multipliers.

    Attributes
    ----------
    upper : float
        Proved upper bound on kappa; ``inf`` without proof.
    lower : float
        ``|F(w)|`` at the best direction met; zero without one.
    directions : array, shape (k, d)
        Unit vectors worth a new hidden unit, best first, in the coordinates of the rows handed over.
    signs : array, shape (k,)
        Sign of ``F`` there: -1 or +1.
    nodes : int
        Boxes or relaxations that were bounded.
    status : str
        ``"target"`` (upper <= target), ``"above"`` (lower > target), ``"converged"`` or ``"time_limit"``.
    """

    upper: float
    lower: float
    directions: Array
    signs: Array
    nodes: int
    status: str

    def times(self, *factors: float) -> KappaBracket:
        """Bracket of the rows and multipliers times positive factors."""
        return replace(self, upper=product_up(self.upper, *factors), lower=self.lower * math.prod(factors))


def power_of_two(A: Array) -> float:
    """Divisor that brings entries whose products leave the range of floats to size one, without rounding."""
    size = float(np.abs(A).max(initial=0.0))
    if size == 0 or not math.isfinite(size) or SAFE[0] < size < SAFE[1]:
        return 1.0
    return math.ldexp(1.0, math.frexp(size)[1] - 1)


def response(X: Array, nu: Array, W: Array) -> Array:
    """``F(w) = sum_i nu_i relu(x_i'w)`` at the rows w of W, shape (len(W),)."""
    values: Array = np.maximum(W @ X.T, 0.0) @ nu
    return values


def magnitude(X: Array, nu: Array) -> float:
    """Upper bound on ``sum_i |nu_i| |x_i|``, itself a bound on kappa and the unit of its rounding errors."""
    return sum_up([product_up(float(size), abs(float(c))) for size, c in zip(row_norms_up(X), nu, strict=True)])


@dataclass(frozen=True, eq=False)
class ReducedRows(ByValue):
    """Rows and multipliers in an orthonormal basis of the rows' span, with what rounding took from them.

    ::

        kappa(X, nu) <= stretch kappa(rows, nu') + slack

    Attributes
    ----------
    rows : array, shape (m, r)
        Coordinates of the rows with a multiplier other than zero; positive multiples of one row are merged.
    nu : array, shape (m,)
    basis : array, shape (r, d)
        ``w @ basis`` turns a direction here into one of the original rows.
    stretch, slack : float
    """

    rows: Array
    nu: Array
    basis: Array
    stretch: float
    slack: float

    @property
    def rank(self) -> int:
        """Dimension r in which kappa has to be bounded."""
        return int(self.rows.shape[1])

    def upper(self, bound: float) -> float:
        """Bound on kappa of the original rows from one of the reduced rows."""
        return round_up(product_up(max(bound, 0.0), self.stretch) + self.slack)

    def target(self, wanted: float) -> float:
        """Largest bound on kappa of the reduced rows that proves ``wanted`` for the original ones (may be negative)."""
        return (wanted - self.slack) / self.stretch * (1 - 8 * UNIT)


def reduce_rows(X: Array, nu: Array) -> ReducedRows:
    """Drop rows without multiplier, merge parallel ones, and change to an orthonormal basis of the span.

    Implements: docs/theory/global_gap.md, Proposition 2.

    Parameters
    ----------
    X : array, shape (n, d)
    nu : array, shape (n,)

    Returns
    -------
    ReducedRows
        With the errors of the change of basis bounded from the matrices at hand, never assumed.
    """
    used = (nu != 0) & X.any(axis=1)
    rows, weights, error = _merge_parallel(X[used], nu[used])
    if not len(rows):
        return ReducedRows(np.zeros((0, 1)), np.zeros(0), np.eye(1, X.shape[1]), 1.0, 0.0)
    _, size, directions = np.linalg.svd(rows, full_matrices=False)
    basis = directions[size > RANK * size[0]]
    coordinates = rows @ basis.T
    left = row_norms_up(rows - coordinates @ basis)
    left = left + 4.0 * gamma(rows.shape[1] + len(basis)) * row_norms_up(rows) * math.sqrt(len(basis))
    slack = sum_up(np.nextafter(np.abs(weights) * left, np.inf)) + error
    return ReducedRows(coordinates, weights, basis, spectral_norm_up(basis), round_up(slack))


def _merge_parallel(X: Array, nu: Array) -> tuple[Array, Array, float]:
    """Rows of which none is a positive multiple of another up to roundoff, and a bound on the change of F."""
    length = np.linalg.norm(X, axis=1)
    directions = X / np.where(length > 0, length, 1.0)[:, None]
    _, first, group = np.unique(np.round(directions, 13), axis=0, return_index=True, return_inverse=True)
    group = group.ravel()
    if len(first) == len(X):
        return X, nu, 0.0
    ratio = length / length[first[group]]
    merged = np.bincount(group, nu * ratio)
    kept = X[first]
    moved = row_norms_up(X - ratio[:, None] * kept[group]) + 8.0 * UNIT * length
    rounding = 4.0 * gamma(len(X) + 2) * np.abs(nu) * length
    error = sum_up(np.nextafter(np.abs(nu) * moved + rounding, np.inf))
    zero = merged == 0
    return kept[~zero], merged[~zero], error
