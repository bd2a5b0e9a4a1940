"""The semidefinite relaxation of a quadratic specification as it stands in the papers, for cvxpy and the tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from convexnn.network import Network
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.relaxations.quadratic_specification import QuadraticSpec


def quadratic_reference(network: Network, inputs: InputSet, bounds: LayerBounds, spec: QuadraticSpec) -> Any:
    """The problem ``max <M, [1, x, f][1, x, f]'>`` over ``P = [1, x, z_1, .., z_L][..]' >= 0`` with rows of every unit.

        z >= 0,  z >= s,  z^2 = z s,  z^2 <= u z,  (z - s)(s - l) >= 0,  (s - l)(u - s) >= 0,  z <= u (s - l) / (u - l)

    Nothing is substituted, so that its value is at least that of the rows in use, and equal where every unit is
    unstable.

    Implements: Raghunathan et al. (2018b), the relaxation SDP-CERT with bounds of all layers, quadratic objective.

    Parameters
    ----------
    network : Network
        ReLU.
    inputs : InputSet
        A box or a ball.
    bounds : LayerBounds
    spec : QuadraticSpec

    Returns
    -------
    cvxpy.Problem
    """
    import cvxpy as cp

    d, sizes = network.n_inputs, network.n_hidden
    n = 1 + d + sum(sizes)
    P = cp.Variable((n, n), PSD=True)
    rows = [P[0, 0] == 1]
    unit = np.eye(n)
    x = unit[1 : 1 + d]
    if inputs.has_ball:
        c = inputs.centre
        rows.append(cp.trace(x @ P @ x.T) - 2 * c @ (x @ P[:, 0]) + c @ c <= inputs.radius**2)
    else:
        low, high = inputs.lower, inputs.upper
        rows.append(cp.diag(x @ P @ x.T) <= cp.multiply(low + high, x @ P[:, 0]) - low * high)
    previous, start = x, 1 + d
    for (W, b), low, high in zip(network.layers[:-1], bounds.lower, bounds.upper, strict=True):
        z = unit[start : start + len(b)]
        s = W @ previous
        s[:, 0] += b
        rows += _unit_rows(cp, P, z, s, low, high, unit[0])
        previous, start = z, start + len(b)
    V, c = network.layers[-1]
    f = V @ previous
    f[:, 0] += c
    G = np.vstack([unit[:1], x, f])
    return cp.Problem(cp.Maximize(cp.trace(G.T @ spec.matrix @ G @ P)), rows)


def _unit_rows(cp: Any, P: Any, z: Any, s: Any, low: Any, high: Any, e0: Any) -> list[Any]:
    def moment(a: Any, b: Any) -> Any:
        return cp.sum(cp.multiply(a @ P, b), axis=1)

    below, above = s - np.outer(low, e0), s - np.outer(high, e0)
    ceiling = np.clip(high, 0.0, None)
    rows = [z @ P[:, 0] >= 0, (z - s) @ P[:, 0] >= 0, moment(z, z - s) == 0]
    rows.append(moment(z, z) <= cp.multiply(ceiling, z @ P[:, 0]))
    rows += [moment(z - s, below) >= 0, moment(below, above) <= 0]
    mixed = (low < 0) & (high > 0)
    slope = np.where(mixed, high / np.where(mixed, high - low, 1.0), (low >= 0).astype(float))
    shift = np.where(mixed, -slope * low, 0.0)
    rows.append(z @ P[:, 0] <= cp.multiply(slope, s @ P[:, 0]) + shift)
    return rows
