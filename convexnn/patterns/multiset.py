"""ActivationPatterns: the multiset of sign patterns that fixes a convex program."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.patterns.rows import sorted_groups

Bool = NDArray[np.bool_]
Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ActivationPatterns:
    """A multiset of pairs (pattern on the rows of X, sign of the outer weight).

    Parameters
    ----------
    D : array of bool, shape (n, p)
        Column j tells on which rows unit j is active (``x'w + b >= 0``, ties are active).
    s : array, shape (p,)
        Signs of the outer weights, -1 or +1; +1 when omitted.
    counts : array of int, shape (p,)
        Multiplicities; 1 when omitted. Lipschitz programs keep every copy, group-lasso programs need one.
    """

    D: Bool
    s: Array
    counts: NDArray[np.int64]

    def __init__(self, D: ArrayLike, s: ArrayLike | None = None, counts: ArrayLike | None = None) -> None:
        matrix = _checked_pattern_matrix(D)
        p = matrix.shape[1]
        signs = np.ones(p) if s is None else _floats(s, "s")
        number = np.ones(p) if counts is None else _floats(counts, "counts")
        if signs.shape != (p,) or not np.isin(signs, (-1.0, 1.0)).all():
            raise InvalidInputError(f"s must hold {p} signs, each -1 or +1, got shape {signs.shape}.")
        if number.shape != (p,) or not (number >= 1).all() or (number != np.floor(number)).any():
            raise InvalidInputError(f"counts must hold {p} positive integers, got shape {number.shape}.")
        for name, value in (("D", matrix), ("s", signs), ("counts", number.astype(np.int64))):
            value.flags.writeable = False
            object.__setattr__(self, name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        """Rebuild through the constructor, so that copies and pickles are read-only too."""
        return type(self), (self.D, self.s, self.counts)

    @property
    def n_rows(self) -> int:
        """Number of data rows n."""
        return int(self.D.shape[0])

    @property
    def n_patterns(self) -> int:
        """Number of stored columns p, multiplicities not counted."""
        return int(self.D.shape[1])

    def __len__(self) -> int:
        """Size of the multiset, multiplicities counted."""
        return int(self.counts.sum())

    def unique(self) -> ActivationPatterns:
        """Each (pattern, sign) once, in a canonical order, with its multiplicity in ``counts``."""
        first, inverse = sorted_groups(np.packbits(np.vstack([self.D, self.s[None] > 0]), axis=0).T)
        counts = np.bincount(inverse, weights=self.counts)
        return ActivationPatterns(self.D[:, first], self.s[first], counts)

    def expand(self) -> ActivationPatterns:
        """Each pair as often as its multiplicity, all counts one; the order of first copies is kept."""
        index = np.repeat(np.arange(self.n_patterns), self.counts)
        return self.select(index, counts=np.ones(len(index), dtype=np.int64))

    def select(self, index: ArrayLike | slice, counts: ArrayLike | None = None) -> ActivationPatterns:
        """The columns ``index`` (integers, a boolean mask or a slice)."""
        columns = _positions(index, self.n_patterns)
        number = self.counts[columns] if counts is None else counts
        return ActivationPatterns(self.D[:, columns], self.s[columns], number)

    def union(self, other: ActivationPatterns) -> ActivationPatterns:
        """Multiset sum: all pairs of both, multiplicities added."""
        if other.n_rows != self.n_rows:
            raise InvalidInputError(f"Patterns on {self.n_rows} and {other.n_rows} rows cannot be joined.")
        joined = ActivationPatterns(
            np.hstack([self.D, other.D]), np.r_[self.s, other.s], np.r_[self.counts, other.counts]
        )
        return joined.unique()

    def with_both_signs(self) -> ActivationPatterns:
        """Every distinct pattern once with sign +1 and once with -1 (Pilanci & Ergen's program)."""
        columns = self.D[:, sorted_groups(np.packbits(self.D, axis=0).T)[0]]
        p = columns.shape[1]
        return ActivationPatterns(np.hstack([columns, columns]), np.r_[np.ones(p), -np.ones(p)])

    def on_rows(self, index: ArrayLike | slice) -> ActivationPatterns:
        """The same units seen on the rows ``index`` only."""
        return ActivationPatterns(self.D[_positions(index, self.n_rows)], self.s, self.counts)

    def __eq__(self, other: object) -> bool:
        """Equal as multisets: order and the split into copies do not matter."""
        if not isinstance(other, ActivationPatterns) or other.n_rows != self.n_rows:
            return False
        a, b = self.unique(), other.unique()
        return np.array_equal(a.D, b.D) and np.array_equal(a.s, b.s) and np.array_equal(a.counts, b.counts)

    def __hash__(self) -> int:
        """Hash of the canonical form."""
        canonical = self.unique()
        return hash((canonical.D.tobytes(), canonical.s.tobytes(), canonical.counts.tobytes()))

    def __repr__(self) -> str:
        """Sizes on one line."""
        return f"ActivationPatterns({len(self)} units, {self.unique().n_patterns} distinct, {self.n_rows} rows)"


def _positions(index: Any, size: int) -> NDArray[np.intp]:
    """Positions of an index that may be integers, a boolean mask or a slice."""
    try:
        return np.atleast_1d(np.arange(size)[index])
    except IndexError as error:
        raise InvalidInputError(f"The index does not fit {size} entries: {error}") from error


def _floats(values: ArrayLike, name: str) -> Array:
    try:
        return np.array(values, dtype=float)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"{name} cannot be read as an array of numbers: {error}") from error


def _checked_pattern_matrix(D: ArrayLike) -> Bool:
    try:
        matrix = np.array(D)
    except ValueError as error:
        raise InvalidInputError(f"Patterns must be a matrix (rows, patterns): {error}") from error
    if matrix.ndim != 2:
        raise InvalidInputError(f"Patterns must be a matrix (rows, patterns), got shape {matrix.shape}.")
    if matrix.shape[0] == 0 or matrix.shape[1] == 0:
        raise InvalidInputError(f"The pattern set is empty: D has shape {matrix.shape}.")
    if matrix.dtype != bool:
        if not np.isin(matrix, (0, 1)).all():
            raise InvalidInputError("Patterns must be boolean or 0/1.")
        matrix = matrix.astype(bool)
    return matrix
