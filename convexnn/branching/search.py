"""Best-first search over the signs of units: cheap bounds first, strong ones for parts that stay open."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.branching.lower import Attained, attained, climb
from convexnn.branching.methods import METHODS, Step, cheap, plan
from convexnn.branching.node import Node, evidence_of
from convexnn.branching.roots import begin, prepared
from convexnn.branching.scores import by_layer, choose
from convexnn.branching.tree import with_sign
from convexnn.exceptions import ConvexNNError
from convexnn.propagation.layer_bounds import LayerBounds, read_bounds
from convexnn.propagation.query import Effort, Evidence, Query

Array = NDArray[np.float64]

#: Parts that are looked at, a row, where the effort does not say.
MAX_NODES = 20_000


@dataclass
class Search:
    """One row: the tree, the best value attained, and what it took.

    Attributes
    ----------
    query : Query
        One row.
    effort : Effort
    best : Attained
    root : Node
    hints : array, shape (n, d)
        Points for a first attack.
    nodes : int
    """

    query: Query
    effort: Effort
    best: Attained
    root: Node
    hints: Array
    nodes: int = 1
    counts: dict[int, int] = field(default_factory=dict)

    def run(self) -> str:
        """Grow the tree until the row is decided; the status in words."""
        self.follow(np.vstack([self.best.point, self.hints]))
        heap, order = [(-self.root.bound, 0, self.root)], 1
        while heap:
            bound, node = -heap[0][0], heap[0][2]
            status = self.decided(bound)
            if status:
                return status
            heapq.heappop(heap)
            if self.improve(node):
                heapq.heappush(heap, (-min(bound, node.bound), order, node))
                order += 1
                continue
            if not self.divide(node):
                return "failed: a part without undecided units stays open"
            for child in node.children:
                heapq.heappush(heap, (-min(bound, child.bound), order, child))
                order += 1
        return "optimal"

    def decided(self, bound: float) -> str | None:
        """Why the search may end when ``bound`` is proved for the row."""
        target = self.effort.stop_below
        if target is not None and bound < target:
            return "below"
        if target is not None and self.best.value >= target:
            return "hopeless"
        if bound <= self.best.value + self.effort.tol * max(1.0, abs(bound)) or bound == -np.inf:
            return "optimal"
        if self.effort.out_of_time():
            return "time_limit"
        limit = MAX_NODES if self.effort.max_iter is None else self.effort.max_iter
        return "max_iter" if self.nodes >= limit else None

    def threshold(self) -> float:
        """Below this a part needs no more work."""
        gap = self.best.value + 0.5 * self.effort.tol * max(1.0, abs(self.best.value))
        return gap if self.effort.stop_below is None else max(gap, self.effort.stop_below)

    def improve(self, node: Node) -> bool:
        """Try the next method of the plan on a node; whether there was one."""
        steps = plan(node)
        if node.stage >= len(steps):
            return False
        node.stage += 1
        self.bound_with(node, steps[node.stage - 1])
        return True

    def bound_with(self, node: Node, step: Step) -> None:
        """Run one method on a node and keep what its check returns where that is better."""
        stop = self.threshold()
        effort = replace(
            self.effort,
            tol=0.2 * self.effort.tol,
            max_iter=None,
            stop_below=stop if np.isfinite(stop) else None,
            first_failure=False,
        )
        try:
            method, evidence = step(node, effort)
            value = float(METHODS[method].check(node.query, evidence.multiplier)[0])
        except (ConvexNNError, np.linalg.LinAlgError):
            return
        self.counts[method] = self.counts.get(method, 0) + 1
        if value < node.bound or not node.multiplier:
            node.bound, node.method, node.multiplier = min(value, node.bound), method, evidence.multiplier
        if "branching" in evidence.details:
            node.scores = by_layer(evidence.details["branching"], self.query.network.n_hidden)
        self.follow(evidence.points)

    def follow(self, points: Array) -> None:
        """Attack from points that a method suggests."""
        if points.size:
            self.best = self.best.better(climb(self.query, points))

    def divide(self, node: Node) -> bool:
        """Give a node its two children with their cheapest bounds; False when no unit is undecided."""
        split = choose(node)
        if split is None:
            return False
        node.split = split
        node.children = tuple(self.child(node, sign) for sign in (1, -1))
        self.nodes += 2
        return True

    def child(self, node: Node, sign: int) -> Node:
        """The part of a node where the chosen unit has a sign."""
        assert node.query.signs is not None
        query = node.query.with_signs(with_sign(node.query.signs, *node.split, sign))
        part = Node(query, read_bounds(query, self.root.layers.multiplier), np.inf, scores=())
        self.bound_with(part, cheap)
        return part


def propose(query: Query, effort: Effort | None = None, bounds: LayerBounds | None = None) -> Evidence:
    """Evidence for every row of a query: a tree of parts and the evidence of each part.

    The rows are searched from the one with the worst cheap bound on; they share the deadline.

    Parameters
    ----------
    query : Query
    effort : Effort, optional
        ``max_iter`` counts parts a row.
    bounds : LayerBounds, optional

    Returns
    -------
    Evidence
        ``points`` holds the best input found for each row, in the order of the rows; ``details["lower"]`` their values.
    """
    effort = Effort() if effort is None else effort
    layers = prepared(query, effort, read_bounds(query, {}) if bounds is None else bounds)
    roots, hints = begin(query, effort, layers)
    middle = query.inputs.centre[None]
    searches = [
        Search(query.rows(r), effort, attained(query.rows(r), middle), root, hints) for r, root in enumerate(roots)
    ]
    statuses = ["failed: not reached"] * query.n_rows
    for r in sorted(range(query.n_rows), key=lambda r: -searches[r].root.bound):
        statuses[r] = searches[r].run()
        if effort.first_failure and statuses[r] not in ("below", "optimal"):
            break
    multiplier = dict(layers.multiplier)
    for r, search in enumerate(searches):
        multiplier.update(evidence_of(search.root, r))
    return Evidence(
        "branch_and_bound",
        multiplier,
        _worst(statuses),
        sum(search.nodes for search in searches),
        np.array([search.best.point for search in searches]).reshape(-1, query.network.n_inputs),
        {
            "lower": np.array([search.best.value for search in searches]),
            "statuses": tuple(statuses),
            "calls": {
                METHODS[i].name: sum(search.counts.get(i, 0) for search in searches) for i in range(len(METHODS))
            },
        },
    )


def _worst(statuses: list[str]) -> str:
    order = ("hopeless", "time_limit", "max_iter", "failed: not reached")
    found = [status for status in statuses if status not in ("optimal", "below")]
    if not found:
        return "below" if all(status == "below" for status in statuses) else "optimal"
    return min(found, key=lambda status: order.index(status) if status in order else -1)
