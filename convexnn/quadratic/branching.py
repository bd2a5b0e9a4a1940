"""Minima of quadratic functions over boxes by branch and bound: exact in small dimension, else a bracket."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from convexnn.quadratic.boxes import Boxes, coordinate_descent, diagonal_bounds
from convexnn.quadratic.diagonal import best_diagonal

Array = NDArray[np.float64]
Indices = NDArray[np.intp]

BATCH = 1024  # boxes that are split together
NEWTON = 40  # steps for the multipliers of a part
FINEST = 1e-7  # smallest tolerance: rounding is charged to the bounds
LARGEST = 1_000_000  # parts that are bounded at most
MIDDLE = 0.5  # where to split, from the centre towards the relaxed minimizer


@dataclass(frozen=True, eq=False)
class Bracket:
    """Minima of ``s f`` over boxes, one a row, from both sides.

    Attributes
    ----------
    lower : array, shape (n,)
        Rigorous lower bounds.
    upper : array, shape (n,)
        Values of the points.
    points : array, shape (n, d)
        In the boxes up to rounding.
    n_boxes : int
        Parts that were bounded.
    """

    lower: Array = field(repr=False)
    upper: Array = field(repr=False)
    points: Array = field(repr=False)
    n_boxes: int


@dataclass(eq=False)
class _Parts:
    """Boxes that are left to split: which problem they belong to, their ends, bounds, multipliers and relaxed steps."""

    owner: Indices
    low: Array
    high: Array
    bound: Array
    price: Array  # multipliers in input units
    step: Array

    def take(self, rows: Indices | NDArray[np.bool_]) -> _Parts:
        return _Parts(*(getattr(self, name)[rows] for name in self.__dataclass_fields__))

    def join(self, other: _Parts) -> _Parts:
        names = self.__dataclass_fields__
        return _Parts(*(np.concatenate([getattr(self, name), getattr(other, name)]) for name in names))


class _Search:
    """The tree of all problems at once."""

    def __init__(self, boxes: Boxes, tol: float, decide: bool) -> None:
        self.boxes, self.decide, n = boxes, decide, len(boxes)
        self.points, self.upper, self.floor = boxes.centres.copy(), np.full(n, np.inf), np.full(n, np.inf)
        self.n_boxes = 0
        low, high = boxes.centres - boxes.halves, boxes.centres + boxes.halves
        owner = np.arange(n)
        self.parts = self._bounded(owner, low, high, np.full(n, -np.inf))
        self.slack = max(tol, FINEST) * _sizes(boxes, self.upper)
        self.prune()

    def _bounded(self, owner: Indices, low: Array, high: Array, known: Array) -> _Parts:
        """Bound parts of problems and look for better points in them."""
        parts = Boxes.between(self.boxes.form, low, high, self.boxes.signs[owner])
        square = parts.halves * parts.halves
        D, step = best_diagonal(parts, NEWTON)
        bound = np.maximum(diagonal_bounds(parts, D), known)
        found, value = coordinate_descent(parts, step)
        points = np.clip(parts.centres + found, low, high)
        order = np.lexsort((value, owner))
        first = order[np.r_[True, owner[order][1:] != owner[order][:-1]]]
        better = first[value[first] < self.upper[owner[first]]]
        self.upper[owner[better]], self.points[owner[better]] = value[better], points[better]
        self.n_boxes += len(owner)
        price = np.divide(D, square, out=np.zeros_like(D), where=square > 0)
        return _Parts(owner, low, high, bound, price, step)

    def prune(self) -> None:
        """Drop the parts that cannot matter; remember the least bound among them."""
        parts = self.parts
        done = parts.bound >= self.upper[parts.owner] - self.slack[parts.owner]
        if self.decide:
            done |= (parts.bound > 0) | (self.upper[parts.owner] < 0)
        np.minimum.at(self.floor, parts.owner[done], parts.bound[done])
        self.parts = parts.take(~done)

    def split(self) -> None:
        """Split the parts with the least bounds, those of all problems in turn, and bound the halves."""
        order = np.lexsort((self.parts.bound, self.parts.owner))
        owner = self.parts.owner[order]
        rank = np.arange(len(order)) - np.searchsorted(owner, owner)
        chosen = order[np.argsort(rank, kind="stable")[:BATCH]]
        rest = np.ones(len(order), dtype=bool)
        rest[chosen] = False
        parents, self.parts = self.parts.take(chosen), self.parts.take(rest)
        middle, half = 0.5 * parents.low + 0.5 * parents.high, 0.5 * (parents.high - parents.low)
        step = np.clip(parents.step, -half, half)
        axis = np.argmax(parents.price * (half * half - step * step) + 1e-12 * half * half, axis=1)
        rows = np.arange(len(chosen))
        cut = middle[rows, axis] + MIDDLE * step[rows, axis]
        left, right = parents.high.copy(), parents.low.copy()
        left[rows, axis], right[rows, axis] = cut, cut
        twice = np.r_[rows, rows]
        low, high = np.r_[parents.low, right], np.r_[left, parents.high]
        bounded = self._bounded(parents.owner[twice], low, high, parents.bound[twice])
        self.parts = self.parts.join(bounded)
        self.prune()

    def bracket(self) -> Bracket:
        """What is known now."""
        lower = self.floor.copy()
        np.minimum.at(lower, self.parts.owner, self.parts.bound)
        return Bracket(np.minimum(lower, self.upper), self.upper, self.points, self.n_boxes)


def branch_and_bound(
    boxes: Boxes, *, tol: float = 1e-6, time_limit: float | None = None, decide: bool = False
) -> Bracket:
    """Minima of ``s f`` over boxes by splitting them where the diagonal bound loses most.

    Every part is bounded by its best diagonal multipliers and searched from the relaxed minimizer. The bounds of all
    parts, also of those that were dropped, make the lower bound, which holds whenever the search ends.

    Implements: convexnn, Proposition 6 of docs/theory/quadratic_worst_cases.md, on parts of boxes.

    Parameters
    ----------
    boxes : Boxes
    tol : float
        Gap at which a problem is done, of the size of the values and of what the box changes; 1e-7 at least.
    time_limit : float, optional
        Seconds for all problems together. The bracket is then wide where the search was not done.
    decide : bool, default False
        Stop a problem as soon as its sign is known.

    Returns
    -------
    Bracket
    """
    end = np.inf if time_limit is None else time.monotonic() + time_limit
    search = _Search(boxes, tol, decide)
    try:
        while len(search.parts.owner) and time.monotonic() < end and search.n_boxes < LARGEST:
            search.split()
    except KeyboardInterrupt:
        return search.bracket()
    return search.bracket()


def _sizes(boxes: Boxes, upper: Array) -> Array:
    """Size of the values of each problem, shape (n,)."""
    e, Q = boxes.halves, np.abs(boxes.form.Q)
    change = np.maximum((np.abs(boxes.slopes) * e).max(axis=1), Q.max() * e.max(axis=1) ** 2)
    return np.asarray(np.maximum(np.maximum(change, np.abs(boxes.values)), np.abs(upper)) + np.finfo(float).tiny)
