"""Training data in two views: the rows that count, as they came, and the distinct ones with weights."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.patterns import ActivationPatterns
from convexnn.restrictions import ReluGroupLasso
from convexnn.restrictions.rows import DistinctRows, distinct_rows

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrainingRows:
    """Rows of positive weight, and the distinct rows on which everything is computed.

    Parameters
    ----------
    X : array, shape (n, d)
    y : array, shape (n,)
    weight : array, shape (n,), or None
    distinct : DistinctRows
    count : int
        Rows that came, those of weight zero included.
    """

    X: Array
    y: Array
    weight: Array | None
    distinct: DistinctRows
    count: int

    @staticmethod
    def of(X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None) -> TrainingRows:
        """Check the data and drop rows of weight zero."""
        distinct = distinct_rows(X, y, sample_weight)
        used = distinct.used
        weight = None if sample_weight is None else np.asarray(sample_weight, dtype=float)[used]
        inputs, targets = np.asarray(X, dtype=float), np.asarray(y, dtype=float)
        return TrainingRows(inputs[used], targets[used], weight, distinct, len(inputs))

    def given(self, nu: Array) -> Array:
        """Multipliers of all rows that came, shape (count,); one of equal rows carries what they have together."""
        whole = np.zeros(self.count)
        whole[self.distinct.index] = nu
        return whole

    def program(self, patterns: ActivationPatterns, lam: float) -> ReluGroupLasso:
        """The l2 program over patterns of the distinct rows; its objective counts every row that came."""
        seen = ActivationPatterns(patterns.D[self.distinct.inverse], patterns.s)
        return ReluGroupLasso(self.X, self.y, seen, lam, sample_weight=self.weight)
