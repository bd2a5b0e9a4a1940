r"""Upper bounds on kappa by branch and bound over the signs of pre-activations, for ranks where boxes are hopeless.

A node fixes the signs of some ``x_i'w`` and so is a piece of the unit ball; its bound comes from the moment relaxation
of :mod:`convexnn.global_gap.signs_relaxation`. Only convex kinks (``c_i > 0``) are branched on: once they are linear,
what is left is concave and the relaxation is exact.
"""

from __future__ import annotations

import heapq
import math
import time
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from convexnn.global_gap.kappa import KappaBracket, power_of_two, reduce_rows, response
from convexnn.global_gap.signs_majorants import Majorant, Piece, majorant_bound
from convexnn.global_gap.signs_relaxation import Moments, relax
from convexnn.inputs import positive_number, seconds_or_none
from convexnn.restrictions.cones import least_distance, nonnegative_fit
from convexnn.rigorous import row_norms_up

Array = NDArray[np.float64]

#: Share of the tolerance to which a relaxation is solved, directions of the first local search, directions handed back.
ACCURACY, STARTS, KEPT = 0.2, 200, 32


@dataclass(order=True)
class _Node:
    """A piece for one sign of F, ordered by its bound, largest first."""

    key: float
    number: int
    sign: float = field(compare=False)
    piece: Piece = field(compare=False)
    majorant: Majorant = field(compare=False)
    split: int = field(compare=False)
    centre: Array = field(compare=False)


def kappa_signs(
    X: Array,
    nu: Array,
    *,
    target: float = 0.0,
    tol: float = 1e-3,
    time_limit: float | None = None,
    stop_above: bool = False,
) -> KappaBracket:
    """Bracket of ``max_{|w| <= 1} |sum_i nu_i relu(x_i'w)|`` by branching on signs.

    Implements: docs/theory/sign_branching.md, Algorithm 1.

    Parameters
    ----------
    X : array, shape (n, r)
        Rows; merge parallel ones first (:func:`convexnn.global_gap.kappa.reduce_rows`).
    nu : array, shape (n,)
    target : float
        The search ends when kappa is proved to be at most so much.
    tol : float
        It ends too when ``upper <= (1 + tol) lower``.
    time_limit : float or None
        Wall-clock seconds; the bound at that moment comes back.
    stop_above : bool
        End as soon as a direction with ``|F(w)| > target`` is met.

    Returns
    -------
    KappaBracket
        ``upper`` is recomputed from multipliers of every open node; ``nodes`` counts relaxations.
    """
    used = (nu != 0) & X.any(axis=1)
    if not used.any():
        return KappaBracket(0.0, 0.0, np.zeros((0, X.shape[1])), np.zeros(0), 0, "converged")
    deadline = math.inf if time_limit is None else time.perf_counter() + time_limit
    return _Search(X[used], nu[used], target, tol, deadline, stop_above).run()


def kappa_upper_signs(
    X: Array, nu: Array, *, target: float = 0.0, tol: float = 1e-3, time_limit: float | None = None
) -> KappaBracket:
    """Bracket as of :func:`kappa_signs`, for any rows: parallel ones are merged, dependent columns removed.

    Parameters
    ----------
    X : array, shape (n, d)
        Rows with their bias entry, if any.
    nu : array, shape (n,)
    target, tol, time_limit
        As for :func:`kappa_signs`.

    Returns
    -------
    KappaBracket
        ``directions[0]`` is the witness of ``lower``, in the coordinates of X.
    """
    target, tol = positive_number(target, "target", zero=True, infinite=True), positive_number(tol, "tol", zero=True)
    time_limit = seconds_or_none(time_limit)
    a, b = power_of_two(X), power_of_two(nu)
    if (a, b) != (1.0, 1.0):
        found = kappa_upper_signs(X / a, nu / b, target=target / a / b, tol=tol, time_limit=time_limit)
        return found.times(a, b)
    reduced = reduce_rows(X, nu)
    goal = max(reduced.target(target), 0.0)
    found = kappa_signs(reduced.rows, reduced.nu, target=goal, tol=tol, time_limit=time_limit)
    W = found.directions @ reduced.basis
    size = np.linalg.norm(W, axis=1, keepdims=True)
    W = W / np.where(size > 0, size, 1.0)
    values = found.signs * response(X, nu, W)
    order = np.argsort(-values, kind="stable")
    return replace(
        found,
        upper=reduced.upper(found.upper),
        lower=float(values.max(initial=0.0)),
        directions=W[order],
        signs=found.signs[order],
    )


