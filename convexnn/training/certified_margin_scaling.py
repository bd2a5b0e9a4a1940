"""The best multiple of a network under the certified-margin objective: one unknown, convex."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from convexnn.network import Network
from convexnn.restrictions.certified_margin_terms import MarginTerms

Array = NDArray[np.float64]


def rescaled(terms: MarginTerms, network: Network) -> Network:
    """``t f`` with the ``t >= 0`` of least objective, which is convex in t: everything but the loss is linear.

    Parameters
    ----------
    terms : MarginTerms
    network : Network

    Returns
    -------
    Network
        Constant (``t = 0``) where no multiple is better than that.
    """
    (W, b), (V, c) = network.layers
    gaps = terms.gaps(network(terms.rows.X))
    margins = gaps - terms.radius * terms.bounds(W, V).upper[terms.pair_of]
    decay = terms.lam * terms.weight_decay(network)
    weight, ones = terms.share * terms.rows.weight, np.ones_like(margins)

    def value(exponent: float) -> float:
        t = np.exp(exponent)
        with np.errstate(over="ignore"):
            found = float(weight @ terms.loss.value(t * margins, ones).sum(axis=1)) + t * decay
        return found if np.isfinite(found) else np.finfo(float).max

    size = float(np.abs(margins).max())
    if not 0.0 < size < np.inf:
        return network
    centre = -np.log(size)  # there the largest margin is one
    found = minimize_scalar(value, bounds=(centre - 5.0, centre + 15.0), method="bounded", options={"xatol": 1e-6})
    zero = float(weight @ terms.loss.value(0.0 * margins, ones).sum(axis=1))
    t = 0.0 if zero <= value(float(found.x)) else float(np.exp(found.x))
    return Network(((W, b), (t * V, t * c)), network.activation)
