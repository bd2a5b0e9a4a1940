"""Training rows in canonical form: checked, encoded, distinct, sorted, with weights that sum to one.

Repeating a row and doubling its weight give the same arrays bit for bit, and so does reordering the rows;
a trainer that starts from them inherits both symmetries.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.utils import check_array

from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]

BINARY_LOSSES = ("hinge", "squared_hinge", "logistic")
CLASS_LOSSES = ("cross_entropy", "multi_margin")
LARGEST = 1e100  # squares of larger values overflow
SMALLEST = 1e-100  # squares of smaller deviations underflow


@dataclass(frozen=True, eq=False)
class Rows:
    """Distinct rows.

    Parameters
    ----------
    X : array, shape (n, d)
    target : array, shape (n, k)
        Values (squared loss), -1 / +1 (binary losses), or class indices in one column (class losses).
    weight : array, shape (n,)
        Positive, sums to one.
    n_outputs : int
        Outputs that a network for these targets needs.
    """

    X: Array
    target: Array
    weight: Array
    n_outputs: int

    def __len__(self) -> int:
        """Count the distinct rows."""
        return len(self.X)

    def split(self, fraction: float, rng: np.random.Generator) -> tuple[Rows, Rows]:
        """Training and held-out rows; repetitions of a row stay together.

        Parameters
        ----------
        fraction : float
            Part of the distinct rows held out, in (0, 1); at least one row lands on each side.
        """
        if len(self) < 2:
            raise InvalidInputError("A validation fraction needs at least two distinct rows, got one.")
        count = min(max(1, round(fraction * len(self))), len(self) - 1)
        order = rng.permutation(len(self))
        return self._take(np.sort(order[count:])), self._take(np.sort(order[:count]))

    def _take(self, index: NDArray[np.intp]) -> Rows:
        weight = self.weight[index]
        return Rows(self.X[index], self.target[index], weight / weight.sum(), self.n_outputs)


def canonical_rows(X: Any, y: Any, sample_weight: Any = None, *, loss: str = "squared", n_outputs: int = 0) -> Rows:
    """Check, encode and merge the rows of a training problem.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,) or (n, k)
        Squared loss: numbers. Binary losses: 0 / 1 or -1 / +1, one column per output. Class losses: 0..k-1.
    sample_weight : array-like, shape (n,), optional
        Nonnegative; rows of weight zero are dropped.
    loss : str, default="squared"
    n_outputs : int, default=0
        Least number of classes of a class loss (validation rows need not show every class).

    Raises
    ------
    InvalidInputError
        For NaN, infinite or huge values, wrong shapes, labels that do not fit the loss, no positive weight.
    """
    inputs = _checked(X, "X", ensure_2d=True)
    target, outputs = _encode(_checked(y, "y", ensure_2d=False), loss, n_outputs)
    if len(target) != len(inputs):
        raise InvalidInputError(f"X has {len(inputs)} rows but y has {len(target)}; they must agree.")
    weight = _checked_weight(sample_weight, len(inputs))
    keep = weight > 0
    table = np.hstack([inputs, target])[keep] + 0.0  # -0.0 and 0.0 are one value
    distinct, index = np.unique(table, axis=0, return_inverse=True)
    merged = np.bincount(index.ravel(), weights=weight[keep], minlength=len(distinct))
    d = inputs.shape[1]
    return Rows(distinct[:, :d].copy(), distinct[:, d:].copy(), merged / merged.sum(), outputs)


def weighted_scale(values: Array, weight: Array) -> tuple[Array, Array]:
    """Weighted mean and standard deviation of each column; the deviation of a constant column counts as 1.

    Parameters
    ----------
    values : array, shape (n, d)
    weight : array, shape (n,)
        Sums to one.
    """
    constant = np.ptp(values, axis=0) <= SMALLEST
    mean = np.where(constant, values[0], weight @ values)  # the value itself: the deviation is exactly zero
    deviation = values - mean
    unit = np.where(constant, 1.0, np.abs(deviation).max(axis=0))
    spread = unit * np.sqrt(weight @ (deviation / unit) ** 2)  # scaled: tiny columns do not underflow
    return mean, np.where(constant, 1.0, spread)


def _checked(values: Any, label: str, *, ensure_2d: bool) -> Array:
    try:
        array = check_array(values, dtype=np.float64, ensure_2d=ensure_2d, allow_nd=False, input_name=label)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{label} is not usable: {error}") from error
    if not ensure_2d and array.ndim == 0:
        raise InvalidInputError(f"{label} must have one value per row, got a single number.")
    refuse_overflow(array, label)
    return np.asarray(array, dtype=np.float64)


def refuse_overflow(array: Array, label: str) -> None:
    """InvalidInputError when the square of an entry would overflow."""
    if np.abs(array).max(initial=0.0) > LARGEST:
        raise InvalidInputError(f"{label} holds a value beyond {LARGEST:g}, whose square overflows; rescale it.")


def _checked_weight(sample_weight: Any, n: int) -> Array:
    if sample_weight is None:
        return np.ones(n)
    weight = _checked(sample_weight, "sample_weight", ensure_2d=False)
    if weight.shape != (n,):
        raise InvalidInputError(f"sample_weight must have shape ({n},), got {weight.shape}.")
    if (weight < 0).any():
        raise InvalidInputError("sample_weight must be nonnegative.")
    if not weight.any():
        raise InvalidInputError("sample_weight is zero everywhere; at least one row needs a positive weight.")
    return weight


def _encode(y: Array, loss: str, n_outputs: int) -> tuple[Array, int]:
    if loss in CLASS_LOSSES:
        return _class_indices(y, loss, n_outputs)
    columns = y if y.ndim == 2 else y[:, None]
    if loss in BINARY_LOSSES:
        columns = _signs(columns, loss)
    return columns, columns.shape[1]


def _signs(y: Array, loss: str) -> Array:
    if np.isin(y, (-1.0, 1.0)).all():
        return y
    if np.isin(y, (0.0, 1.0)).all():
        return 2 * y - 1
    raise InvalidInputError(
        f"loss={loss!r} needs labels 0 / 1 or -1 / +1 (one column per output); got values from {y.min():g} to "
        f"{y.max():g}. For more classes use 'cross_entropy' or 'multi_margin'."
    )


def _class_indices(y: Array, loss: str, n_outputs: int) -> tuple[Array, int]:
    column = y[:, 0] if y.ndim == 2 and y.shape[1] == 1 else y
    if column.ndim != 1 or (column != np.floor(column)).any() or (column < 0).any():
        raise InvalidInputError(f"loss={loss!r} needs class indices 0..k-1, one per row.")
    classes = max(int(column.max()) + 1, 2)
    if classes > max(n_outputs, 10_000):
        raise InvalidInputError(f"loss={loss!r} found the class index {classes - 1}; encode labels as 0..k-1.")
    if n_outputs and classes > n_outputs:
        raise InvalidInputError(f"Found the class index {classes - 1}, but there are only {n_outputs} outputs.")
    return column[:, None], max(classes, n_outputs)
