"""The same function on the data with few units and no larger norms."""

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


def merge_cells(network: Network, X: Array) -> Network:
    """Network with the units of one pattern and sign summed: the same on X, no larger by the triangle inequality."""
    active = X @ network.W.T + network.b >= 0
    keys = np.packbits(np.vstack([active, network.v[None] > 0]), axis=0).T
    group = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    merged = np.zeros((int(group.max()) + 1, network.W.shape[1] + 1))
    np.add.at(merged, group, merge(network))
    signs = np.ones(len(merged))
    signs[group] = np.where(network.v >= 0, 1.0, -1.0)
    units, outer = balanced(merged, signs)
    return Network.shallow(units[:, :-1], units[:, -1], outer, network.c)


def prune(network: Network, X: Array) -> Network:
    """Network with at most ``len(X) + 1`` units, the same predictions on X and no larger weight decay.

    Units of one pattern are summed. If there are still too many, units are scaled by ``t_i >= 0``:
    ``min sum_i t_i |u_i|`` subject to unchanged predictions. A basic solution has at most as many units as there are
    rows (Caratheodory).

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
    network = merge_cells(drop_idle(network), X)
    if len(network.v) <= len(X) + 1:
        return network
    active = np.maximum(X @ network.W.T + network.b, 0.0) * network.v
    cost = np.linalg.norm(merge(network), axis=1)
    # a unit that is (almost) silent on X gets a zero column and a price: it is scaled to zero
    scale = np.maximum(np.abs(active).max(axis=0), np.maximum(1e-100 * cost, np.finfo(float).tiny))
    found = linprog(cost / scale, A_eq=active / scale, b_eq=active.sum(axis=1), method="highs-ds")
    if found.x is None:
        return network
    factor = np.sqrt(np.maximum(found.x / scale, 0.0))
    scaled = Network.shallow(network.W * factor[:, None], network.b * factor, network.v * factor, network.c)
    return drop_idle(scaled)
