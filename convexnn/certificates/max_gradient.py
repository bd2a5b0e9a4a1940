"""Certified Lipschitz bound for inputs perturbed in linf: the max-gradient program, one output at a time."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.inputs import real_or_nan
from convexnn.lipsdp import maximize_linf, stack_rounded, upper_bound_linf
from convexnn.network import Network
from convexnn.rigorous import ldexp_up

Array = NDArray[np.float64]


def check_max_gradient(network: Network, multiplier: Mapping[str, Array]) -> float:
    """Rigorous upper bound on the Lipschitz constant (linf to linf) from any multipliers of the max-gradient program.

    Implements: Raghunathan et al. (2018a), MaxGrad relaxation, in the d x d form of docs/theory/lipsdp.md.

    Parameters
    ----------
    network : Network
        One hidden layer, any number of outputs k, any activation with bounded slopes.
    multiplier : mapping of str to array
        "q" (k, m + 1) and "y" (k, d), nonnegative; need not be optimal.

    Returns
    -------
    bound : float
        Largest of the bounds of the outputs; ``inf`` when the multipliers prove nothing.
    """
    W, V = network.layers[0][0], network.layers[1][0]
    q, y = (np.atleast_2d(real_or_nan(multiplier.get(name, np.nan))) for name in "qy")
    if len(q) != len(V) or len(y) != len(V):
        return float("inf")
    worst = 0.0
    for v, weights, inputs in zip(V, q, y, strict=True):
        rows = stack_rounded(W, v, network.activation.slopes)
        worst = max(worst, ldexp_up(upper_bound_linf(rows.B, weights, inputs, rows.error), rows.exponent))
    return worst


def propose_max_gradient(network: Network, tol: float, _solver: str) -> tuple[dict[str, Array], float, dict[str, Any]]:
    """Multipliers of the max-gradient program of every output, and its largest value.

    Parameters
    ----------
    network : Network
        One hidden layer.
    tol : float
        Relative gap.

    Returns
    -------
    multiplier : dict
        "q" (k, m + 1) and "y" (k, d).
    lower : float
        Largest value of the program over the outputs (not a bound on the network).
    details : dict
        Empty.
    """
    W, V = network.layers[0][0], network.layers[1][0]
    q, y, lower = [], [], 0.0
    for v in V:
        rows = stack_rounded(W, v, network.activation.slopes)
        result = maximize_linf(rows.B, tol)
        share = (rows.error / (rows.error.sum() + np.linalg.norm(rows.B) + 1e-290)) ** (2.0 / 3.0) * result.q.sum()
        q.append(np.maximum(result.q, share))
        y.append(result.y)
        with np.errstate(over="ignore", under="ignore"):
            lower = max(lower, float(np.ldexp(result.lower, rows.exponent)))
    return {"q": np.array(q), "y": np.array(y)}, lower, {}
