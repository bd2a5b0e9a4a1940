"""Parts of the cvxpy programs with several outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convexnn.vector_structure import VectorStructure

if TYPE_CHECKING:
    import cvxpy


def vector_mean_loss(
    structure: VectorStructure, U: cvxpy.Expression, c: cvxpy.Variable
) -> tuple[cvxpy.Expression, list[cvxpy.Constraint]]:
    """``sum_k om_k l(sum_i D_ki (x_k'w_i) vh_i + c; y_k) + constant``, summed over the outputs; see ``mean_loss``."""
    import cvxpy as cp

    activity = cp.multiply(structure.D, structure.X @ U.T)
    prediction = activity @ structure.directions + np.ones((len(structure.y), 1)) @ cp.reshape(
        c, (1, structure.y.shape[1]), order="C"
    )
    return loss_of_predictions(structure, prediction)


def loss_of_predictions(
    structure: VectorStructure, prediction: cvxpy.Expression
) -> tuple[cvxpy.Expression, list[cvxpy.Constraint]]:
    """Weighted loss of predictions (n, outputs), which are a variable of their own unless the loss is squared."""
    import cvxpy as cp

    if structure.is_squared:
        residual = cp.multiply(np.sqrt(structure.weight)[:, None], prediction - structure.y)
        return cp.sum_squares(residual) + structure.constant, []
    f = cp.Variable(structure.y.shape, name="f")
    columns = range(structure.y.shape[1])
    losses = sum(structure.weight @ structure.sample_loss.cvxpy(f[:, c], structure.y[:, c]) for c in columns)
    return losses + structure.constant, [(prediction == f).set_label("predictions")]
