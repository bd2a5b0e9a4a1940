"""Between the matrices of a polynomial program and the neurons of its network.

A positive semidefinite ``Z = [[Z1, z2], [z2', Z4]]`` with ``tr Z1 = Z4`` is ``sum_j alpha_j [u_j; 1][u_j; 1]'``
with unit vectors ``u_j`` and positive weights, as many as the rank of Z: with ``J = diag(I, -1)`` the trace condition
says ``<J, Z> = 0``, and pairs of vectors of a factor of Z are turned until every one of them has ``p'J p = 0``.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import Polynomial
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network

Array = NDArray[np.float64]

#: Eigenvalues below this part of the largest one are zero.
RANK_TOLERANCE = 1e-13
#: How far the norm of a neuron may be from one when a network becomes a point.
NORM_TOLERANCE = 1e-9


def neural_decomposition(Z: ArrayLike) -> tuple[Array, Array]:
    """Neurons of one matrix: ``Z = sum_j alpha_j [u_j; 1][u_j; 1]'`` with unit ``u_j`` and ``alpha_j > 0``.

    Works on every symmetric matrix: negative eigenvalues are dropped, and where ``tr Z1`` and ``Z4`` differ the factor
    is scaled first so that both are their geometric mean, which keeps the rank. For a feasible Z nothing is changed
    beyond rounding. The vectors to turn are the two with the largest and the smallest ``p'J p``, whose signs differ, so
    the quadratic equation of the angle always has real roots.

    Implements: Bartan and Pilanci (2021), neural decomposition; docs/theory/polynomial.md, Proposition 2.

    Parameters
    ----------
    Z : array-like, shape (d + 1, d + 1)

    Returns
    -------
    units : array, shape (m, d)
        Rows of norm one; m is at most the rank of Z.
    alpha : array, shape (m,)
        Positive; they sum to ``Z4``.
    """
    matrix = np.asarray(Z, dtype=float)
    matrix = 0.5 * (matrix + matrix.T)
    exponent = math.frexp(float(np.abs(matrix).max()))[1]  # exact, and neither squares nor roots leave the range
    vectors = _turned(_balanced_factor(np.ldexp(matrix, -exponent)))
    head, tail = np.linalg.norm(vectors[:, :-1], axis=1), vectors[:, -1]
    kept = head > 0
    units = np.where(tail < 0, -1.0, 1.0)[kept, None] * vectors[kept, :-1] / head[kept, None]
    alpha = np.ldexp(0.5 * (head**2 + tail**2)[kept], exponent)
    return units[alpha > 0], alpha[alpha > 0]


def _balanced_factor(Z: Array) -> Array:
    """Rows ``p_k`` with ``sum_k p_k p_k' = Z`` up to what :func:`neural_decomposition` repairs, shape (rank, d + 1)."""
    values, vectors = np.linalg.eigh(Z)
    kept = values > RANK_TOLERANCE * max(float(values[-1]), 0.0)
    if not kept.any():
        return np.zeros((0, len(Z)))
    P: Array = (vectors[:, kept] * np.sqrt(values[kept])).T
    head, tail = float((P[:, :-1] ** 2).sum()), float((P[:, -1] ** 2).sum())
    if head == 0 or tail == 0:
        return np.zeros((0, len(Z)))
    turn = (tail / head) ** 0.25
    P[:, :-1] *= turn
    P[:, -1] /= turn
    return P


def _turned(P: Array) -> Array:
    """Rows with ``p'J p = 0`` each and the same ``sum_k p_k p_k'``; as many as before."""
    P = P.copy()
    g = _form(P, P)
    rest = list(range(len(P)))
    while len(rest) > 1:
        i, j = max(rest, key=g.__getitem__), min(rest, key=g.__getitem__)
        if g[i] <= 0 or g[j] >= 0:  # what is left is rounding
            break
        t = _root(g[j], float(_form(P[i], P[j])), g[i])
        norm = math.hypot(1.0, t)
        P[i], P[j] = (P[i] + t * P[j]) / norm, (P[j] - t * P[i]) / norm
        g[j] = _form(P[j], P[j])
        rest.remove(i)
    return P


def _form(p: Array, q: Array) -> Array:
    """``p'J q`` of vectors or of rows."""
    return np.einsum("...k,...k->...", p[..., :-1], q[..., :-1]) - p[..., -1] * q[..., -1]


