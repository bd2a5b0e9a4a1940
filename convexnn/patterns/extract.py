"""Activation patterns of a given network on given rows."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convexnn.activations import LeakyReLU, ReLU
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network, as_network
from convexnn.patterns.multiset import ActivationPatterns
from convexnn.patterns.rows import distinct


def extract(network: Any, X: ArrayLike, layer: int = 0) -> ActivationPatterns:
    """Patterns of all hidden units of ``network`` on the rows of ``X``, one column a unit.

    ``D_kj = 1[w_j'x_k + b_j >= 0]``: ties count as active, equal patterns are kept (a multiset), and the
    bias is an own weight of the unit. Signs are those of the outer weights (0 counts as +1); for a network
    with several outputs or a deeper layer, where an outer weight has no single sign, they are +1.

    Implements: Yin & Lesage-Landry (2026), eq. (5) and line 2 of Algorithm 1.

    Parameters
    ----------
    network : Network or any model that :func:`convexnn.network.as_network` takes
        With ReLU or LeakyReLU activation.
    X : array, shape (n, d)
        Raw input units of the network.
    layer : int
        Hidden layer, 0 is the first, -1 the last.

    Returns
    -------
    ActivationPatterns
        ``D`` of shape (n, units of the layer), in the order of the units.
    """
    net: Network = as_network(network)
    if not isinstance(net.activation, (ReLU, LeakyReLU)):
        raise UnsupportedModelError(f"Activation patterns need ReLU or LeakyReLU, not {net.activation.name!r}.")
    depth = len(net.n_hidden)
    if not -depth <= layer < depth:
        raise InvalidInputError(f"There is no hidden layer {layer}; this network has {depth}.")
    # on distinct rows, because a product may round equal rows differently
    rows, inverse = distinct(X)
    D = (net.pre_activations(rows)[layer] >= 0)[inverse]
    last = layer in (depth - 1, -1)
    signs = np.where(net.layers[-1][0][0] >= 0, 1.0, -1.0) if last and net.n_outputs == 1 else np.ones(D.shape[1])
    return ActivationPatterns(D, signs)
