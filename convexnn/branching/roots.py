"""Where the search of every row begins: the whole set, with bounds that the rows get together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convexnn.branching.methods import IN_PARTS, METHODS, SEMIDEFINITE, is_small, plan
from convexnn.branching.node import Node
from convexnn.branching.scores import by_layer
from convexnn.branching.tree import no_signs
from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.tightening import Tightening, known_evidence, tighten

Array = NDArray[np.float64]

#: Hidden layers, and units that change sign, from which on tighter bounds of the layers pay.
DEEP, WIDE = 3, 50
#: Steps on the slopes of these bounds.
SLOPE_STEPS = 20


def prepared(query: Query, effort: Effort, layers: LayerBounds) -> LayerBounds:
    """Bounds of the layers for a search: deep and wide networks get slopes of their own for every unit first.

    With two hidden layers the semidefinite bound does not notice; from the third on it does (see the theory page).
    """
    crossing = sum(int(((low < 0) & (high > 0)).sum()) for low, high in zip(layers.lower, layers.upper, strict=True))
    if len(layers.lower) < DEEP or crossing < WIDE or layers.multiplier or effort.out_of_time():
        return layers
    return tighten(query, effort, layers, Tightening(steps=SLOPE_STEPS))


def begin(query: Query, effort: Effort, layers: LayerBounds) -> tuple[list[Node], Array]:
    """Root nodes of all rows, and points that are worth an attack, shape (n, d).

    Linear bounds for all rows. With a target the semidefinite rows are solved one after the other from a common state,
    the worst linear bound first, up to the first that does not get below the target.

    Parameters
    ----------
    query : Query
    effort : Effort
    layers : LayerBounds
        Of the whole set.
    """
    known = known_evidence(query, layers)
    whole = query.with_signs(no_signs(query.network.n_hidden) if query.signs is None else query.signs)
    base = LayerBounds(layers.lower, layers.upper, known)
    found = METHODS[SEMIDEFINITE].check(whole, known)
    nodes = [Node(whole.rows(r), base, float(found[r]), SEMIDEFINITE, known) for r in range(query.n_rows)]
    nothing = np.empty((0, query.network.n_inputs))
    if effort.stop_below is None or query.n_rows < 2 or not is_small(nodes[0]) or effort.out_of_time():
        return nodes, nothing
    return nodes, _together(whole, effort, base, nodes)


def _together(query: Query, effort: Effort, base: LayerBounds, nodes: list[Node]) -> Array:
    """Semidefinite bounds of the rows in one run, worked into the nodes; returns points for an attack."""
    wanted = replace(effort, tol=0.2 * effort.tol, max_iter=None, first_failure=True)
    evidence = IN_PARTS.propose(query, wanted, base)
    found = METHODS[SEMIDEFINITE].check(query, evidence.multiplier)
    for r, node in enumerate(nodes):
        prefix = f"row{r}/"
        own = {
            f"row0/{key[len(prefix) :]}": value for key, value in evidence.multiplier.items() if key.startswith(prefix)
        }
        if own and found[r] <= node.bound:
            node.bound, node.multiplier = float(found[r]), {**base.multiplier, **own}
            node.stage = len(plan(node))
    if "branching" in evidence.details:
        worst = nodes[int(evidence.details["worst_row"])]
        worst.scores = by_layer(evidence.details["branching"], query.network.n_hidden)
    return evidence.points
