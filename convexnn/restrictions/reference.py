"""Parts of the cvxpy programs that all of them share, and how their multipliers are read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.structure import ConeStructure

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]


def squared_loss(structure: ConeStructure, U: cvxpy.Expression, c: cvxpy.Variable) -> cvxpy.Expression:
    """``sum_k om_k (sum_i D_ki x_k'u_i + c - y_k)^2 + constant``."""
    import cvxpy as cp

    prediction = cp.sum(cp.multiply(structure.D, structure.X @ U.T), axis=1) + c
    residual = cp.multiply(np.sqrt(structure.weight), prediction - structure.y)
    return cp.sum_squares(residual) + structure.constant


def cone_rows(structure: ConeStructure, U: cvxpy.Expression) -> list[cvxpy.Constraint]:
    """Cone rows ``S_ki x_k'u_i >= 0``, labelled "cones"; none for a gated program."""
    import cvxpy as cp

    if not structure.has_cones:
        return []
    cones = cp.multiply(structure.S, structure.X @ U.T) >= 0
    return [cones.set_label("cones")]


def row_multipliers(structure: ConeStructure, problem: cvxpy.Problem) -> Array:
    """Row multipliers of a solved problem, clipped at zero; zero where there are no cones."""
    value = labelled_dual(problem, "cones")
    return np.zeros_like(structure.S) if value is None else np.maximum(value, 0.0)


def labelled_dual(problem: cvxpy.Problem, label: str) -> Array | None:
    """Multiplier of the constraint with this label, or None when there is no constraint or no value.

    cvxpy's signs are ours: for ``minimize f`` with ``expr >= 0`` or ``M >> 0`` the multiplier is nonnegative
    (semidefinite) and the Lagrangian is ``f - <multiplier, expr>``.
    """
    for constraint in problem.constraints:
        if constraint.label == label and constraint.dual_value is not None:
            return np.asarray(constraint.dual_value, dtype=float)
    return None
