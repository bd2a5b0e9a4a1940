"""Samples for the safe trainers: an array drawn from in batches, or a function that draws."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.regions.polytope import Polytope
from convexnn.regions.region import Region

Array = NDArray[np.float64]
Sampler = Callable[[int, np.random.Generator], Any]

EVALUATION = 4000  # samples of each class that a network is judged on, drawn once


@dataclass(frozen=True, eq=False)
class Rows:
    """Positive samples and negative ones outside of the regions, each (n, d), raw input units."""

    positive: Array
    negative: Array


@dataclass(frozen=True, eq=False)
class RegionSamples:
    """Where batches come from.

    Attributes
    ----------
    evaluation : Rows
        What networks are judged on; positive samples inside a region stay: they count as missed.
    usable : Rows
        What gradients may use.
    sampler : callable or None
        Draws fresh rows; None draws from ``usable``.
    regions : sequence of Region or Polytope
    """

    evaluation: Rows
    usable: Rows
    sampler: Sampler | None
    regions: Sequence[Region | Polytope]

    @classmethod
    def of(
        cls, X: ArrayLike | Sampler, y: ArrayLike | None, regions: Sequence[Region | Polytope], seed: int
    ) -> RegionSamples:
        """Check samples and split them.

        Parameters
        ----------
        X : array-like, shape (n, d), or callable
            A callable takes a number and a generator, and returns X (all accepted) or (X, y).
        y : array-like, shape (n,), optional
            1 is to be accepted, 0 rejected; by default all are to be accepted.
        regions : sequence of Region or Polytope
        seed : int
            Of the draws that networks are judged on.
        """
        sampler = None
        if callable(X):
            if y is not None:
                raise InvalidInputError("y comes with the samples of a callable X: return (X, y); leave y None.")
            sampler, rng = X, np.random.default_rng([seed, 1])
            X, y = _drawn(sampler, EVALUATION, rng)
        rows = _checked(X, y, regions[0].n_inputs)
        inside = _inside(rows.positive, regions)
        if inside.all():
            raise InvalidInputError(
                f"All {len(inside)} positive samples lie inside the regions, where none can be accepted."
            )
        outside = rows.negative[~_inside(rows.negative, regions)]
        judged = Rows(rows.positive[:EVALUATION], outside[:EVALUATION])
        if sampler is None:
            pick = np.random.default_rng([seed, 1])
            judged = Rows(*(part[_some(len(part), pick)] for part in (rows.positive, outside)))
        return cls(judged, Rows(rows.positive[~inside], outside), sampler, regions)

    def batch(self, size: int, rng: np.random.Generator) -> Rows:
        """Fresh rows of a sampler, or rows of the array: all of a class that has no more than ``size``."""
        if self.sampler is None:
            return Rows(*(_resampled(part, size, rng) for part in (self.usable.positive, self.usable.negative)))
        rows = _checked(*_drawn(self.sampler, size, rng), self.regions[0].n_inputs, asked=False)
        return Rows(rows.positive, rows.negative[~_inside(rows.negative, self.regions)])

    def fingerprint(self) -> str:
        """SHA-256 of the arrays, or of what a sampler draws first."""
        digest = hashlib.sha256()
        for part in (self.usable.positive, self.usable.negative):
            digest.update(repr(part.shape).encode() + np.ascontiguousarray(part).tobytes())
        return digest.hexdigest()


def _drawn(sampler: Sampler, size: int, rng: np.random.Generator) -> tuple[Any, Any]:
    drawn = sampler(size, rng)
    return drawn if isinstance(drawn, tuple) and len(drawn) == 2 else (drawn, None)


def _checked(X: Any, y: Any, n_inputs: int, *, asked: bool = True) -> Rows:
    try:
        points = np.asarray(X, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidInputError(f"X cannot be read as an array of floats: {error}") from error
    if points.ndim != 2 or points.shape[1] != n_inputs or not len(points):
        raise InvalidInputError(f"X must have shape (n, {n_inputs}) with n >= 1, got {points.shape}.")
    if not np.isfinite(points).all():
        raise InvalidInputError("X holds NaN or infinite values.")
    labels = np.ones(len(points)) if y is None else np.asarray(y)
    if labels.shape != (len(points),) or not np.isin(labels, (0, 1)).all():
        raise InvalidInputError(f"y must hold {len(points)} labels, 1 to accept and 0 to reject.")
    if asked and not (labels == 1).any():
        raise InvalidInputError("There is no positive sample (y = 1): nothing to accept.")
    return Rows(points[labels == 1], points[labels == 0])


def _inside(X: Array, regions: Sequence[Region | Polytope]) -> NDArray[np.bool_]:
    found = np.zeros(len(X), dtype=bool)
    for region in regions if len(X) else ():
        found |= region.contains(X)
    return found


def _some(n: int, rng: np.random.Generator) -> NDArray[np.intp]:
    return np.arange(n) if n <= EVALUATION else np.sort(rng.choice(n, EVALUATION, replace=False))


def _resampled(rows: Array, size: int, rng: np.random.Generator) -> Array:
    return rows if len(rows) <= size else rows[rng.integers(len(rows), size=size)]
