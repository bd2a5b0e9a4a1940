"""Small work on multipliers: residual of stationarity, refitted rows, best scaling."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from convexnn.program import Dual
from convexnn.restrictions.cones import nonnegative_fit
from convexnn.structure import ConeStructure

Array = NDArray[np.float64]

#: Sums of products below this have lost digits to underflow and prove nothing.
SMALLEST = 1e-280


def is_usable(dual: Dual, structure: ConeStructure) -> bool:
    """Whether a dual has the shapes of the program and holds finite numbers."""
    n, p = structure.S.shape
    size = structure.n_weights + p + 1
    arrays = [(dual.residual, (n,)), (dual.rows, (n, p))]
    if dual.matrix is not None:
        arrays.append((dual.matrix, (size, size)))
    return all(np.shape(array) == shape and np.isfinite(array).all() for array, shape in arrays)


def stationarity(structure: ConeStructure, p: Array, rows: Array) -> tuple[Array, Array]:
    """``G'rows - A'p`` and a bound on its roundoff, entry by entry, both of shape (p, d + 1).

    Long multipliers of thin cones cancel in ``G'rows``; the bound is the usual one, the number of terms times
    the unit roundoff times the same sum of absolute values.
    """
    Z = structure.slack_adjoint(rows) - structure.adjoint(p)
    size = np.abs(p) + structure.weight * np.abs(p).sum()
    terms = np.abs(structure.S) * rows + size[:, None] * structure.D
    return Z, (len(p) + 8) * np.finfo(float).eps * (terms.T @ np.abs(structure.X))


def fit_rows(structure: ConeStructure, dual: Dual, offset: Array, metric: Callable[[int], Array]) -> Array:
    """Row multipliers ``L_i = argmin |M_i (G_i'L_i - wanted_i)|`` over ``L_i >= 0``, shape (n, p).

    Parameters
    ----------
    structure : ConeStructure
    dual : Dual
        Its residual gives what stationarity asks of every unit; its rows stay where a fit does not end.
    offset : array, shape (k,)
        Added to the first k coordinates of what is asked.
    metric : callable
        Unit number to M_i, shape (d + 1, d + 1).
    """
    wanted = structure.adjoint(dual.residual)
    wanted[:, : len(offset)] += offset
    fitted = np.maximum(dual.rows, 0.0)
    for i, target in enumerate(wanted):
        M = metric(i)
        rows = nonnegative_fit(M @ (structure.S[:, i, None] * structure.X).T, M @ target)
        if rows is not None:
            fitted[:, i] = rows
    return fitted


def best_scaling(linear: float, quadratic: float, limit: float) -> float:
    """Maximum of ``theta linear - theta^2 quadratic`` over ``0 <= theta <= limit``; zero when that is not finite."""
    if not (SMALLEST < linear < math.inf and SMALLEST < quadratic < math.inf and limit > 0):
        return 0.0
    theta = min(linear / (2 * quadratic), limit)
    value = theta * linear - theta * theta * quadratic
    return value if math.isfinite(value) else 0.0
