"""Exact maxima of tiny ReLU networks by enumeration of sign patterns: the truth that bounds are compared with.

Shared by several test modules. Independent of the library's relaxations: affine pieces, scipy's linear programs for
boxes, Clarabel's second-order cone programs for balls and clipped balls. Meant for at most ten units that change sign.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from scipy import sparse
from scipy.optimize import linprog

from convexnn.propagation.input_set import InputSet
from convexnn.propagation.query import Query

TOL = 1e-9


def exact_max(query: Query) -> np.ndarray:
    """``max weights f(x) + offset`` over the set (and the signs) of a query, shape (q,); -inf where it is empty.

    Accurate to about 1e-7 of the sizes involved.
    """
    best = np.full(query.n_rows, -np.inf)
    for G, g, C, c in pieces(query):
        for row in range(query.n_rows):
            weights = query.weights[row]
            best[row] = max(best[row], _maximum(query.inputs, weights @ G, weights @ g, C, c) + query.offset[row])
    return best


def pieces(query: Query) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Affine pieces that meet the set: outputs ``G x + g`` where ``C x + c >= 0``."""
    d = query.network.n_inputs
    yield from _descend(query, 0, 0, (np.eye(d), np.zeros(d)), (np.zeros((0, d)), np.zeros(0)), [])


def _descend(query, layer, unit, previous, cell, slopes):
    network = query.network
    H, h = previous
    W, b = network.layers[layer]
    if layer == len(network.layers) - 1:
        yield W @ H, W @ h + b, *cell
        return
    S, s = W @ H, W @ h + b
    if unit == len(b):
        D = np.array(slopes)
        yield from _descend(query, layer + 1, 0, (D[:, None] * S, D * s), cell, [])
        return
    C, c = cell
    signs = _signs(query, layer, unit, S[unit], s[unit], cell)
    for sign in signs:
        wider = (np.vstack([C, sign * S[unit]]), np.append(c, sign * s[unit]))
        slope = 1.0 if sign > 0 else network.activation.slopes[0]
        yield from _descend(query, layer, unit + 1, previous, wider, [*slopes, slope])


def _signs(query, layer, unit, row, offset, cell):
    asked = 0 if query.signs is None else int(query.signs[layer][unit])
    if asked:
        return (asked,) if _maximum(query.inputs, asked * row, asked * offset, *cell) >= -TOL else ()
    return tuple(sign for sign in (1, -1) if _maximum(query.inputs, sign * row, sign * offset, *cell) > TOL) or (1,)


def _maximum(inputs: InputSet, row, offset, C, c) -> float:
    """Largest ``row x + offset`` over the set where ``C x + c >= 0``; -inf where there is no such point."""
    if inputs.has_ball:
        return _over_ball(inputs, row, offset, C, c)
    found = linprog(-row, A_ub=-C if len(C) else None, b_ub=c + TOL if len(C) else None,
                    bounds=np.column_stack([inputs.lower, inputs.upper]))  # fmt: skip
    return float(-found.fun + offset) if found.status == 0 else -np.inf


def _over_ball(inputs: InputSet, row, offset, C, c) -> float:
    import clarabel

    d, (low, high) = len(row), (inputs.lower, inputs.upper)
    rows, sides = [-C, -np.eye(d)[np.isfinite(low)], np.eye(d)[np.isfinite(high)]], [c + TOL]
    sides += [-low[np.isfinite(low)], high[np.isfinite(high)], [inputs.radius + 1e-300], -inputs.centre]
    linear = sum(len(part) for part in rows)
    A = sparse.csc_array(np.vstack([*rows, np.zeros((1, d)), -np.eye(d)]))
    cones = [clarabel.NonnegativeConeT(linear)] if linear else []
    settings = clarabel.DefaultSettings()
    settings.verbose = False
    settings.max_threads = 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    solver = clarabel.DefaultSolver(sparse.csc_array((d, d)), -row, A, np.concatenate(sides),
                                    [*cones, clarabel.SecondOrderConeT(d + 1)], settings)  # fmt: skip
    found = solver.solve()
    return float(-found.obj_val + offset) if "Solved" in str(found.status) else -np.inf
