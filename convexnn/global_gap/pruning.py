"""The same function on the data with at most n + 1 units, and no larger norms: a basic solution of a linear program."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from convexnn.network import Network
from convexnn.restrictions.units import balanced, merge

Array = NDArray[np.float64]


def drop_idle(network: Network, share: float = 0.0) -> Network:
    """Network without units whose merged norm is at most ``share`` of the largest, and balanced."""
    merged = merge(network)
    size = np.linalg.norm(merged, axis=1)
    keep = size > share * size.max(initial=0.0)
    if not keep.any():
        keep[0] = True
    units, outer = balanced(merged[keep], np.where(network.v[keep] >= 0, 1.0, -1.0))
    return Network.shallow(units[:, :-1], units[:, -1], outer, network.c)


def prune(network: Network, X: Array) -> Network:
    """Network with at most ``len(X) + 1`` units, the same predictions on X and no larger weight decay.

    Units are scaled by ``t_i >= 0``: ``min sum_i t_i |u_i|`` subject to unchanged predictions. A basic solution has at
    most as many units as there are rows (Caratheodory).

    Parameters
    ----------
    network : Network
        Shallow, one output.
    X : array, shape (n, d)

    Returns
    -------
    Network
        The network that came in, balanced, when there is nothing to prune or the linear program fails.
    """
    network = drop_idle(network)
    if len(network.v) <= len(X) + 1:
        return network
    active = np.maximum(X @ network.W.T + network.b, 0.0) * network.v
    cost = np.linalg.norm(merge(network), axis=1)
    scale = np.maximum(np.abs(active).max(axis=0), np.finfo(float).tiny)
    found = linprog(cost / scale, A_eq=active / scale, b_eq=active.sum(axis=1), method="highs-ds")
    if found.x is None:
        return network
    factor = np.sqrt(np.maximum(found.x / scale, 0.0))
    scaled = Network.shallow(network.W * factor[:, None], network.b * factor, network.v * factor, network.c)
    return drop_idle(scaled)
