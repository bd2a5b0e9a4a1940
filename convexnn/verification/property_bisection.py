"""Bisection of the inputs: boxes are halved until every case is closed on every part, or an attack gets through."""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from convexnn.network import Network
from convexnn.verification.property_attack import Rows, pull_back
from convexnn.verification.property_batches import Boxes
from convexnn.verification.property_bounds import DIFFERENCE, BoxBounds

if TYPE_CHECKING:
    from convexnn.verification.property_search import Group, Search

Array = NDArray[np.float64]

#: Steps of the attack on a part.
STEPS = 3
#: Entries of the largest array of a batch (it should stay in the cache), and boxes that are halved at once.
ENTRIES, BATCH = 300_000, 64
TINY = float(np.finfo(float).tiny)


@dataclass(order=True)
class Part:
    """A box with the bounds of the cases that are open on it; the largest bound comes first.

    Attributes
    ----------
    priority : float
    order : int
    lower, upper : array, shape (d,)
    bounds : dict of int to float
    weights : array, shape (cases, q)
        The combination of rows to try next.
    """

    priority: float
    order: int
    lower: Array = field(compare=False)
    upper: Array = field(compare=False)
    bounds: dict[int, float] = field(compare=False)
    weights: Array = field(compare=False)


def bisect(search: Search, group: Group) -> None:
    """Halve the parts with the largest bounds until every case is closed everywhere, or a limit is reached."""
    known = {case: float(group.bounds[case]) for case in group.open}
    heap = [Part(0.0, 0, *group.box, known, group.weights)]
    closed = dict.fromkeys(known, -np.inf)
    size = _batch(search.network, group.rows)
    while heap and search.violated is None:
        if search.is_over() or search.n_boxes >= search.limits.max_boxes:
            search.stopped = search.stopped or f"{search.limits.max_boxes} boxes were not enough"
            break
        parts = [heapq.heappop(heap) for _ in range(min(size, len(heap)))]
        halves = _halves(search.network, group, parts)
        if halves is None:
            search.stopped = "a box too small to be halved stays open: the worst value is zero up to rounding"
            heap += parts
            break
        children = _children(search, group, parts, *halves)
        for child in children:
            for case in [case for case, bound in child.bounds.items() if bound < 0]:
                closed[case] = max(closed[case], child.bounds.pop(case))
            child.priority = -max(child.bounds.values(), default=-np.inf)
        left = [child for child in children if child.bounds]
        for child in left:
            heapq.heappush(heap, child)
        _attack(search, group, left)
    for case, bound in closed.items():
        worst = max([bound, *(part.bounds[case] for part in heap if case in part.bounds)])
        if search.violated is None:
            group.close(case, worst, "bisection")


def _batch(network: Network, rows: Rows) -> int:
    """How many boxes are halved at once."""
    widest = max(max(W.shape) for W, _ in network.layers)
    return int(np.clip(ENTRIES // (4 * widest * max(widest, 2 * len(rows.offset))), 1, BATCH))


def _attack(search: Search, group: Group, parts: Sequence[Part]) -> None:
    """A few steps from the middle of every part, for every case that is open on it."""
    pairs = [(part, case) for part in parts for case in part.bounds]
    if pairs:
        lower, upper = np.stack([part.lower for part, _ in pairs]), np.stack([part.upper for part, _ in pairs])
        middle = np.clip(lower + 0.5 * (upper - lower), lower, upper)
        search.follow(group, (lower, upper), np.array([case for _, case in pairs], dtype=np.intp), middle, STEPS)


def _children(search: Search, group: Group, parts: Sequence[Part], lower: Array, upper: Array) -> list[Part]:
    """Both halves of every part with their bounds, never above those of the part."""
    rows, first = group.rows, search.n_boxes
    search.n_boxes += len(lower)
    parents = [part for part in parts for _ in range(2)]
    tried = np.stack([_candidates(rows, part.weights) for part in parents])
    if Boxes.fit(search.network):
        found = Boxes.over(search.network, lower, upper).of_combinations(rows, tried)
    else:
        boxes = [BoxBounds.over(search.network, *box) for box in zip(lower, upper, strict=True)]
        found = np.stack([box.of_combinations(rows, C) for box, C in zip(boxes, tried, strict=True)])
    children = []
    for i, parent in enumerate(parents):
        best, weights = _read(rows, parent, found[i])
        bounds = {case: min(bound, best[case]) for case, bound in parent.bounds.items()}
        children.append(Part(0.0, first + i, lower[i], upper[i], bounds, weights))
    return children


def _candidates(rows: Rows, weights: Array) -> Array:
    """Every row alone; for each case of several rows the combination of its weights, and these shifted to each row."""
    unit = np.eye(len(rows.offset))
    shifted = [
        np.vstack([weights[case], (1.0 - DIFFERENCE) * weights[case] + DIFFERENCE * unit[own]])
        for case, own in enumerate(rows.member)
        if own.sum() > 1
    ]
    return np.vstack([unit, *shifted])


def _read(rows: Rows, parent: Part, found: Array) -> tuple[Array, Array]:
    """Bounds of all cases from those of the candidates, and weights one step down along the differences."""
    best, weights = np.full(len(rows.member), np.inf), parent.weights.copy()
    at = len(rows.offset)
    for case, own in enumerate(rows.member):
        best[case] = found[: len(own)][own].min(initial=np.inf)
        count = int(own.sum())
        if count < 2:
            continue
        values, at = found[at : at + count + 1], at + count + 1
        best[case] = min(best[case], values.min())
        slope = (values[1:] - values[0]) / DIFFERENCE
        if np.isfinite(slope).all():
            step = (weights[case, own] + 1e-3) * np.exp(-slope / max(float(np.abs(slope).max()), TINY))
            weights[case, own] = step / step.sum()
    return best, weights


def _halves(network: Network, group: Group, parts: Sequence[Part]) -> tuple[Array, Array] | None:
    """Boxes cut across the input that matters most: width times mean gradient of the worst open case.

    None when one of them cannot be halved. Else the corners, shape (2 parts, d), two halves after each other.
    """
    lower, upper = np.stack([part.lower for part in parts]), np.stack([part.upper for part in parts])
    width = upper - lower
    middle = lower + 0.5 * width
    inside = (lower < middle) & (middle < upper)
    if not inside.any(axis=1).all():
        return None
    worst = [max(part.bounds, key=lambda case: part.bounds[case]) for part in parts]
    weights = np.stack([part.weights[case] for part, case in zip(parts, worst, strict=True)])
    slope = np.zeros_like(width)
    for share in (0.25, 0.5, 0.75):
        slope += np.abs(pull_back(network, lower + share * width, weights @ group.rows.rows))
    slope += 3.0 * np.abs(weights @ group.rows.input_rows)
    top = slope.max(axis=1, keepdims=True)
    cut = np.argmax(np.where(inside, np.where(top > 0, slope + 1e-3 * top, 1.0) * width, -1.0), axis=1)
    left, right, place = upper.copy(), lower.copy(), np.arange(len(parts))
    left[place, cut] = right[place, cut] = middle[place, cut]
    corners = np.stack([lower, right], axis=1), np.stack([left, upper], axis=1)
    return corners[0].reshape(-1, lower.shape[1]), corners[1].reshape(-1, lower.shape[1])
