"""Non-convex descent on the training objective itself: it moves units over pattern boundaries, which no master does."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from convexnn.structure import ConeStructure

Array = NDArray[np.float64]


def descend(data: ConeStructure, lam: float, W: Array, v: Array, max_iter: int = 300) -> tuple[Array, Array]:
    """L-BFGS on ``MSE + lam (|W|^2 + |v|^2)`` over hidden units and outer weights, output bias eliminated.

    Parameters
    ----------
    data : ConeStructure
        Rows, targets and weights; its patterns play no role.
    lam : float
    W : array, shape (m, d + 1)
        Hidden units with their biases.
    v : array, shape (m,)
    max_iter : int

    Returns
    -------
    W, v : arrays
        Where the descent ended; its objective is not above that of the start, up to roundoff.
    """
    m, width = W.shape

    def value(point: Array) -> tuple[float, Array]:
        units, outer = point[: m * width].reshape(m, width), point[m * width :]
        active = np.maximum(data.X @ units.T, 0.0)
        raw = active @ outer
        residual = raw - data.weight @ raw - data.y_centred
        slope = 2 * data.weight * residual  # sums to zero: the best output bias is in
        back = (np.multiply.outer(slope, outer) * (active > 0)).T @ data.X
        gradient = np.concatenate([back.ravel(), active.T @ slope]) + 2 * lam * point
        return float(data.weight @ residual**2 + lam * (point @ point)), gradient

    start = np.concatenate([W.ravel(), v])
    found = minimize(
        value,
        start,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": max_iter, "maxfun": 2 * max_iter, "maxcor": 20, "ftol": 1e-13, "gtol": 1e-9},
    ).x
    return found[: m * width].reshape(m, width), found[m * width :]
