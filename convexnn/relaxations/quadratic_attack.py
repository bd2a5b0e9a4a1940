"""Large values of a quadratic function of inputs and outputs by ascent: a lower bound on its maximum."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.relaxations.quadratic_specification import QuadraticSpec

Array = NDArray[np.float64]

#: Rounds, and the shares of the way to the maximizer of the gradient that are tried in each.
ROUNDS, SHARES = 40, (1.0, 0.5, 0.2, 0.05, 0.01)


def ascend(
    network: Network, inputs: InputSet, spec: QuadraticSpec, starts: int = 8, seed: int = 0, extra: Array | None = None
) -> tuple[Array, float]:
    """Best point found and its value, by steps toward the maximizer of the gradient or along it.

    Parameters
    ----------
    network : Network
    inputs : InputSet
    spec : QuadraticSpec
    starts : int
        Random ones, beside the centre and the rows of ``extra``.
    seed : int
    extra : array, shape (n, d), optional
        Points worth a try; need not be in the set.

    Returns
    -------
    point : array, shape (d,)
        In the set.
    value : float
        In float64.
    """
    rng = np.random.default_rng(seed)
    directions = rng.standard_normal((max(starts, 0), len(inputs.centre)))
    ends = inputs.maximizer(directions)
    inside = inputs.centre + rng.random((len(ends), 1)) * (ends - inputs.centre)
    first = [inputs.centre[None], ends, inside]
    if extra is not None:
        first.append(extra[np.isfinite(extra).all(axis=1)])
    X = inputs.project(np.vstack(first))
    values = spec.values(network, X)
    for _ in range(ROUNDS):
        slopes, base, before = spec.gradients(network, X), X.copy(), values.copy()
        toward = inputs.maximizer(slopes) - base
        lengths = np.linalg.norm(toward, axis=1, keepdims=True)
        uphill = slopes * lengths / np.maximum(np.linalg.norm(slopes, axis=1, keepdims=True), 1e-300)
        for way in (toward, uphill):
            for share in SHARES:
                tried = inputs.project(base + share * way)
                reached = spec.values(network, tried)
                better = reached > values
                X[better], values[better] = tried[better], reached[better]
        if not (values > before).any():
            break
    top = int(np.argmax(values))
    return X[top], float(spec.values(network, X[top : top + 1])[0])
