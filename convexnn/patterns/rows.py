"""Distinct rows of the inputs, in an order that does not depend on how the rows came."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]


def distinct(X: ArrayLike) -> tuple[Array, NDArray[np.intp]]:
    """Distinct rows of X in lexicographic order, and the distinct row of every original row.

    Parameters
    ----------
    X : array-like, shape (n, d)
        Finite numbers, at least one row and one column.

    Returns
    -------
    rows : array, shape (number of distinct rows, d)
    inverse : array of int, shape (n,)
        ``rows[inverse]`` is X.
    """
    try:
        array = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"X cannot be read as an array of floats: {error}") from error
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidInputError(f"X has shape {array.shape}; expected (n_samples, n_features), both at least 1.")
    if not np.isfinite(array).all():
        raise InvalidInputError("X holds NaN or infinite values; remove or impute them.")
    rows, inverse = np.unique(array + 0.0, axis=0, return_inverse=True)  # -0.0 and 0.0 are one value
    return rows, inverse.ravel()


def standardize(rows: Array) -> tuple[Array, Array, Array]:
    """Rows with mean 0 and standard deviation 1 a feature; constant features become 0.

    Returns
    -------
    scaled : array, shape (n, d)
        ``(rows - mean) / scale``.
    mean, scale : arrays, shape (d,)
    """
    low = rows.min(axis=0)
    mean = low + (rows - low).mean(axis=0)
    scale = rows.std(axis=0)
    constant = low == rows.max(axis=0)
    scale = np.where(constant | (scale == 0), 1.0, scale)
    mean = np.where(constant, low, mean)
    return (rows - mean) / scale, mean, scale
