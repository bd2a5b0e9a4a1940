"""The best multiple of a network and the best constant under the certified-margin objective: small convex problems."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize, minimize_scalar

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
    with np.errstate(all="ignore"):  # a network beyond float64 has no multiples, and comes back as it is
        gaps = terms.gaps(network(terms.rows.X))
        margins = gaps - terms.radius * terms.bounds(W, V).upper[terms.pair_of]
        decay = terms.lam * terms.weight_decay(network) if terms.lam else 0.0
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


def constant(terms: MarginTerms, network: Network) -> Network:
    """The network with outer weights zero and output biases of least loss: what is left when no margin can be kept.

    Exact up to the tolerance of L-BFGS for smooth losses, and for the hinge at least as good as no bias or a bias for
    any one class.

    Parameters
    ----------
    terms : MarginTerms
    network : Network

    Returns
    -------
    Network
    """
    (W, b), (V, _) = network.layers
    mass = terms.share * np.bincount(terms.labels, terms.rows.weight, minlength=terms.n_classes)
    own, rival = np.nonzero(~np.eye(terms.n_classes, dtype=bool))
    contrasts = terms.classes[own] - terms.classes[rival]
    ones = np.ones(len(own))

    def loss(c: Array) -> tuple[float, Array]:
        margins = contrasts @ c
        slopes = mass[own] * terms.loss.gradient(margins, ones)
        return float(mass[own] @ terms.loss.value(margins, ones)), contrasts.T @ slopes

    starts = np.vstack([np.zeros(terms.n_outputs), np.eye(terms.n_outputs), -np.eye(terms.n_outputs)])
    found = [
        minimize(loss, start, jac=True, method="L-BFGS-B", bounds=[(-30.0, 30.0)] * len(start)).x for start in starts
    ]
    c = min([*starts, *found], key=lambda one: loss(one)[0])
    return Network(((W, b), (np.zeros_like(V), c)), network.activation)
