"""Bisection of the inputs: boxes are halved until every case is closed on every part, or an attack gets through."""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.verification.property_attack import pull_back
from convexnn.verification.property_bounds import BoxBounds

if TYPE_CHECKING:
    from convexnn.verification.property_search import Group, Search

Array = NDArray[np.float64]

#: Steps of the attack on a part, and over the weights of its rows.
STEPS, ROUNDS = 3, 1


@dataclass(order=True)
class Part:
    """A box with the bounds of the cases that are open on it; the largest bound comes first."""

    priority: float
    order: int
    lower: Array = field(compare=False)
    upper: Array = field(compare=False)
    bounds: dict[int, float] = field(compare=False)


def bisect(search: Search, group: Group) -> None:
    """Halve the part with the largest bound until every case is closed everywhere, or a limit is reached."""
    heap = [Part(0.0, 0, *group.box, {case: float(group.bounds[case]) for case in group.open})]
    closed = dict.fromkeys(heap[0].bounds, -np.inf)
    order = 1
    while heap and search.violated is None:
        if search.is_over() or search.n_boxes >= search.limits.max_boxes:
            search.stopped = search.stopped or f"{search.limits.max_boxes} boxes were not enough"
            break
        part = heapq.heappop(heap)
        halves = _halves(search.network, group, part)
        if not halves:
            search.stopped = "a box too small to be halved stays open: the worst value is zero up to rounding"
            heapq.heappush(heap, part)
            break
        for lower, upper in halves:
            bounds = _bounds(search, group, (lower, upper), part.bounds)
            for case in [case for case, bound in bounds.items() if bound < 0]:
                closed[case] = max(closed[case], bounds.pop(case))
            if bounds and search.violated is None:
                heapq.heappush(heap, Part(-max(bounds.values()), order, lower, upper, bounds))
                order += 1
    for case, bound in closed.items():
        worst = max([bound, *(part.bounds[case] for part in heap if case in part.bounds)])
        if search.violated is None:
            group.close(case, worst, "bisection")


def _bounds(search: Search, group: Group, box: tuple[Array, Array], known: dict[int, float]) -> dict[int, float]:
    """Bounds of the open cases on a part, never above those of the box it came from; the open ones are attacked."""
    search.n_boxes += 1
    found = BoxBounds.over(search.network, *box).smallest_rows(group.rows, list(known), group.weights, ROUNDS)
    bounds = {case: min(known[case], bound) for case, (bound, _) in found.items()}
    still = [case for case, bound in bounds.items() if not bound < 0]
    for case in still:
        if group.rows.member[case].sum() > 1:
            group.weights[case] = found[case][1]
    if still:
        middle = np.clip(box[0] + 0.5 * (box[1] - box[0]), *box)
        search.follow(group, box, np.array(still, dtype=np.intp), np.tile(middle, (len(still), 1)), STEPS)
    return bounds


def _halves(network: Network, group: Group, part: Part) -> list[tuple[Array, Array]]:
    """The box cut across the input that matters most: width times mean gradient of the worst open case."""
    lower, upper = part.lower, part.upper
    width = upper - lower
    middle = lower + 0.5 * width
    inside = (lower < middle) & (middle < upper)
    if not inside.any():
        return []
    worst = max(part.bounds, key=lambda case: part.bounds[case])
    weight = group.weights[worst]
    points = np.vstack([middle, lower + 0.25 * width, lower + 0.75 * width])
    rows = np.tile(weight @ group.rows.rows, (len(points), 1))
    slope = np.abs(pull_back(network, points, rows) + weight @ group.rows.input_rows).mean(axis=0)
    top = float(slope.max())
    score = np.where(inside, (slope + 1e-3 * top if top > 0 else 1.0) * width, -1.0)
    cut = int(np.argmax(score))
    left, right = upper.copy(), lower.copy()
    left[cut] = right[cut] = middle[cut]
    return [(lower, left), (right, upper)]
