"""Random networks, sets and exact values: for the tests of certifiers and examples/benchmarks/certifier_soundness.py.

Values at points are rational numbers and points are inside the set as rational arithmetic sees it, so that bounds are
compared with the truth without any tolerance.
"""

from __future__ import annotations

import numpy as np

from convexnn.network import Network
from convexnn.propagation import InputSet, Query
from convexnn.verification.exact_bounds import act
from convexnn.verification.exact_numbers import rational, rationals


def random_network(rng, sizes, activation="relu") -> Network:
    """Weights of variance 1 / inputs and small biases."""
    pairs = zip(sizes, sizes[1:], strict=False)
    return Network(
        [(rng.standard_normal((b, a)) / np.sqrt(a), 0.3 * rng.standard_normal(b)) for a, b in pairs], activation
    )


def exact_row_values(query: Query, x) -> np.ndarray:
    """``weights f(x) + offset`` as rational numbers, shape (q,); piecewise linear networks."""
    h = rationals(x)
    for W, b in query.network.layers[:-1]:
        h = act(query.network.activation, rationals(W) @ h + rationals(b))
    W, b = query.network.layers[-1]
    return rationals(query.weights) @ (rationals(W) @ h + rationals(b)) + rationals(query.offset)


def contains(inputs: InputSet, x) -> bool:
    """Whether a point is in the set, in rational arithmetic."""
    if not ((inputs.lower <= x) & (x <= inputs.upper)).all():
        return False
    if not inputs.has_ball:
        return True
    step, radius = rationals(x) - rationals(inputs.centre), rational(float(inputs.radius))
    return bool((step * step).sum() <= radius * radius)


def inside(inputs: InputSet, z) -> np.ndarray | None:
    """A point of the set near z, None where even the centre (clipped) is outside by a rounding."""
    anchor = np.clip(inputs.centre, inputs.lower, inputs.upper)
    x = np.clip(inputs.project(np.asarray(z, dtype=float)[None])[0], inputs.lower, inputs.upper)
    for part in (0.0, 2.0**-52, 2.0**-48, 2.0**-40, 2.0**-20, 1.0):
        moved = np.clip(anchor + (1.0 - part) * (x - anchor), inputs.lower, inputs.upper)
        if contains(inputs, moved):
            return moved
    return None
