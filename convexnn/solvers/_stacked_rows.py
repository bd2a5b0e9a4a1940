"""Rows ``e_0 ~ sum_i u_i, e_i ~ u_i`` of the spectral regularizers, a linear map of the units, and its adjoint."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def stacked_rows(U: Array, scale: Array, row_scale: Array) -> Array:
    """``E``: scaled rows of ``[sum_i u_i; u_1; ...; u_p]``, shape (p + 1, d).

    Parameters
    ----------
    U : array, shape (d + 1, p)
    scale : array, shape (d, 1)
        Sizes of the features.
    row_scale : array, shape (p + 1,)
        Factors of the rows.
    """
    E = np.empty((len(row_scale), len(scale)))
    E[1:] = (U[: len(scale)] / scale).T
    E[0] = E[1:].sum(axis=0)
    E *= row_scale[:, None]
    return E


def stacked_adjoint(rows: Array, scale: Array, row_scale: Array, d1: int) -> Array:
    """Adjoint of :func:`stacked_rows`, shape (d1, p), zero beyond the rows of ``scale``."""
    scaled = rows * row_scale[:, None]
    g = np.zeros((d1, len(rows) - 1))
    g[: len(scale)] = (scaled[1:] + scaled[:1]).T / scale
    return g


def fixed_row_scale(q: Array) -> Array:
    """Factors of the rows for fixed corners q (p + 1,): ``C = diag(q)^(-1/2) B / 2``."""
    return np.asarray(0.5 / np.sqrt(np.maximum(q, 1e-12 * q.max())))
