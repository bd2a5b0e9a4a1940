"""Linear demands on the units of fixed cells: values and slopes on known pieces, and slopes whatever the piece."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.constraints.layout import Layout
from convexnn.constraints.shape import Cap, SlopeDemand

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PieceRows:
    """``low <= sum_i A_ri e_r'u_i + e_r'(linear, constant) <= high`` for all rows r, over all units.

    With ``e = (x, 1)`` that is a value, with ``e = (direction, 0)`` a slope, on the piece where the units ``A_r`` are
    active.

    Attributes
    ----------
    A : array, shape (r, g p)
    E : array, shape (r, d + 1)
    low, high : array, shape (r,)
    """

    A: Array
    E: Array
    low: Array
    high: Array

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.A)


@dataclass(frozen=True)
class WorstRows:
    """``e_r'linear - sum_i (e_r'u_i)_- >= low_r``: slopes on every conceivable piece.

    Attributes
    ----------
    E : array, shape (r, d)
    low : array, shape (r,)
    """

    E: Array
    low: Array

    def __len__(self) -> int:
        """Number of rows."""
        return len(self.E)


def no_rows(layout: Layout) -> PieceRows:
    """No demand."""
    P, d = layout.structure.D.shape[1], layout.shape.n_inputs
    return PieceRows(np.zeros((0, P)), np.zeros((0, d + 1)), np.zeros(0), np.zeros(0))


def joined(*parts: PieceRows) -> PieceRows:
    """All rows, equal ones once."""
    A, E = np.vstack([part.A for part in parts]), np.vstack([part.E for part in parts])
    low, high = np.concatenate([part.low for part in parts]), np.concatenate([part.high for part in parts])
    if not len(A):
        return parts[0]
    first = np.sort(np.unique(np.column_stack([A, E, low, high]), axis=0, return_index=True)[1])
    return PieceRows(A[first], E[first], low[first], high[first])


def anchor_rows(layout: Layout) -> PieceRows:
    """Fixed values and gradients."""
    parts = [no_rows(layout)]
    for value in layout.shape.values:
        parts.append(_at(layout, value.point, np.append(value.point, 1.0)[None], np.array([value.value])))
    for gradient in layout.shape.gradients:
        d = layout.shape.n_inputs
        parts.append(_at(layout, gradient.point, np.eye(d, d + 1), gradient.gradient))
    return joined(*parts)


def _at(layout: Layout, point: Array, E: Array, wanted: Array) -> PieceRows:
    number = int(np.flatnonzero((layout.X0[:, :-1] == point).all(axis=1))[0])
    return PieceRows(np.repeat(layout.D0[number][None], len(E), axis=0), E, wanted, wanted)


def slope_rows(demand: SlopeDemand, active: Array | NDArray[np.bool_], low: float | None = None) -> PieceRows:
    """A demand on the pieces with the given active units, ``active`` of shape (r, g p)."""
    E = np.repeat(np.append(demand.direction, 0.0)[None], len(active), axis=0)
    level = np.full(len(active), demand.low if low is None else low)
    return PieceRows(np.asarray(active, dtype=np.float64), E, level, np.full(len(active), np.inf))


def necessary_rows(layout: Layout) -> PieceRows:
    """What the demands ask on the pieces that hold data: every network whose kinks miss the data has to obey.

    Implements: docs/theory/shape_constraints.md, Proposition 4.
    """
    s = layout.structure
    parts = [no_rows(layout)]
    for demand in layout.shape.slopes:
        active = s.D if demand.domain is None else s.D[_inside(s.X[:, :-1], demand)]
        parts.append(slope_rows(demand, active))
    for cap in layout.shape.caps:
        parts.append(_cap_rows(layout, cap))
    return joined(*parts)


def _inside(X: Array, demand: SlopeDemand) -> NDArray[np.bool_]:
    if demand.domain is None:
        return np.ones(len(X), dtype=bool)
    return np.asarray(((X > demand.domain.lower) & (X < demand.domain.upper)).all(axis=1))


def _cap_rows(layout: Layout, cap: Cap) -> PieceRows:
    """Values at the data in the region (at points not surely in it, nothing)."""
    s = layout.structure
    inside = cap.region.contains(s.X[:, :-1], tol=-1e-9)
    level = np.full(int(inside.sum()), cap.value)
    infinite = np.full(len(level), np.inf)
    low, high = (-infinite, level) if cap.sign > 0 else (level, infinite)
    return PieceRows(s.D[inside], s.X[inside], low, high)


def worst_rows(layout: Layout) -> WorstRows:
    """Demands on slopes on every conceivable piece.

    Implements: docs/theory/shape_constraints.md, Proposition 3.
    """
    d = layout.shape.n_inputs
    demands = layout.shape.slopes
    E = np.array([demand.direction for demand in demands]).reshape(len(demands), d)
    return WorstRows(E, np.array([demand.low for demand in demands]))
