"""Distinct rows of the inputs, in an order that does not depend on how the rows came."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_floats

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
    array = as_floats(X, "X")
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidInputError(f"X has shape {array.shape}; expected (n_samples, n_features), both at least 1.")
    if not np.isfinite(array).all():
        raise InvalidInputError("X holds NaN or infinite values; remove or impute them.")
    array = array + 0.0  # -0.0 and 0.0 are one value
    first, inverse = sorted_groups(_ordered_bytes(array))
    return array[first], inverse


def _ordered_bytes(array: Array) -> NDArray[np.uint8]:
    """Bytes of each row whose order is the lexicographic order of the numbers, shape (n, 8 d)."""
    bits = np.ascontiguousarray(array).view(np.uint64)
    top = np.uint64(1 << 63)
    ordered = np.where(bits & top, ~bits, bits | top).astype(">u8")  # negative numbers count down
    return ordered.view(np.uint8).reshape(len(array), -1)


def sorted_groups(keys: NDArray[np.uint8]) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """First row of each group of equal rows of bytes, groups in lexicographic order, and the group of every row.

    The same as ``numpy.unique`` with ``axis=0``, but comparing rows as strings of bytes is many times faster.
    """
    rows = [row.tobytes() for row in keys]
    first: dict[bytes, int] = {}
    for index, row in enumerate(rows):
        first.setdefault(row, index)
    names = sorted(first)
    group = {name: number for number, name in enumerate(names)}
    return np.array([first[name] for name in names], dtype=np.intp), np.array(
        [group[row] for row in rows], dtype=np.intp
    )


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
