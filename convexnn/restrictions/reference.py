"""Parts of the cvxpy programs that all of them share, and how their multipliers are read back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.program import Dual
from convexnn.structure import ConeStructure

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]


def mean_loss(
    structure: ConeStructure, U: cvxpy.Expression, c: cvxpy.Variable
) -> tuple[cvxpy.Expression, list[cvxpy.Constraint]]:
    """``sum_k om_k l(sum_i D_ki x_k'u_i + c; y_k) + constant``.

    For losses other than the squared one the predictions are a variable ``f`` of their own, so that the solver hands
    over their multiplier: a loss with kinks does not tell it afterwards.
    """
    import cvxpy as cp

    prediction = cp.sum(cp.multiply(structure.D, structure.X @ U.T), axis=1) + c
    if structure.is_squared:
        residual = cp.multiply(np.sqrt(structure.weight), prediction - structure.y)
        return cp.sum_squares(residual) + structure.constant, []
    f = cp.Variable(len(structure.y), name="f")
    loss = structure.weight @ structure.sample_loss.cvxpy(f, structure.y) + structure.constant
    return loss, [(prediction == f).set_label("predictions")]


def read_dual(structure: ConeStructure, problem: cvxpy.Problem, U: Array, matrix: Array | None = None) -> Dual:
    """Multipliers of a solved problem: of the predictions (from ``U`` where they are no variable) and of the rows."""
    predictions = labelled_dual(problem, "predictions")
    residual = structure.slopes(U) if predictions is None else predictions
    return Dual(residual, row_multipliers(structure, problem), matrix)


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
