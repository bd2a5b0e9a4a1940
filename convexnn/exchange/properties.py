"""Properties of a network: boxes of inputs, and outputs that are unsafe on them; values only, no network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.values import ByValue

Array = NDArray[np.float64]


def _floats(values: Any, shape: tuple[int | None, ...], label: str) -> Array:
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{label} cannot be read as an array of numbers: {error}") from error
    fits = array.ndim == len(shape) and all(want in (None, have) for want, have in zip(shape, array.shape, strict=True))
    if not fits or not np.isfinite(array).all():
        raise InvalidInputError(f"{label} must be finite with shape {shape}, got shape {array.shape}.")
    array.flags.writeable = False
    return array


@dataclass(frozen=True, eq=False)
class Case(ByValue):
    """One unsafe set: ``lower <= x <= upper`` and ``rows f(x) + input_rows x + offset >= 0``, all rows.

    Attributes
    ----------
    lower, upper : array, shape (d,)
    rows : array, shape (q, k)
        Without rows every input of the box is unsafe.
    offset : array, shape (q,)
    input_rows : array, shape (q, d)
        Zero by default.
    strict : bool array, shape (q,)
        Rows that mean ``> 0``. A proof covers the closed set; a counterexample must be in the set itself.
    """

    lower: Array
    upper: Array
    rows: Array
    offset: Array
    input_rows: Array = None  # type: ignore[assignment]
    strict: NDArray[np.bool_] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        """Check shapes and make everything read-only float64."""
        lower = _floats(self.lower, (None,), "The lower corner of a case")
        d = len(lower)
        rows = _floats(self.rows, (None, None), "The rows of a case")
        q = len(rows)
        fields: dict[str, Any] = {"lower": lower, "rows": rows}
        fields["upper"] = _floats(self.upper, (d,), "The upper corner of a case")
        fields["offset"] = _floats(self.offset, (q,), "The offset of a case")
        inner = np.zeros((q, d)) if self.input_rows is None else self.input_rows
        fields["input_rows"] = _floats(inner, (q, d), "The input rows of a case")
        fields["strict"] = np.zeros(q, dtype=bool) if self.strict is None else np.array(self.strict, dtype=bool)
        if d == 0 or not (lower <= fields["upper"]).all() or fields["strict"].shape != (q,):
            raise InvalidInputError("A case needs corners lower <= upper of shape (d,) and one strict flag a row.")
        for name, value in fields.items():
            object.__setattr__(self, name, value)

    def values(self, X: Array, Y: Array) -> Array:
        """``rows y + input_rows x + offset`` at inputs (n, d) with outputs (n, k), shape (n, q)."""
        return np.asarray(Y @ self.rows.T + X @ self.input_rows.T + self.offset)

    def contains(self, X: Array, Y: Array) -> NDArray[np.bool_]:
        """Whether inputs (n, d) with outputs (n, k) are unsafe, in float64 and without tolerance, shape (n,)."""
        values = self.values(X, Y)
        beyond = np.where(self.strict, values > 0, values >= 0).all(axis=1)
        return np.asarray(beyond & (self.lower <= X).all(axis=1) & (self.upper >= X).all(axis=1))


@dataclass(frozen=True, eq=False)
class Property(ByValue):
    """Unsafe sets; the property holds when a network reaches none of them (VNN-LIB: ``unsat``).

    Attributes
    ----------
    cases : tuple of Case
    n_inputs, n_outputs : int
    """

    cases: tuple[Case, ...]
    n_inputs: int
    n_outputs: int

    def __post_init__(self) -> None:
        """Check that the cases are of one size."""
        object.__setattr__(self, "cases", tuple(self.cases))
        if self.n_inputs < 1 or self.n_outputs < 1:
            raise InvalidInputError("A property needs one input and one output at least.")
        for case in self.cases:
            if (len(case.lower), case.rows.shape[1]) != (self.n_inputs, self.n_outputs):
                raise InvalidInputError(
                    f"Every case must have {self.n_inputs} inputs and {self.n_outputs} outputs, "
                    f"got {len(case.lower)} and {case.rows.shape[1]}."
                )

    @classmethod
    def of_classification(
        cls, x: ArrayLike, label: int, radius: float, *, n_outputs: int, clip: tuple[float, float] | None = None
    ) -> Property:
        """The class of a sample is the same on an linf ball: unsafe is ``f_t >= f_label`` for some t.

        Parameters
        ----------
        x : array, shape (d,)
        label : int
            With one output 1 stands for f > 0 and 0 for f < 0.
        radius : float
            Raw input units.
        n_outputs : int
        clip : pair of float, optional
            Data range; the ball is cut to it.
        """
        point = _floats(x, (None,), "The sample")
        low, high = (-np.inf, np.inf) if clip is None else clip
        lower, upper = np.maximum(point - radius, low), np.minimum(point + radius, high)
        if not (np.isfinite(radius) and radius >= 0 and (lower <= upper).all()):
            raise InvalidInputError(f"The ball of radius {radius!r} around the sample, cut to {clip}, is empty.")
        if not 0 <= label < max(n_outputs, 2):
            raise InvalidInputError(f"There is no class {label!r} among {max(n_outputs, 2)}.")
        if n_outputs == 1:
            rows = [np.array([[-1.0 if label == 1 else 1.0]])]
        else:
            rows = [np.eye(n_outputs)[[t]] - np.eye(n_outputs)[[label]] for t in range(n_outputs) if t != label]
        return cls(tuple(Case(lower, upper, row, np.zeros(1)) for row in rows), len(point), n_outputs)
