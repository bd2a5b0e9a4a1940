"""Coefficients (a, b, c) of a polynomial activation next to another one, on the projections that the data has.

Least squares over ``t = u'x`` with weights: ``a t^2 + b t + c`` against ``sigma(t)``. On the uniform distribution over
``[-R, R]`` the fit to ReLU is ``(15 / (32 R), 1 / 2, 3 R / 32)``; R = 5 gives (0.09375, 0.5, 0.46875), the (0.09, 0.5,
0.47) of the papers.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import roots_gegenbauer

from convexnn.activations import Activation, get_activation
from convexnn.exceptions import InvalidInputError
from convexnn.restrictions.base import positive
from convexnn.restrictions.rows import check_inputs, check_weights

Array = NDArray[np.float64]

#: Nodes of a quadrature over one coordinate of the sphere, and of one over an interval.
SPHERE_NODES, INTERVAL_NODES = 128, 4001
#: Lengths of samples are summarized by so many quantiles when there are more of them.
MOST_LENGTHS = 2000


def fit_coefficients(
    X: ArrayLike | None = None,
    *,
    activation: str | Activation = "relu",
    half_range: float | None = None,
    sample_weight: ArrayLike | None = None,
) -> tuple[float, float, float]:
    """Least-squares polynomial ``a t^2 + b t + c`` next to an activation, on the projections ``t`` that the data has.

    The projections are ``u'x`` of the samples on unit vectors u of all directions alike, without sampling: given
    ``|x|`` their distribution is known. With ``half_range`` they are uniform on ``[-half_range, half_range]`` instead.

    Implements: docs/theory/polynomial.md, Proposition 6.

    Parameters
    ----------
    X : array-like, shape (n, d), or None
        In the units that the network will see. Not needed with ``half_range``.
    activation : str or Activation
        What is imitated.
    half_range : float or None
        Positive.
    sample_weight : array-like, shape (n,), or None
        Of the samples.

    Returns
    -------
    a, b, c : float

    Raises
    ------
    InvalidInputError
        When there is neither X nor ``half_range``, or either cannot be used, or all projections are zero.
    """
    target = get_activation(activation)
    if half_range is not None:
        t = positive(half_range, "half_range") * np.linspace(-1, 1, INTERVAL_NODES)
        return _least_squares(t, _trapezoid(len(t)), target)
    if X is None:
        raise InvalidInputError("fit_coefficients needs the inputs X, or half_range for a uniform distribution")
    inputs = check_inputs(X)
    lengths, weight = _lengths(np.linalg.norm(inputs, axis=1), check_weights(sample_weight, len(inputs)))
    nodes, share = _sphere_coordinate(inputs.shape[1])
    return _least_squares(np.outer(lengths, nodes).ravel(), np.outer(weight, share).ravel(), target)


def _lengths(lengths: Array, weight: Array) -> tuple[Array, Array]:
    """Lengths and weights, or quantiles of them where there are many."""
    if len(lengths) <= MOST_LENGTHS:
        return lengths, weight
    order = np.argsort(lengths)
    middle = (np.arange(MOST_LENGTHS) + 0.5) / MOST_LENGTHS
    picked = np.interp(middle, np.cumsum(weight[order]) - 0.5 * weight[order], lengths[order])
    return picked, np.full(MOST_LENGTHS, 1 / MOST_LENGTHS)


def _sphere_coordinate(d: int) -> tuple[Array, Array]:
    """Nodes and weights of one coordinate of a uniform unit vector, of density ``(1 - s^2)^((d - 3) / 2)``."""
    if d == 1:
        return np.array([-1.0, 1.0]), np.array([0.5, 0.5])
    if d == 2:  # the limit of the formula: cosines of equally spaced angles
        angles = (np.arange(SPHERE_NODES) + 0.5) * math.pi / SPHERE_NODES
        return np.cos(angles), np.full(SPHERE_NODES, 1 / SPHERE_NODES)
    nodes, weight = roots_gegenbauer(SPHERE_NODES, 0.5 * (d - 2))
    return nodes, weight / weight.sum()


def _trapezoid(n: int) -> Array:
    weight = np.full(n, 1.0)
    weight[[0, -1]] = 0.5
    return weight / weight.sum()


def _least_squares(t: Array, weight: Array, activation: Activation) -> tuple[float, float, float]:
    """Weighted fit, in units of the largest projection."""
    unit = float(np.abs(t).max())
    if unit == 0:
        raise InvalidInputError("all samples are zero: there is no range to fit the activation on")
    s, root = t / unit, np.sqrt(weight)
    design = np.stack([s * s, s, np.ones_like(s)], axis=1)
    a, b, c = np.linalg.lstsq(root[:, None] * design, root * activation(t), rcond=None)[0]
    return float(a) / unit / unit, float(b) / unit, float(c)
