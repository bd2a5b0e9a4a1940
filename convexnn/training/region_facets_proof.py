"""Networks of pairs, shifted until they are proved negative on a region, and the largest values met there."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation
from convexnn.certificate import Certificate
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.regions.polytope import Polytope
from convexnn.regions.region import Region
from convexnn.training.region_facets_fit import Pairs
from convexnn.training.region_facets_pricing import Frame

Array = NDArray[np.float64]

MARGIN = 1e-9  # below zero, as a share of the sizes of the values
EXACT_WORK = 2e7  # products up to which "auto" proves over the rational numbers: seconds


def arithmetic_for(region: Region | Polytope, directions: int) -> str:
    """What "auto" stands for: exact where that takes seconds."""
    if isinstance(region, Polytope):
        across = 40 * max(len(region.b), 1)  # fractions take longer than integers
    else:
        across = region.n_axes if region.axes.ndim == 2 else 1
    return "exact" if directions * region.n_inputs * across <= EXACT_WORK else "float64+slack"


def assembled(pairs: Pairs, frame: Frame, activation: Activation) -> Network:
    """The network of pairs in raw input coordinates; opposite rows are exact negatives, the output bias is zero."""
    W = pairs.U @ frame.scale.T
    signs = (1.0, -1.0)[: pairs.b.shape[1]]
    biases = np.concatenate([b - sign * (W @ frame.center) for sign, b in zip(signs, pairs.b.T, strict=True)])
    return Network.shallow(np.vstack([sign * W for sign in signs]), biases, pairs.c.T.ravel(), 0.0, activation)


def shifted(network: Network, size: float, prove: Callable[[Network], Certificate]) -> tuple[Network, Certificate]:
    """The network minus its bound and a little, proved to be negative on the region as it is stored.

    Parameters
    ----------
    network : Network
    size : float
        Of the values that matter.
    prove : callable
        Certificate of a network on the region.
    """
    bound = prove(network).bound
    margin = MARGIN * max(size, abs(bound), np.finfo(float).tiny / MARGIN)
    for _ in range(60):
        found = Network.shallow(network.W, network.b, network.v, float(network.c) - bound - margin, network.activation)
        certificate = prove(found)
        if certificate.bound < 0:
            return found, certificate
        margin *= 4.0
    raise InvalidInputError("The network could not be shifted below zero: its numbers are too large.")


def lower_bound(network: Network, region: Region, rng: np.random.Generator, starts: int = 128) -> float:
    """Largest value met on a box by moving to the corner that the gradient points to; for convex f it never falls."""
    E = rng.uniform(-1.0, 1.0, (starts, region.n_axes))
    best = -math.inf
    for _ in range(20):
        X = region.image(E)
        best = max(best, float(np.max(network(X))))
        G = network.gradient(X)
        E = np.where((slope := G * region.axes if region.axes.ndim == 1 else G @ region.axes) == 0, E, np.sign(slope))
    return best


def polytope_lower_bound(network: Network, polytope: Polytope, rng: np.random.Generator, starts: int = 16) -> float:
    """Largest value met on a polytope by moving to the vertex that the gradient points to."""
    X = np.vstack([polytope.center, polytope.vertices(rng.standard_normal((starts, polytope.n_inputs)))])
    best = -math.inf
    for _ in range(5):
        X = X[polytope.contains(X)]
        best = max(best, float(np.max(network(X), initial=-math.inf)))
        X = polytope.vertices(network.gradient(X))
    return best
