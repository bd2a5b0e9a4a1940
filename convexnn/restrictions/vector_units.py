"""Between networks with several outputs and programs with fixed output directions: split, match, dictionaries."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import ReLU
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.restrictions.units import TIE, hidden, nonzero_rows, relative_slack

Array = NDArray[np.float64]

#: Two unit vectors nearer than this are the same output direction.
SAME_DIRECTION = 1e-12


def checked_vector_network(model: Any, n_inputs: int, n_outputs: int) -> Network:
    """Model as a shallow ReLU network with these numbers of inputs and outputs.

    Raises
    ------
    UnsupportedModelError
        For another depth, activation or number of outputs.
    InvalidInputError
        For another number of inputs.
    """
    network = as_network(model)
    if not network.is_shallow or not isinstance(network.activation, ReLU) or network.n_outputs != n_outputs:
        raise UnsupportedModelError(
            f"this program represents one hidden ReLU layer with {n_outputs} output(s); this network has "
            f"{len(network.n_hidden)} hidden layer(s), activation {network.activation.name!r} "
            f"and {network.n_outputs} output(s)"
        )
    if network.n_inputs != n_inputs:
        raise InvalidInputError(f"the network takes {network.n_inputs} inputs, but X has {n_inputs} columns")
    return network


def outer_weights(network: Network) -> Array:
    """Outer weights as rows, shape (m, outputs)."""
    return np.asarray(network.layers[-1][0].T)


def lengths_and_directions(rows: ArrayLike) -> tuple[Array, Array]:
    """Norms of rows and their unit vectors; a zero row gets the first unit vector.

    Parameters
    ----------
    rows : array-like, shape (m, outputs)

    Returns
    -------
    lengths : array, shape (m,)
    directions : array, shape (m, outputs)

    Raises
    ------
    InvalidInputError
        For NaN, infinite values or no matrix.
    """
    V = np.asarray(rows, dtype=float)
    if V.ndim != 2 or 0 in V.shape or not np.isfinite(V).all():
        raise InvalidInputError(f"directions have shape {V.shape}; expected finite values, (units, outputs)")
    largest = np.abs(V).max(axis=1)  # first, so that no square over- or underflows
    scaled = V / np.where(largest > 0, largest, 1.0)[:, None]
    length = np.linalg.norm(scaled, axis=1)
    unit = np.where(largest > 0, length, 1.0)
    directions = scaled / unit[:, None]
    directions[largest == 0, 0] = 1.0
    return length * largest, directions


def dictionary_at(network: Any, X: ArrayLike) -> tuple[ActivationPatterns, Array]:
    """Patterns of a network on X and the directions of its outer weights, unit by unit.

    Parameters
    ----------
    network : Network or any model that ``as_network`` takes
        With one hidden ReLU layer.
    X : array-like, shape (n, d)

    Returns
    -------
    patterns : ActivationPatterns
    directions : array, shape (m, outputs)
    """
    net = as_network(network)
    patterns = extract(net, X)
    return patterns, lengths_and_directions(outer_weights(net))[1]


def classwise_dictionary(patterns: ActivationPatterns, n_outputs: int) -> tuple[ActivationPatterns, Array]:
    """Every distinct pattern with the directions ``+e_c`` and ``-e_c`` of every output c.

    Parameters
    ----------
    patterns : ActivationPatterns
        Signs and multiplicities are not used.
    n_outputs : int

    Returns
    -------
    patterns : ActivationPatterns
        Size ``2 n_outputs`` times the number of distinct patterns.
    directions : array, shape (units, outputs)
    """
    D = np.unique(patterns.D, axis=1)
    both = np.vstack([np.eye(n_outputs), -np.eye(n_outputs)])
    return ActivationPatterns(np.tile(D, (1, len(both)))), np.repeat(both, D.shape[1], axis=0)


def joined(
    first: tuple[ActivationPatterns, Array], second: tuple[ActivationPatterns, Array]
) -> tuple[ActivationPatterns, Array]:
    """Two dictionaries one after the other, in this order."""
    (a, one), (b, two) = first, second
    D = np.hstack([a.expand().D, b.expand().D])
    return ActivationPatterns(D), np.vstack([np.repeat(one, a.counts, axis=0), np.repeat(two, b.counts, axis=0)])


def place_directed(X: Array, S: Array, slots: Array, units: Array, directions: Array) -> NDArray[np.intp]:
    """Assign every unit to a slot with its direction whose cone contains it, one slot a unit while there are slots.

    Parameters
    ----------
    X : array, shape (n, d + 1)
    S : array, shape (n, p)
        Cone i is ``{w : S_ki x_k'w >= 0 for all k}``.
    slots : array, shape (p, outputs)
        Output directions of the slots.
    units : array, shape (m, d + 1)
        Hidden units; a zero unit goes to slot -1.
    directions : array, shape (m, outputs)

    Returns
    -------
    array of int, shape (m,)
        Unit i goes to slot i whenever that fits.

    Raises
    ------
    InvalidInputError
        When no slot fits a unit.
    """
    target = np.full(len(units), -1)
    used = np.zeros(len(slots), dtype=bool)
    for i in np.flatnonzero(nonzero_rows(units)):
        same = np.flatnonzero(np.abs(slots - directions[i]).max(axis=1) <= SAME_DIRECTION)
        copies = np.broadcast_to(units[i], (len(same), units.shape[1]))
        slack = relative_slack(X, S[:, same], copies)
        inside = same[slack.min(axis=0) >= -TIE] if len(same) else same
        if not inside.size:
            what = "an activation pattern" if same.size else "an output direction"
            raise InvalidInputError(
                f"unit {i} of the network has {what} that is not in the dictionary of this program; "
                "build the program at that network, or join its dictionary to the one used"
            )
        unused = inside[~used[inside]]
        own = len(units) == len(slots) and i in unused
        target[i] = i if own else (unused[0] if unused.size else inside[0])  # no slot left: units are summed
        used[target[i]] = True
    return target


def scaled_units(network: Network) -> tuple[Array, Array]:
    """Hidden units times the length of their outer weights, ``|v_i| (w_i, b_i)``, and the directions of ``v_i``."""
    lengths, directions = lengths_and_directions(outer_weights(network))
    return lengths[:, None] * hidden(network), directions
