"""Relaxations of a ReLU network as the papers write them, in cvxpy: the specification of the fast solvers.

Only tests and benchmarks use this file. Its values are a solver's word, not bounds.

Raghunathan et al. (2018b), Semidefinite relaxations for certifying robustness, arXiv 1811.01057; Ehlers (2017), Formal
verification of piece-wise linear feed-forward neural networks, arXiv 1705.01320.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.memory import require_memory
from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.propagation.query import Query

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Relu:
    """One unit ``z = relu(s)`` in the coordinates ``a = (1, x, z)``: rows s and z (n,), and bounds on s."""

    s: Array
    z: Array
    lower: float
    upper: float
    sign: int


@dataclass(frozen=True, eq=False)
class Lifted:
    """A query in coordinates ``a = (1, inputs, units)``: every quantity is a row over a.

    Attributes
    ----------
    inputs : array, shape (d, n)
        Rows of the inputs; coordinates of the set without width are constants.
    units : tuple of Relu
        Those with a variable of their own, and the substituted ones (for the rows of their signs).
    outputs : array, shape (q, n)
        Rows of ``weights f + offset``.
    """

    inputs: Array
    units: tuple[Relu, ...]
    outputs: Array

    @property
    def size(self) -> int:
        """Number n of coordinates."""
        return int(self.outputs.shape[1])


def lifted(query: Query, bounds: LayerBounds, *, substitute: bool = True) -> Lifted:
    """Rows of all quantities; inputs are centred and scaled to [-1, 1], units by their upper bounds.

    Parameters
    ----------
    query : Query
        Network with ReLU or LeakyReLU units.
    bounds : LayerBounds
        Of the pre-activations.
    substitute : bool, default True
        Units that are stable in the bounds are replaced by their affine value (exact).
    """
    low, high = query.inputs.bounding_box()
    wide = np.flatnonzero(high > low)
    leak = query.network.activation.slopes[0]
    stable = [(u <= 0) | (lo >= 0) for lo, u in zip(bounds.lower, bounds.upper, strict=True)]
    free = [np.flatnonzero(~kept) if substitute else np.arange(len(kept)) for kept in stable]
    n = 1 + len(wide) + sum(len(own) for own in free)
    inputs = np.zeros((len(low), n))
    inputs[:, 0] = 0.5 * (low + high)
    inputs[wide, 1 + np.arange(len(wide))] = 0.5 * (high - low)[wide]
    units: list[Relu] = []
    H, column = inputs, 1 + len(wide)
    for layer, (W, b) in enumerate(query.network.layers[:-1]):
        S = W @ H
        S[:, 0] += b
        lower, upper = bounds.lower[layer], bounds.upper[layer]
        Z = np.where((lower >= 0)[:, None], S, 0.0)
        for j in free[layer]:
            Z[j] = 0.0
            Z[j, column] = upper[j] if upper[j] > 0 else 1.0
            column += 1
        signs = np.zeros(len(b), int) if query.signs is None else query.signs[layer]
        units += [Relu(S[j], Z[j], float(lower[j]), float(upper[j]), int(signs[j])) for j in range(len(b))]
        H = leak * S + (1.0 - leak) * Z
    W, b = query.network.layers[-1]
    outputs = query.weights @ W @ H
    outputs[:, 0] += query.weights @ b + query.offset
    return Lifted(inputs, tuple(units), outputs)


def _stack(rows: list[Array], n: int) -> Array:
    return np.array(rows).reshape(len(rows), n)


def _linear_rows(problem: Lifted, triangle: bool) -> tuple[Array, Array]:
    """Rows that are nonnegative, and rows that are zero, on every (1, x, z) of the network."""
    e0 = np.eye(problem.size)[0]
    positive, zero = [], []
    for unit in problem.units:
        low, high = unit.lower, unit.upper
        positive += [unit.z, unit.z - unit.s]
        if triangle and low < 0 < high:
            positive.append(high / (high - low) * (unit.s - low * e0) - unit.z)
        elif triangle:
            positive += [unit.s - low * e0, high * e0 - unit.s]
            zero.append(unit.z - (unit.s if low >= 0 else 0.0 * unit.s))
        if unit.sign:
            positive.append(unit.sign * unit.s)
    kept = [row for row in zero if row.any()]
    return _stack(positive, problem.size), _stack(kept, problem.size)


def _normalized(A: Array) -> Array:
    return A / np.maximum(np.linalg.norm(A, axis=-1, keepdims=True), 1e-300)


def _solved(problem: Any, solver: str, options: dict[str, Any]) -> float:
    require_memory(problem, solver, "Use the certifiers 'sdp', 'sdp_first_order' or 'lp', which read the structure")
    problem.solve(solver=solver, **options)
    return float(np.inf if problem.value is None else problem.value)


def triangle_reference(query: Query, bounds: LayerBounds, solver: str = "CLARABEL", **options: Any) -> Array:
    """Value of the triangle relaxation, an LP over a box and an SOCP over a ball or a clipped ball.

        max  w'f + c    s.t.  z >= 0,  z >= s,  z <= u (s - l) / (u - l),  s = W h + b,  h = leak s + (1 - leak) z,

    x in the set, ``l <= s <= u`` and z = s or 0 for stable units, and ``sign s >= 0`` where the query has signs.

    Implements: Ehlers (2017), linear approximation of a ReLU between bounds.

    Parameters
    ----------
    query : Query
    bounds : LayerBounds
    solver : str
        Of cvxpy.
    **options
        Of the solver.

    Returns
    -------
    array, shape (q,)
        The solver's word; ``-inf`` where the set is empty.
    """
    import cvxpy as cp

    problem = lifted(query, bounds)
    positive, zero = _linear_rows(problem, triangle=True)
    a = cp.Variable(problem.size)
    x = problem.inputs @ a
    rows = [a[0] == 1, positive @ a >= 0]
    if len(zero):
        rows.append(zero @ a == 0)
    low, high = query.inputs.lower, query.inputs.upper
    rows += [x[i] >= low[i] for i in np.flatnonzero(np.isfinite(low))]
    rows += [x[i] <= high[i] for i in np.flatnonzero(np.isfinite(high))]
    if query.inputs.has_ball:
        rows.append(cp.norm(x - query.inputs.centre) <= query.inputs.radius)
    return np.array([_solved(cp.Problem(cp.Maximize(o @ a), rows), solver, options) for o in problem.outputs])


def sdp_reference(
    query: Query,
    bounds: LayerBounds,
    *,
    substitute: bool = True,
    triangle: bool = False,
    rlt: bool = False,
    products: bool = False,
    solver: str = "CLARABEL",
    **options: Any,
) -> Array:
    """Value of SDP-CERT: a moment matrix P of ``a = (1, x, z)`` in place of a, one matrix for all layers.

        max  <w'f + c>_P   s.t.  P >= 0,  <1>_P = 1,  and with <p q>_P = p'P q:
        <z> >= 0,  <z - s> >= 0,  <z (z - s)> = 0                               each unit
        <(z - relu(l)) (z - relu(u))> <= 0                                      each unit (bounds of its layer)
        <(x_i - l_i) (x_i - u_i)> <= 0  (box),   <|x - centre|^2> <= radius^2   (ball)

    Implements: Raghunathan et al. (2018b), SDP-CERT: several layers with bounds on each; boxes, and balls in l2.

    Parameters
    ----------
    query : Query
    bounds : LayerBounds
    substitute : bool, default True
        Replace units that are stable in the bounds by their affine value.
    triangle : bool, default False
        Add ``<z> <= u (<s> - l) / (u - l)``.
    rlt : bool, default False
        Add ``<(z - s)(s - l)> >= 0`` and ``<(u - s)(s - l)> >= 0``.
    products : bool, default False
        Add ``<z_i (z_j - s_j)> >= 0`` and ``<(u_i - z_i)(z_j - s_j)> >= 0`` for all pairs of units.
    solver : str
        Of cvxpy: "CLARABEL" or "SCS".
    **options
        Of the solver.

    Returns
    -------
    array, shape (q,)
        The solver's word; ``-inf`` where the set is empty.
    """
    import cvxpy as cp

    problem = lifted(query, bounds, substitute=substitute)
    n, e0 = problem.size, np.eye(problem.size)[0]
    P = cp.Variable((n, n), PSD=True)

    def moment(left: Array, right: Array) -> Any:
        """``<p q>`` for rows of left and right, each divided by its length."""
        return cp.sum(cp.multiply(_normalized(left) @ P, _normalized(right)), axis=1)

    def mean(rows: Array) -> Any:
        return _normalized(rows) @ P[:, 0]

    positive, zero = _linear_rows(problem, triangle)
    rows: list[Any] = [P[0, 0] == 1]
    rows += [mean(positive) >= 0] if len(positive) else []
    rows += [mean(zero) == 0] if len(zero) else []
    own = [unit for unit in problem.units if _has_a_variable(unit, substitute)]
    if own:
        S, Z = _stack([unit.s for unit in own], n), _stack([unit.z for unit in own], n)
        low, high = (np.array([[getattr(unit, end)] for unit in own]) for end in ("lower", "upper"))
        floor, top = np.maximum(low, 0.0) * e0, np.maximum(high, 0.0) * e0
        rows += [moment(Z, Z - S) == 0, moment(Z - floor, top - Z) >= 0]
        rows += [moment(Z - S, S - low * e0) >= 0, moment(high * e0 - S, S - low * e0) >= 0] if rlt else []
        if products:
            i, j = np.nonzero(~np.eye(len(own), dtype=bool))
            rows += [moment(Z[i], (Z - S)[j]) >= 0, moment((top - Z)[i], (Z - S)[j]) >= 0] if len(i) else []
    rows += _input_rows(query, problem, P, moment)
    objectives = [o @ P[:, 0] for o in problem.outputs]
    return np.array([_solved(cp.Problem(cp.Maximize(value), rows), solver, options) for value in objectives])


def _has_a_variable(unit: Relu, substitute: bool) -> bool:
    return not substitute or unit.lower < 0 < unit.upper


def _input_rows(query: Query, problem: Lifted, P: Any, moment: Any) -> list[Any]:
    """Rows of the input set; where a ball is clipped, the box is the one around the clipped ball."""
    import cvxpy as cp

    inputs, X, e0, rows = query.inputs, problem.inputs, np.eye(problem.size)[0], []
    if np.isfinite([inputs.lower, inputs.upper]).any():
        low, high = (end[:, None] * e0 for end in inputs.bounding_box())
        wide = X[:, 1:].any(axis=1)
        if wide.any():
            rows.append(moment((X - low)[wide], (high - X)[wide]) >= 0)
    if inputs.has_ball and inputs.radius > 0:
        step = (X - inputs.centre[:, None] * e0) / inputs.radius
        rows.append(cp.sum(cp.multiply(step @ P, step)) <= 1.0)
    return rows
