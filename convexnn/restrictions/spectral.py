r"""Conjugates of the two spectral regularizers: what a matrix multiplier proves about them.

With ``b_0 = sum_i u_i``, ``b_i = u_i`` (weights only) and the split ``<Z, U> = sum_i p_i'b_i``, ``p_i = z_i - p_0``
for a free vector p_0, every positive definite M (d x d) gives

    lam LipSDP(U)^2                          >=  theta <Z, U> - theta^2 (tr M / lam) max_i p_i'M^-1 p_i
    lam lambda_max(1/4 sum_i b_i b_i'/q_i)   >=  theta <Z, U> - theta^2 (tr M / lam) sum_i q_i p_i'M^-1 p_i

(maximum and sum over i = 0, ..., p). Proof: ``docs/theory/joint_program.md``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

#: Shares of the trace added to the diagonal of M; every one gives a valid bound, the best is kept.
SHARES = (1e-15, 1e-12, 1e-10, 1e-8, 1e-6)


def split(Z: Array, first: Array) -> Array:
    """Rows ``p_0, z_1 - p_0, ..., z_p - p_0``, shape (p + 1, d)."""
    return np.vstack([first[None], Z - first])


def conjugate(P: Array, M: Array | None, weight: float, q: Array | None, error: Array | None = None) -> float:
    """Smallest proved ``(tr M / weight) * (max or q-weighted sum of p_i'M^-1 p_i)``.

    Implements: docs/theory/joint_program.md, Proposition 4.

    Parameters
    ----------
    P : array, shape (p + 1, d)
        Rows of :func:`split`.
    M : array, shape (d, d), or None
        Multiplier matrix; symmetrized, negative eigenvalues clipped. A matrix built from P is tried as well.
    weight : float
        lam.
    q : array, shape (p + 1,), or None
        Fixed multiplier, or None when it is free (maximum).
    error : array, shape (p + 1, d), or None
        The value then covers all P that differ entry by entry by at most this.

    Returns
    -------
    float
        Valid for every M; infinite or nan only by overflow.
    """
    size = float(max(np.abs(P).max(), 0.0 if error is None else error.max()))
    if size == 0:
        return 0.0
    root = np.ones(len(P)) if q is None else np.sqrt(q)
    rows = root[:, None] * (P / size)
    slack = np.zeros_like(rows) if error is None else root[:, None] * (error / size)
    squares, axes = np.linalg.eigh(rows.T @ rows)
    own = _spectrum(np.sqrt(np.maximum(squares, 0.0)), axes)
    spectra = [own] if M is None else [own, _spectrum(*np.linalg.eigh(_symmetric(M)))]
    bounds = [_value(rows, slack, values, vectors, q is None) for spectrum in spectra for values, vectors in spectrum]
    return min(bounds) / weight * size * size  # in this order overflow gives inf


def root_metric(M: Array, weight: float) -> Array:
    """Matrix R with ``|R p|^2 = (tr M / weight) p'M^-1 p`` (M slightly shifted), shape (d, d)."""
    values, vectors = np.linalg.eigh(_symmetric(M))
    values = np.maximum(values, 0.0)
    values = values + max(1e-12 * values.sum(), np.finfo(float).tiny)
    root: Array = np.sqrt(values.sum() / weight) * (vectors / np.sqrt(values)).T
    return root


def _symmetric(M: Array) -> Array:
    """Symmetric part of M scaled to entries of at most one: only its direction matters."""
    unit = max(float(np.abs(M).max()), np.finfo(float).tiny)
    return 0.5 * (M / unit) + 0.5 * (M / unit).T


def _spectrum(values: Array, vectors: Array) -> list[tuple[Array, Array]]:
    clipped = np.maximum(values, 0.0)
    trace = clipped.sum()
    if not trace > 0:
        return [(np.ones_like(clipped), vectors)]
    return [(clipped / trace + share, vectors) for share in SHARES]


def _value(rows: Array, slack: Array, values: Array, vectors: Array, largest: bool) -> float:
    rounding = 4 * len(values) * np.finfo(float).eps * np.abs(rows)  # of the product below
    sizes = np.abs(rows @ vectors) + (slack + rounding) @ np.abs(vectors)
    forms = (sizes**2 / values).sum(axis=1)
    return float(values.sum() * (forms.max() if largest else forms.sum()))