class _Search:
    """Best-first search over both signs of F at once."""

    def __init__(self, X: Array, nu: Array, target: float, tol: float, deadline: float, stop_above: bool) -> None:
        self.X, self.nu, self.target, self.tol = X, nu, target, tol
        self.deadline, self.stop_above = deadline, stop_above
        self.length = row_norms_up(X)
        self.moments = Moments(X)
        self.heap: list[_Node] = []
        self.settled, self.nodes = 0.0, 0
        self.W, self.values, self.signs = np.zeros((0, X.shape[1])), np.zeros(0), np.zeros(0)

    @property
    def lower(self) -> float:
        return float(self.values.max(initial=0.0))

    @property
    def goal(self) -> float:
        return max(self.target, (1 + self.tol) * self.lower)

    @property
    def upper(self) -> float:
        """Proved so far: what is settled, what is open, and never below what is attained."""
        return max(self.settled, -self.heap[0].key if self.heap else 0.0, self.lower)

    def run(self) -> KappaBracket:
        rng = np.random.default_rng(0)  # of incumbents only
        start = rng.standard_normal((STARTS, self.X.shape[1]))
        for sign in (1.0, -1.0):
            self._climb(np.vstack([start, self.X, -self.X]), sign)
        free = Piece(np.zeros(len(self.nu)), -self.length, self.length)
        nothing = Majorant(np.zeros(len(self.nu)), np.zeros(len(self.nu)), np.zeros((0, 0)))
        for sign in (1.0, -1.0):
            self._open(sign, free, np.zeros(self.X.shape[1]), (nothing, None), math.inf)
        while not (status := self._status()):
            self._branch(heapq.heappop(self.heap))
        order = np.argsort(-self.values, kind="stable")[:KEPT]
        return KappaBracket(self.upper, self.lower, self.W[order], self.signs[order], self.nodes, status)

    def _status(self) -> str:
        if self.stop_above and self.lower > self.target:
            return "above"
        if self.upper <= self.target:
            return "target"
        if not self.heap or -self.heap[0].key <= self.goal:
            return "converged"
        return "time_limit" if time.perf_counter() > self.deadline else ""

    def _branch(self, node: _Node) -> None:
        """Fix the sign of one unit both ways."""
        bound = -node.key
        if node.split < 0:
            self.settled = max(self.settled, bound)
            return
        for side in (1.0, -1.0):
            signs = node.piece.signs.copy()
            signs[node.split] = side
            piece = self._tightened(replace(node.piece, signs=signs))
            rows = np.flatnonzero(signs)
            inside = least_distance(signs[rows, None] * self.X[rows], self.length[rows])
            majorant = _carried(node, piece)
            if inside is None:  # a piece without interior: the majorant of its parent still holds
                again = majorant_bound(self.X, node.sign * self.nu, piece, majorant)
                self.settled = max(self.settled, min(bound, again))
            else:
                self._open(node.sign, piece, inside / (2 * np.linalg.norm(inside)), (majorant, node.centre), bound)

    def _open(
        self, sign: float, piece: Piece, inside: Array, inherited: tuple[Majorant, Array | None], bound: float
    ) -> None:
        """Bound a piece; keep it when it may hold more than the goal."""
        c = sign * self.nu
        accuracy = ACCURACY * self.tol * max(self.lower, self.target, 1e-300)
        self.nodes += 1
        found = relax(self.moments, c, piece, inside, accuracy, self.goal, inherited[1])
        value, majorant = found.bound, found.majorant
        if math.isfinite(bound) and value > bound:
            value, majorant = bound, inherited[0]
        self._climb(found.mean[None], sign)
        if value <= self.goal:
            self.settled = max(self.settled, value)
            return
        split = int(np.argmax(found.gaps)) if found.gaps.max() > 0 else -1
        heapq.heappush(self.heap, _Node(-value, self.nodes, sign, piece, majorant, split, found.centre))

    def _tightened(self, piece: Piece) -> Piece:
        """Shorter intervals from the fixed signs: ``x_j'w <= |x_j + sum_k y_k s_k x_k|`` for every ``y >= 0``."""
        fixed = np.flatnonzero(piece.signs)
        cone = piece.signs[fixed, None] * self.X[fixed]
        low, high = piece.low.copy(), piece.high.copy()
        low[piece.signs > 0] = np.maximum(low[piece.signs > 0], 0.0)
        high[piece.signs < 0] = np.minimum(high[piece.signs < 0], 0.0)
        for j in np.flatnonzero(piece.loose | (piece.signs != 0)):
            high[j] = min(high[j], self._support(cone, self.X[j]))
            low[j] = max(low[j], -self._support(cone, -self.X[j]))
        low, high = np.minimum(low, high), np.maximum(low, high)
        return Piece(piece.signs, low, high)

    def _support(self, cone: Array, x: Array) -> float:
        y = nonnegative_fit(cone.T, -x)
        point = x if y is None else x + np.maximum(y, 0.0) @ cone
        terms = np.abs(x) + (0.0 if y is None else np.maximum(y, 0.0) @ np.abs(cone))
        return float(row_norms_up(point[None])[0] + 1e-14 * np.linalg.norm(terms))

    def _climb(self, W: Array, sign: float, rounds: int = 30) -> None:
        """Ascent of ``sign F`` on the sphere; the best directions are remembered."""
        length = np.linalg.norm(W, axis=1, keepdims=True)
        W = W[length[:, 0] > 0] / length[length[:, 0] > 0]
        values = sign * response(self.X, self.nu, W)
        step = np.ones(len(W))
        for _ in range(rounds):
            gradient = sign * ((W @ self.X.T > 0) * self.nu) @ self.X
            size = np.maximum(np.linalg.norm(gradient, axis=1, keepdims=True), 1e-300)
            trial = (1 - step)[:, None] * W + step[:, None] * gradient / size
            trial /= np.maximum(np.linalg.norm(trial, axis=1, keepdims=True), 1e-300)
            new = sign * response(self.X, self.nu, trial)
            better = new > values * (1 + 1e-12)
            W[better], values[better] = trial[better], new[better]
            step = np.where(better, np.minimum(1.0, 2 * step), 0.4 * step)
        best = np.argsort(-values)[: KEPT // 2]
        self.W = np.vstack([self.W, W[best]])
        self.values = np.concatenate([self.values, values[best]])
        self.signs = np.concatenate([self.signs, np.full(len(best), sign)])
        if len(self.values) > 20 * KEPT:
            kept = np.argsort(-self.values)[:KEPT]
            self.W, self.values, self.signs = self.W[kept], self.values[kept], self.signs[kept]


def _carried(node: _Node, piece: Piece) -> Majorant:
    """The majorant of a node with room for the pairs of one more fixed unit."""
    before, now = np.flatnonzero(node.piece.signs), np.flatnonzero(piece.signs)
    pairs = np.zeros((len(now),) * 2)
    where = np.searchsorted(now, before)
    pairs[np.ix_(where, where)] = node.majorant.pairs[: len(before), : len(before)]
    return Majorant(node.majorant.quadratic, node.majorant.linear, pairs)
