"""Where the search of every row begins: the whole set, with bounds that the rows get together."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from convexnn.branching.methods import METHODS, SEMIDEFINITE, is_small, plan
from convexnn.branching.node import Node
from convexnn.branching.scores import by_layer
from convexnn.branching.tree import no_signs
from convexnn.propagation.layer_bounds import LayerBounds
from convexnn.propagation.query import Effort, Query
from convexnn.relaxations.tightening import known_evidence

Array = NDArray[np.float64]


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
    if effort.stop_below is None or query.n_rows == 1 or not is_small(nodes[0]) or effort.out_of_time():
        return nodes, nothing
    return nodes, _together(whole, effort, base, nodes)


def _together(query: Query, effort: Effort, base: LayerBounds, nodes: list[Node]) -> Array:
    """Semidefinite bounds of the rows in one run, worked into the nodes; returns points for an attack."""
    wanted = replace(effort, tol=0.2 * effort.tol, max_iter=None, first_failure=True)
    evidence = METHODS[SEMIDEFINITE].propose(query, wanted, base)
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
