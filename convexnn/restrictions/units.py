"""Between hidden units of a network and points of a program: merge, place, split."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import ReLU
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network

Array = NDArray[np.float64]

#: Relative slack down to which a unit still counts as inside a cone: ties and roundoff.
TIE = 1e-9


def checked_network(model: Any, n_inputs: int) -> Network:
    """Model as a shallow ReLU network with one output and ``n_inputs`` inputs.

    Raises
    ------
    UnsupportedModelError
        For another depth, activation or number of outputs.
    InvalidInputError
        For another number of inputs.
    """
    network = as_network(model)
    if not network.is_shallow or not isinstance(network.activation, ReLU) or network.n_outputs != 1:
        raise UnsupportedModelError(
            "a convex training program represents one hidden ReLU layer with one output; this network has "
            f"{len(network.n_hidden)} hidden layer(s), activation {network.activation.name!r} "
            f"and {network.n_outputs} output(s)"
        )
    if network.n_inputs != n_inputs:
        raise InvalidInputError(f"the network takes {network.n_inputs} inputs, but X has {n_inputs} columns")
    return network


def nonzero_rows(A: Array) -> NDArray[np.bool_]:
    """Which rows of A are not zero, shape (rows,)."""
    mask: NDArray[np.bool_] = np.any(A != 0, axis=1)
    return mask


def merge(network: Network) -> Array:
    """Merged units ``u_i = v_i (w_i, b_i)`` of a shallow network, shape (m, d + 1)."""
    merged: Array = network.v[:, None] * np.hstack([network.W, network.b[:, None]])
    return merged


def hidden(network: Network) -> Array:
    """Hidden units ``(w_i, b_i)`` of a shallow network, shape (m, d + 1)."""
    return np.hstack([network.W, network.b[:, None]])


def relative_slack(X: Array, S: Array, U: Array, floor: float = 0.0) -> Array:
    """``S_ki x_k'u_i / (|x_k| |u_i|)``, shape (n, p), zero for zero units.

    ``|u_i|`` counts as at least ``floor max_j |u_j|``.
    """
    size = np.linalg.norm(U, axis=1)
    size = np.maximum(size, floor * size.max(initial=0.0))
    scale = np.linalg.norm(X, axis=1)[:, None] * size[None]
    products = S * (X @ U.T)
    slack: Array = np.divide(products, scale, out=np.zeros_like(products), where=scale > 0)
    return slack


def place(X: Array, S: Array, directions: Array) -> NDArray[np.intp]:
    """Assign every unit to a cone that contains it, a cone of its own as long as there is one.

    Parameters
    ----------
    X : array, shape (n, d + 1)
    S : array, shape (n, p)
        Cone i is ``{u : S_ki x_k'u >= 0 for all k}``.
    directions : array, shape (m, d + 1)
        A zero unit is assigned to cone -1.

    Returns
    -------
    array of int, shape (m,)
        Unit i goes to cone i whenever that contains it.

    Raises
    ------
    InvalidInputError
        When no cone contains a unit.
    """
    m, p = len(directions), S.shape[1]
    target = np.full(m, -1)
    free = np.ones(p, dtype=bool)
    nonzero = nonzero_rows(directions)
    own = np.zeros(m, dtype=bool)
    if m == p:
        own = nonzero & (relative_slack(X, S, directions).min(axis=0) >= -TIE)
        target[own] = np.flatnonzero(own)
        free[own] = False
    for i in np.flatnonzero(nonzero & ~own):
        copies = np.broadcast_to(directions[i], (p, directions.shape[1]))
        inside = np.flatnonzero(relative_slack(X, S, copies).min(axis=0) >= -TIE)
        if not inside.size:
            raise InvalidInputError(
                f"unit {i} of the network has an activation pattern (with its sign) that is not among the {p} patterns "
                "of this program; extract the patterns from that network or add them with union()"
            )
        unused = inside[free[inside]]
        target[i] = unused[0] if unused.size else inside[0]  # no copy left: units of one cone are summed
        free[target[i]] = False
    return target


def balanced(U: Array, s: Array) -> tuple[Array, Array]:
    """Split merged units into hidden units and outer weights of equal norm.

    ``v_i = s_i ||u_i||^(1/2)`` and ``(w_i, b_i) = u_i / v_i``; a zero unit stays zero.

    Implements: Yin & Lesage-Landry (2026), eq. (7).

    Parameters
    ----------
    U : array, shape (p, d + 1)
    s : array, shape (p,)

    Returns
    -------
    units : array, shape (p, d + 1)
    v : array, shape (p,)
    """
    root = np.sqrt(np.linalg.norm(U, axis=1))
    v = s * root
    units = np.divide(U, v[:, None], out=np.zeros_like(U), where=root[:, None] > 0)
    return units, v