def _root(a: float, half_b: float, c: float) -> float:
    """Root of smallest size of ``a t^2 + 2 half_b t + c`` for ``a < 0 < c``, without cancellation."""
    return -c / (half_b + math.copysign(math.sqrt(half_b * half_b - a * c), half_b))


def matrix_of(units: Array, alpha: Array) -> Array:
    """``sum_j alpha_j [u_j; 1][u_j; 1]'`` for weights that are not negative, shape (d + 1, d + 1)."""
    rows = np.hstack([units, np.ones((len(units), 1))]) * np.sqrt(alpha)[:, None]
    matrix: Array = rows.T @ rows
    matrix[-1, -1] = np.trace(matrix[:-1, :-1])  # the trace condition, exactly
    return matrix


def point_of(units: Array, weights: Array) -> Array:
    """Point ``z`` of neurons with signed weights.

    Parameters
    ----------
    units : array, shape (m, d)
        Rows of norm one.
    weights : array, shape (C, m)

    Returns
    -------
    array, shape (2, C, d + 1, d + 1)
    """
    parts = (np.maximum(weights, 0.0), np.maximum(-weights, 0.0))
    return np.stack([np.stack([matrix_of(units, row) for row in part]) for part in parts])


def repaired(z: Array) -> Array:
    """Nearest feasible point in the sense of :func:`neural_decomposition`, same shape; feasible ones stay."""
    return np.stack([np.stack([matrix_of(*neural_decomposition(Z)) for Z in part]) for part in z])


def network_of(z: Array, coefficients: tuple[float, float, float]) -> Network:
    """Network of a point: the neurons of Z with positive and those of Z' with negative outer weights.

    Implements: Bartan and Pilanci (2021), neural decomposition; docs/theory/polynomial.md, Proposition 2.

    Parameters
    ----------
    z : array, shape (2, C, d + 1, d + 1)
    coefficients : tuple of float

    Returns
    -------
    Network
        One hidden layer without biases, C outputs, at most the sum of the ranks many units; one unit with weight zero
        where there are none.
    """
    n_outputs, n_inputs = z.shape[1], z.shape[2] - 1
    units, weights = [], []
    for sign, part in zip((1.0, -1.0), z, strict=True):
        for output, Z in enumerate(part):
            found, alpha = neural_decomposition(Z)
            columns = np.zeros((n_outputs, len(alpha)))
            columns[output] = sign * alpha
            units.append(found)
            weights.append(columns)
    W, V = np.vstack(units), np.hstack(weights)
    if not len(W):
        W, V = np.eye(1, n_inputs), np.zeros((n_outputs, 1))
    return Network.shallow(W, np.zeros(len(W)), V, 0.0, Polynomial(*coefficients))


def neurons_of(network: object, n_inputs: int, coefficients: tuple[float, float, float]) -> tuple[Array, Array]:
    """Units (m, d) and weights (C, m) of a network that a polynomial program can represent.

    Units with weight zero are left out.

    Raises
    ------
    UnsupportedModelError
        For more than one hidden layer or another activation.
    InvalidInputError
        For biases, units that do not have norm one, or another number of inputs.
    """
    net = as_network(network)
    if not net.is_shallow or not isinstance(net.activation, Polynomial) or net.activation.parameters != coefficients:
        raise UnsupportedModelError(
            f"{net!r} with activation parameters {net.activation.parameters} was given; this program holds networks "
            f"with one hidden layer of polynomial units with the coefficients {coefficients}"
        )
    if net.n_inputs != n_inputs:
        raise InvalidInputError(f"the network takes {net.n_inputs} inputs and X has {n_inputs} columns")
    (W, b), (V, c) = net.layers
    used = V.any(axis=0)
    if b[used].any() or c.any():
        raise InvalidInputError("the network has biases; networks of a polynomial program have none")
    norms = np.linalg.norm(W[used], axis=1)
    if (np.abs(norms - 1) > NORM_TOLERANCE).any():
        raise InvalidInputError(
            f"units of norm {norms.min():g} to {norms.max():g} were given; units of a polynomial program have norm one"
        )
    return W[used] / norms[:, None], V[:, used]
