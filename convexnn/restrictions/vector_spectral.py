r"""Conjugate of the squared LipSDP norm with fixed output directions: what two matrix multipliers prove.

For multipliers ``z_i`` of the weights ``w_i`` split as ``z_i = P_0'vh_i + p_i`` with any P_0 (outputs x inputs), and
any positive definite M (inputs) and N (outputs)::

    lam LipSDP(W, Vh)^2  >=  theta sum_i <z_i, w_i> - theta^2 rho^2 / lam

    rho^2 = tr M tr N max( |N^(-1/2) P_0 M^(-1/2)|_2^2,  max_i p_i'M^-1 p_i / vh_i'N vh_i )

Proof: ``docs/theory/vector_program.md``, Proposition 1.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Shares of the trace added to the diagonals of M and N; every pair gives a valid bound, the best is kept.
SHARES = (1e-15, 1e-12, 1e-10, 1e-8, 1e-6)
UNIT = 0.5 * float(np.finfo(float).eps)  # of rounding


@dataclass(frozen=True)
class _Spectrum:
    """A positive definite matrix of trace at most ``trace``: eigenvalues (k,) and orthonormal eigenvectors (k, k)."""

    values: Array
    vectors: Array

    @property
    def trace(self) -> float:
        return float(self.values.sum())


def spectra(matrix: Array) -> list[_Spectrum]:
    """Symmetrized, clipped and scaled to trace one, with each share of the trace added to the diagonal."""
    unit = max(float(np.abs(matrix).max()), np.finfo(float).tiny)
    if np.array_equal(matrix, np.eye(len(matrix))):
        return [_Spectrum(np.ones(len(matrix)), matrix)]
    values, vectors = np.linalg.eigh(0.5 * (matrix / unit) + 0.5 * (matrix / unit).T)
    clipped = np.maximum(values, 0.0)
    if not clipped.sum() > 0:
        return [_Spectrum(np.ones_like(values), vectors)]
    return [_Spectrum(clipped / clipped.sum() + share, vectors) for share in SHARES]


def vector_conjugate(
    Z: Array, directions: Array, first: Array, matrices: tuple[Array, Array] | None, weight: float, error: Array
) -> float:
    """Smallest proved ``rho^2 / weight`` of the inequality above.

    Implements: docs/theory/vector_program.md, Proposition 1.

    Parameters
    ----------
    Z : array, shape (p, d)
        Multipliers of the weights.
    directions : array, shape (p, outputs)
        Unit vectors ``vh_i``.
    first : array, shape (outputs, d)
        ``P_0``; need not be optimal.
    matrices : tuple of array, shapes (d, d) and (outputs, outputs), or None
        M and N; symmetrized, negative eigenvalues clipped. Matrices built from Z alone are tried as well.
    weight : float
        lam.
    error : array, shape (p, d)
        The value covers all multipliers that differ from Z entry by entry by at most this.

    Returns
    -------
    float
        Valid for every M, N and P_0; infinite or nan only by overflow.
    """
    size = float(max(np.abs(Z).max(), np.abs(first).max()))
    if size == 0 and not error.any():
        return 0.0
    size = max(size, float(error.max()))
    first = first / size
    P = Z / size - directions @ first
    terms = 2 * np.abs(Z / size) + (directions.shape[1] + 3) * (np.abs(directions) @ np.abs(first))
    slack = error / size + UNIT * terms  # of the division, the product and the difference
    own = spectra(_root_of_gram(P))
    best = _best_of(P, slack, directions, first, own, spectra(np.eye(directions.shape[1])))
    if matrices is not None:
        inner, outer = (spectra(matrix) for matrix in matrices)
        best = min(best, *(_best_of(P, slack, directions, first, M, outer) for M in (inner, own)))
    return best / weight * size * size


def _root_of_gram(P: Array) -> Array:
    """``(sum_i p_i p_i')^(1/2)``, the best M for a sum instead of the maximum."""
    values, vectors = np.linalg.eigh(P.T @ P)
    root: Array = (vectors * np.sqrt(np.maximum(values, 0.0))) @ vectors.T
    return root


def _best_of(
    P: Array, slack: Array, directions: Array, first: Array, inner: list[_Spectrum], outer: list[_Spectrum]
) -> float:
    """Smallest ``rho^2`` over all pairs of shares, rounding of the small products covered."""
    above = [_largest_forms(P, slack, M) for M in inner]
    below = [_smallest_forms(directions, N) for N in outer]
    core = outer[0].vectors.T @ first @ inner[0].vectors  # shares change the eigenvalues only
    bounds = []
    for M, forms in zip(inner, above, strict=True):
        for N, floors in zip(outer, below, strict=True):
            ratio = float(np.max(forms / floors))
            scaled = core / np.sqrt(N.values)[:, None] / np.sqrt(M.values)
            rounding = 2 * sum(core.shape) * UNIT * np.linalg.norm(first) / np.sqrt(N.values.min() * M.values.min())
            norm = float(np.linalg.norm(scaled, 2)) * (1 + 1e-14) + float(rounding)
            bounds.append(M.trace * N.trace * max(ratio, norm**2))
    finite = [bound for bound in bounds if np.isfinite(bound)]
    return min(finite) if finite else float("inf")


def _largest_forms(P: Array, slack: Array, M: _Spectrum) -> Array:
    """Upper values of ``p_i'M^-1 p_i``, shape (p,)."""
    rounding = (len(M.values) + 4) * UNIT * np.abs(P)
    sizes = np.abs(P @ M.vectors) + (slack + rounding) @ np.abs(M.vectors)
    forms: Array = (sizes**2 / M.values).sum(axis=1)
    return forms


def _smallest_forms(directions: Array, N: _Spectrum) -> Array:
    """Lower values of ``vh_i'N vh_i``, shape (p,)."""
    rounding = (len(N.values) + 4) * UNIT * float(np.sqrt(len(N.values)))
    sizes = np.maximum(np.abs(directions @ N.vectors) - rounding, 0.0)
    forms: Array = np.maximum((sizes**2) @ N.values, float(N.values.min()) * (1 - 1e-12))
    return forms


def root_metrics(M: Array, N: Array, directions: Array, weight: float) -> list[Array]:
    """Matrices ``R_i`` with ``|R_i p|^2 = (tr M tr N / weight) p'M^-1 p / vh_i'N vh_i``, both slightly shifted."""
    inner, outer = spectra(M), spectra(N)
    a, b = inner[min(1, len(inner) - 1)], outer[min(1, len(outer) - 1)]
    root = np.sqrt(a.trace * b.trace / weight) * (a.vectors / np.sqrt(a.values)).T
    return [root / np.sqrt(form) for form in _smallest_forms(directions, b)]
