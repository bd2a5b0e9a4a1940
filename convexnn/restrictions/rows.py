"""Training data as its distinct rows: repetitions become weights, their targets a mean and a constant.

That is the squared loss. For other losses rows are distinct when x or y is, and nothing is left over.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_floats
from convexnn.rigorous import UNIT, gamma

Array = NDArray[np.float64]


@dataclass(frozen=True)
class DistinctRows:
    """Distinct inputs with weights, mean targets and the variance that no function of x can remove.

    For every function f of x::

        sum_i weight_i (f(x_i) - y_i)^2  =  sum_k weight_k (f(x_k) - y_k)^2 + constant

    with original rows i on the left, distinct rows k on the right.

    Parameters
    ----------
    X : array, shape (n, d)
        Distinct inputs, in lexicographic order.
    y : array, shape (n,)
        Weighted mean target of the repetitions of each row.
    weight : array, shape (n,)
        Positive, sums to one.
    constant : float
        Weighted variance of the targets within repeated rows.
    index : array of int, shape (n,)
        One original row number for every distinct row.
    inverse : array of int, shape (number of used original rows,)
        Distinct row of every original row with positive weight.
    used : array of int, shape (number of used original rows,)
        Original row numbers with positive weight.
    fresh : array of bool, shape (n,)
        False for a row whose x is that of the row before: they differ in y alone.
    mean_error : array, shape (n,)
        Bound on the rounding error of y; zero where nothing was averaged.
    """

    X: Array
    y: Array
    weight: Array
    constant: float
    index: NDArray[np.intp]
    inverse: NDArray[np.intp]
    used: NDArray[np.intp]
    fresh: NDArray[np.bool_]
    mean_error: Array

    @property
    def proved_constant(self) -> float:
        """``constant`` rounded down: its own rounding, and the squares of the errors of y, which only add to it."""
        squares = float(self.weight @ self.mean_error**2)
        lost = 4.0 * (len(self.used) + 4) * float(np.finfo(float).smallest_subnormal)  # squares that underflow
        return max(self.constant * (1 - 4 * gamma(len(self.used) + 8)) - 2 * squares - lost, 0.0)

    def select(self, D: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Patterns of the distinct rows from patterns of the original rows.

        Parameters
        ----------
        D : array of bool, shape (original rows, p)

        Returns
        -------
        array of bool, shape (n, p)

        Raises
        ------
        InvalidInputError
            When two equal rows of X have different patterns: no weight vector can produce that.
        """
        chosen: NDArray[np.bool_] = D[self.index]
        same = np.flatnonzero(~self.fresh)
        if not (np.array_equal(chosen[self.inverse], D[self.used]) and np.array_equal(chosen[same], chosen[same - 1])):
            raise InvalidInputError(
                "patterns differ on repeated rows of X, which no unit can do; extract or sample them from this X"
            )
        return chosen


def check_inputs(X: ArrayLike) -> Array:
    """Inputs as a finite float64 matrix with at least one row and one column."""
    array = as_floats(X, "X")
    if array.ndim != 2 or 0 in array.shape:
        raise InvalidInputError(f"X has shape {array.shape}; expected (n_samples, n_features), both at least 1")
    if not np.isfinite(array).all():
        raise InvalidInputError("X holds NaN or infinite values; remove or impute them")
    return array + 0.0  # -0.0 and 0.0 are one value


def check_targets(y: ArrayLike, n: int) -> Array:
    """Targets as a finite float64 vector of length ``n``."""
    array = as_floats(y, "y")
    if array.shape != (n,):
        raise InvalidInputError(f"y has shape {array.shape}; expected ({n},), one target for every row of X")
    if not np.isfinite(array).all():
        raise InvalidInputError("y holds NaN or infinite values; remove or impute them")
    return array


def check_weights(sample_weight: ArrayLike | None, n: int) -> Array:
    """Sample weights scaled to sum to one; equal weights for None."""
    array = np.ones(n) if sample_weight is None else as_floats(sample_weight, "sample_weight")
    if array.shape != (n,):
        raise InvalidInputError(
            f"sample_weight has shape {array.shape}; expected ({n},), one weight for every row of X"
        )
    if not np.isfinite(array).all() or (array < 0).any():
        raise InvalidInputError("sample_weight holds negative, NaN or infinite values; expected nonnegative numbers")
    if not array.any():
        raise InvalidInputError("sample_weight is zero everywhere; at least one row must count")
    scaled: Array = array / array.max()
    return scaled / scaled.sum()


def distinct_rows(
    X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None, *, with_targets: bool = False
) -> DistinctRows:
    """Merge repeated rows of X into weighted rows and drop rows of zero weight.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    sample_weight : array-like, shape (n,), or None
        Nonnegative; only ratios matter.
    with_targets : bool
        Merge rows only when their targets are equal as well, as losses other than the squared one need.

    Returns
    -------
    DistinctRows

    Raises
    ------
    InvalidInputError
        For NaN, infinite values, wrong shapes or unusable weights.
    """
    inputs = check_inputs(X)
    targets = check_targets(y, len(inputs))
    weights = check_weights(sample_weight, len(inputs))
    used = np.flatnonzero(weights)
    keys = np.hstack([inputs, targets[:, None] + 0.0]) if with_targets else inputs
    keys, first, inverse = np.unique(keys[used], axis=0, return_index=True, return_inverse=True)
    rows, inverse = np.ascontiguousarray(keys[:, : inputs.shape[1]]), inverse.ravel()
    fresh = np.r_[True, (rows[1:] != rows[:-1]).any(axis=1)]
    weight = np.bincount(inverse, weights[used])
    shift = targets[used[0]]  # subtracted first: y + 100 keeps its digits, constant targets stay exact
    mean = np.bincount(inverse, weights[used] * (targets[used] - shift)) / weight + shift
    alone = targets[used[first]]  # the mean of equal targets, without rounding
    averaged = np.bincount(inverse, targets[used] != alone[inverse]) > 0
    mean = np.where(averaged, mean, alone)
    largest = np.zeros(len(mean))
    np.maximum.at(largest, inverse, np.abs(targets[used] - shift))
    error = np.where(averaged, 2 * gamma(len(used) + 8) * largest + 2 * UNIT * np.abs(mean), 0.0)
    constant = float(weights[used] @ (targets[used] - mean[inverse]) ** 2)
    if with_targets:
        mean, constant = keys[:, -1].copy(), 0.0
    return DistinctRows(rows, mean, weight / weight.sum(), constant, used[first], inverse, used, fresh, error)
