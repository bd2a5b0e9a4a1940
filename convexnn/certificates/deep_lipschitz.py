"""Lipschitz certificates of deep networks by LipSDP: proposal, check, and the reference in cvxpy."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import SolverError, UnsupportedModelError
from convexnn.lipsdp.deep import maximize_deep, normalized_layers
from convexnn.lipsdp.deep_bound import plain_bound_deep, upper_bound_deep
from convexnn.memory import require_memory
from convexnn.network import Network

Array = NDArray[np.float64]
DEFAULT_ORDER = 160  # inputs and hidden units up to which `lipschitz` takes this method unasked: about 0.2 s


def default_deep_method(network: Network) -> str:
    """``"deep_lipsdp"`` where its matrix is small, else ``"product"``."""
    order = min(network.n_inputs, network.n_hidden[0]) + sum(network.n_hidden)
    return "deep_lipsdp" if order <= DEFAULT_ORDER else "product"


def check_deep_lipsdp(network: Network, multiplier: Mapping[str, Array]) -> float:
    """Rigorous upper bound (l2) on the Lipschitz constant of a network of any depth from any multiplier of LipSDP.

    Implements: Fazlyab et al. (2019), LipSDP-Neuron, several hidden layers, diagonal T, as in docs/theory/deep.md.

    Parameters
    ----------
    network : Network
        One hidden layer or more, any number of outputs, any activation with bounded slopes.
    multiplier : mapping of str to array
        {"t": one number >= 0 for every hidden unit, layer after layer, in the scaling of
        `convexnn.lipsdp.deep.normalized_layers`}. Need not be optimal.

    Returns
    -------
    bound : float
        Valid for every multiplier, never above the product of the norms; ``inf`` for a multiplier that is negative, nan
        or of another shape.
    """
    return upper_bound_deep([W for W, _ in network.layers], multiplier.get("t", np.nan), network.activation.slopes)


def propose_deep_lipsdp(network: Network, tol: float, _solver: str) -> tuple[dict[str, Array], float, dict[str, Any]]:
    """Multiplier for `check_deep_lipsdp`, the value of LipSDP less the gap of the path, and the Newton steps."""
    layers, exponent = normalized_layers([W for W, _ in network.layers])
    found = maximize_deep(layers, network.activation.slopes, tol)
    with np.errstate(over="ignore", under="ignore"):
        return {"t": found.t}, float(np.ldexp(found.lower, exponent)), {"iterations": found.iterations}


def estimate_deep_lipsdp(network: Network, multiplier: Mapping[str, Array]) -> float:
    """The bound of `check_deep_lipsdp` in plain float64, from which its slack is measured."""
    return plain_bound_deep([W for W, _ in network.layers], multiplier["t"], network.activation.slopes)


def deep_lmi_problem(network: Network) -> Any:
    """The matrix inequality of LipSDP-Neuron for any depth in cvxpy, with variables "L_squared", "t1", "t2", ...

        minimize L**2 over t_k >= 0, T_k = diag(t_k), with the symmetric block tridiagonal matrix
        diagonal      (L**2 I, 2 T_1, ..., 2 T_H, I)
        off-diagonal  (-W_0'T_1, ..., -W_{H-1}'T_H, W_H')
        positive semidefinite.

    Implements: Fazlyab et al. (2019), Theorem 2 with diagonal T, slopes in [0, 1], Schur complement at the output.

    Parameters
    ----------
    network : Network
        Any depth; the slopes of the activation must be [0, 1].

    Returns
    -------
    problem : cvxpy.Problem
        Its value is LipSDP squared.
    """
    import cvxpy as cp

    if network.activation.slopes != (0.0, 1.0):
        raise UnsupportedModelError(f"The reference is written for slopes in [0, 1], not {network.activation.name}.")
    weights = [W for W, _ in network.layers]
    sizes = [weights[0].shape[1], *(len(W) for W in weights)]
    L_squared = cp.Variable(name="L_squared")
    T = [cp.diag(cp.Variable(len(W), nonneg=True, name=f"t{k}")) for k, W in enumerate(weights[:-1], start=1)]
    diagonal = [L_squared * np.eye(sizes[0]), *(2 * t for t in T), np.eye(sizes[-1])]
    below = [*(-t @ W for t, W in zip(T, weights[:-1], strict=True)), weights[-1]]
    return cp.Problem(cp.Minimize(L_squared), [block_tridiagonal(sizes, diagonal, below) >> 0])


def block_tridiagonal(sizes: list[int], diagonal: list[Any], below: list[Any]) -> Any:
    """Symmetric cvxpy matrix from its diagonal blocks and the blocks below them."""
    import cvxpy as cp

    rows = [[np.zeros((m, n)) for n in sizes] for m in sizes]
    for k, block in enumerate(diagonal):
        rows[k][k] = block
    for k, block in enumerate(below):
        rows[k + 1][k], rows[k][k + 1] = block, block.T
    M = cp.bmat(rows)
    return (M + M.T) / 2


def deep_lmi_value(network: Network, solver: str = "CLARABEL", **options: Any) -> float:
    """LipSDP of a deep network as a generic solver reports it: a reference, no certificate.

    Raises
    ------
    SolverError
        When the solver fails.
    """
    import cvxpy as cp

    problem = deep_lmi_problem(network)
    require_memory(problem, solver, "Use lipschitz(method='deep_lipsdp')")
    try:
        problem.solve(solver=solver, **options)
    except cp.error.SolverError as error:
        raise SolverError(f"{solver} failed on the matrix inequality of a deep network: {error}") from error
    if problem.value is None or not math.isfinite(problem.value):
        raise SolverError(f"{solver} found no value for the matrix inequality (status {problem.status}).")
    return math.sqrt(max(float(problem.value), 0.0))
