"""Upper bounds of shallow networks on polytopes: the sum of the maxima of all directions."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.regions.facets import Directions, exact_sum_of_tops, sum_of_tops
from convexnn.regions.polytope import Polytope
from convexnn.regions.polytope_programs import highest
from convexnn.regions.polytope_support import exact_support, proved_box, support_up

Array = NDArray[np.float64]


def proposed_ranges(network: Network, polytope: Polytope) -> tuple[Array, Array]:
    """Multipliers (n, 2, m) of the upper and the lower end of every direction, and points where they are attained."""
    U = Directions.of(network).rows
    lam, X, _ = highest(polytope.rows, np.vstack([U, -U]), polytope.box)
    return np.stack([lam[: len(U)], lam[len(U) :]], axis=1), X[~np.isnan(X).any(axis=1)]


def polytope_value(network: Network, polytope: Polytope, lam: Array) -> float:
    """The sum of the maxima of all directions, their ranges by any multipliers, in float64, every rounding added.

    Parameters
    ----------
    network : Network
        One hidden layer of ReLU or LeakyReLU units, one output.
    polytope : Polytope
    lam : array, shape (n, 2, m)
        See :func:`proposed_ranges`; n directions. Any numbers.

    Returns
    -------
    float
        ``f(x) <= value`` for every x of the polytope; ``inf`` when numbers overflow.
    """
    parts = Directions.of(network)
    U, box = parts.rows, polytope.box

    def highest_value(rows: Array, weights: Array) -> Array:
        tops = support_up(polytope.rows, rows, weights, box)
        return np.minimum(tops, support_up(polytope.rows, rows, np.zeros_like(weights), box))  # that of the box

    live = U.any(axis=1)
    high, low = highest_value(U, lam[:, 0]), -highest_value(-U, lam[:, 1])
    return sum_of_tops(parts, np.where(live, low, 0.0), np.where(live, high, 0.0))


def exact_polytope_value(network: Network, polytope: Polytope, lam: Array) -> Fraction | float:
    """The bound of :func:`polytope_value` as a rational number, the box proved again; ``inf`` if it is not."""
    parts, rows = Directions.of(network), polytope.rows
    box = proved_box(rows, polytope.proof, exact_support) if len(polytope.proof) else polytope.box
    if box is None:
        return math.inf
    ends = []
    for sign, weights in ((1.0, lam[:, 0]), (-1.0, lam[:, 1])):
        tops = (exact_support(rows, sign * parts.rows, used, box) for used in (weights, np.zeros_like(weights)))
        ends.append(np.minimum(*tops))
    return exact_sum_of_tops(parts, list(zip(-ends[1], ends[0], strict=True)))
