"""Parts on which every unit has a sign: the network is affine there, and its maximum a linear or cone program.

The program is made elastic, ``max f(x) - M t`` with ``sign_j s_j(x) + t >= 0``: an empty part needs no special case
(its value falls with M), and the multipliers are at most M. They become prices of the units, which the check of the
linear relaxation turns into a bound; the solver is not believed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.optimize import linprog

from convexnn.branching.node import Node
from convexnn.propagation.query import Evidence, Query
from convexnn.relaxations.prices import price_keys

Array = NDArray[np.float64]

#: Penalties in units of (spread of f) / (spread of the pre-activations); the next one where a bound stays open.
PENALTIES = (1e4, 1e8)


@dataclass(frozen=True, eq=False)
class Piece:
    """``f = g x + c`` where ``C x + e >= 0``.

    Attributes
    ----------
    g, c : array (d,) and float
    C, e : array, shapes (n, d) and (n,)
        Rows ``sign * pre-activation`` of the units with a sign.
    slopes : tuple of arrays (units,)
        Of the activations.
    places : array, shape (n, 2)
        Layer and unit of every row.
    """

    g: Array
    c: float
    C: Array
    e: Array
    slopes: tuple[Array, ...]
    places: NDArray[np.intp]

    @classmethod
    def of(cls, node: Node) -> Piece:
        """The affine piece of a part without undecided units."""
        query, signs = node.query, node.query.signs
        assert signs is not None
        network, leak = query.network, query.network.activation.slopes[0]
        H, h = np.eye(network.n_inputs), np.zeros(network.n_inputs)
        C, e, slopes, places = [], [], [], []
        for k, (W, b) in enumerate(network.layers[:-1]):
            S, s = W @ H if k else W, W @ h + b
            own = np.flatnonzero(signs[k])
            C.append(signs[k][own, None] * S[own])
            e.append(signs[k][own] * s[own])
            places += [(k, unit) for unit in own]
            slopes.append(np.where(node.layers.lower[k] >= 0, 1.0, leak))
            H, h = slopes[-1][:, None] * S, slopes[-1] * s
        W, b = network.layers[-1]
        weights = query.weights[0]
        return cls(
            weights @ W @ H,
            float(weights @ (W @ h + b) + query.offset[0]),
            np.vstack(C),
            np.concatenate(e),
            tuple(slopes),
            np.array(places, dtype=np.intp).reshape(-1, 2),
        )

    def prices(self, query: Query, multipliers: Array) -> list[Array]:
        """Prices of the units, (1, units) a layer, that say ``f + multipliers (C x + e)``."""
        assert query.signs is not None
        a, found = query.weights @ query.network.layers[-1][0], []
        for k in range(len(self.slopes) - 1, -1, -1):
            own = self.places[:, 0] == k
            D = a * self.slopes[k]
            D[0, self.places[own, 1]] += multipliers[own] * query.signs[k][self.places[own, 1]]
            found.append(D)
            a = D @ query.network.layers[k][0]
        return found[::-1]


def decided_evidence(node: Node, penalty: float) -> Evidence:
    """Evidence for the check of "lp" on a part without undecided units, and the point of the maximum.

    Implements: convexnn, Proposition 2 of theory/branching: elastic programs of affine pieces.

    Parameters
    ----------
    node : Node
    penalty : float
        Sets the largest multiplier; any number is valid.
    """
    piece = Piece.of(node)
    unit = max(float(np.abs(piece.e).max(initial=0.0)), float(np.linalg.norm(piece.C, axis=1).max(initial=0.0)), 1e-12)
    largest = penalty * max(float(np.linalg.norm(piece.g)), abs(piece.c), 1e-12) / unit
    solve = _over_ball if node.query.inputs.has_ball else _over_box
    usable = all(np.isfinite(part).all() for part in (piece.C, piece.e, piece.g, largest))
    found = solve(node.query, piece, largest) if usable else None
    multipliers, point = (np.zeros(len(piece.e)), node.query.inputs.centre) if found is None else found
    prices = price_keys(piece.prices(node.query, np.maximum(multipliers, 0.0)))
    return Evidence("lp", {**node.layers.multiplier, **prices}, "optimal", 1, point[None])


def _over_box(query: Query, piece: Piece, largest: float) -> tuple[Array, Array] | None:
    """Multipliers of the rows and the maximizer, by HiGHS; None where it fails."""
    inputs, n = query.inputs, len(piece.e)
    rows = np.hstack([-piece.C, -np.ones((n, 1))])
    ends: Any = np.vstack([np.column_stack([inputs.lower, inputs.upper]), [0.0, np.inf]])
    found = linprog(np.append(-piece.g, largest), A_ub=rows, b_ub=piece.e, bounds=ends, method="highs")
    return (-found.ineqlin.marginals, np.asarray(found.x)[:-1]) if found.status == 0 else None


def _over_ball(query: Query, piece: Piece, largest: float) -> tuple[Array, Array] | None:
    """The same over a ball or a clipped ball, by Clarabel, in coordinates ``x = centre + radius Q xi``."""
    import clarabel

    inputs, n = query.inputs, len(piece.e)
    boxed = bool(np.isfinite([inputs.lower, inputs.upper]).any())
    stack = np.vstack([piece.C, piece.g])
    Q = np.eye(len(piece.g)) if boxed or len(stack) >= stack.shape[1] else np.linalg.qr(stack.T)[0]
    k, scaled = Q.shape[1], inputs.radius * Q
    column = np.ones((n, 1))
    blocks = [np.hstack([-piece.C @ scaled, -column]), np.append(np.zeros(k), -1.0)[None]]
    sides = [piece.e + piece.C @ inputs.centre, np.zeros(1)]
    for sign, end in ((1.0, inputs.upper), (-1.0, inputs.lower)):
        kept = np.isfinite(end)
        blocks.append(np.hstack([sign * scaled[kept], np.zeros((int(kept.sum()), 1))]))
        sides.append(sign * (end - inputs.centre)[kept])
    count = sum(len(side) for side in sides)
    blocks.append(np.hstack([np.vstack([np.zeros((1, k)), -np.eye(k)]), np.zeros((k + 1, 1))]))
    sides.append(np.append(1.0, np.zeros(k)))
    settings = clarabel.DefaultSettings()
    settings.verbose, settings.max_threads = False, 1
    settings.tol_gap_abs = settings.tol_gap_rel = settings.tol_feas = 1e-10
    cones = [clarabel.NonnegativeConeT(count), clarabel.SecondOrderConeT(k + 1)]
    cost = np.append(-(piece.g @ scaled), largest)
    nothing = sparse.csc_array((k + 1, k + 1))
    A = sparse.csc_array(np.vstack(blocks))
    solver = clarabel.DefaultSolver(nothing, cost, A, np.concatenate(sides), cones, settings)
    found = solver.solve()
    multipliers, xi = np.array(found.z[:n]), np.array(found.x[:-1])
    good = np.isfinite(multipliers).all() and np.isfinite(xi).all()
    return (multipliers, inputs.centre + scaled @ xi) if good else None
