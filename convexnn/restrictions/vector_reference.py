"""Parts of the cvxpy programs with several outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from convexnn.vector_structure import VectorStructure

if TYPE_CHECKING:
    import cvxpy


def vector_squared_loss(structure: VectorStructure, U: cvxpy.Expression, c: cvxpy.Variable) -> cvxpy.Expression:
    """``sum_k om_k |sum_i D_ki (x_k'w_i) vh_i + c - y_k|^2 + constant``."""
    import cvxpy as cp

    activity = cp.multiply(structure.D, structure.X @ U.T)
    prediction = activity @ structure.directions + np.ones((len(structure.y), 1)) @ cp.reshape(
        c, (1, structure.y.shape[1]), order="C"
    )
    residual = cp.multiply(np.sqrt(structure.weight)[:, None], prediction - structure.y)
    return cp.sum_squares(residual) + structure.constant
