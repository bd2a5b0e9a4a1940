"""Rounding of polynomial networks when they are evaluated in float64."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.quadratic.form import polynomial_coefficients
from convexnn.rigorous import UNIT, gamma

Array = NDArray[np.float64]


def evaluation_error(network: Network, size: Array) -> Array:
    """Bound on ``|computed - exact|`` of every output wherever ``|x| <= size`` entrywise, shape (n, k).

    Parameters
    ----------
    network : Network
        One hidden layer, polynomial or identity activation.
    size : array, shape (n, d)
        Nonnegative.
    """
    a, b, c = (abs(number) for number in polynomial_coefficients(network))
    (W, bias), (V, offset) = network.layers
    with np.errstate(over="ignore", invalid="ignore"):
        total = size @ np.abs(W).T + np.abs(bias)
        active = (a * total + b) * total + c
        error = (2.0 * a * total + b) * gamma(W.shape[1] + 2) * total + 8.0 * UNIT * active
        bound = error @ np.abs(V).T + gamma(V.shape[1] + 2) * (active @ np.abs(V).T + np.abs(offset))
    return np.where(np.isfinite(bound), 1.01 * bound, np.inf)  # the rounding of this computation, second-order terms
