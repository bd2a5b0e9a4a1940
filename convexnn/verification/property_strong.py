"""Strong methods on whole boxes: on single rows, and on the one combination of rows that points cannot refute."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from convexnn.activations import LeakyReLU, ReLU
from convexnn.network import Network
from convexnn.propagation import Effort, Query
from convexnn.verification.cascade import FAILURES
from convexnn.verification.property_attack import Rows, climb
from convexnn.verification.property_bounds import BoxBounds
from convexnn.verification.registry import METHODS, get_certifier, is_there

if TYPE_CHECKING:
    from convexnn.verification.property_search import Group, Search

Array = NDArray[np.float64]

#: Rounds of weights, attack and bounds for one case; cutting planes of one round, and their paths and steps.
ROUNDS, CUTS, PATHS, STEPS = 8, 40, 4, 10
#: Steps from the points that methods hand over.
FOLLOW = 40


def strengthen(search: Search, group: Group) -> None:
    """Methods in order of cost on every open case whose rows are about outputs alone; bisection knows the others."""
    names = _methods(search)
    usable = [case for case in group.open if not group.rows.input_rows[group.rows.member[case]].any()]
    single = [case for case in usable if group.rows.member[case].sum() == 1]
    for name in names:
        for position, case in enumerate(single):
            if search.violated is None and not group.bounds[case] < 0 and not search.is_over():
                _apply(search, group, case, name, len(single) - position)
    for position, case in enumerate([case for case in usable if case not in single]):
        _combine(search, group, case, names, len(usable) - len(single) - position)


def _methods(search: Search) -> tuple[str, ...]:
    if search.limits.method != "auto":
        return (search.limits.method,)
    piecewise = isinstance(search.network.activation, ReLU | LeakyReLU)
    names = ("alpha_crown", "sdp", "branch_and_bound") if piecewise else ("alpha_crown", "quadratic")
    return tuple(name for name in names if is_there(name))


def _combine(search: Search, group: Group, case: int, names: tuple[str, ...], left: int) -> None:
    """Methods on the combination that known points leave negative, until one proves it or none is left."""
    pool = np.vstack([group.points[case]])
    for _ in range(ROUNDS):
        with search.timed("combination"):
            found = best_weights(search.network, group.rows, case, group.box, pool)
            search.follow(group, group.box, np.array([case, case], dtype=np.intp), found.mixture[[0, 0]], FOLLOW)
        if not found.value < 0 or not _is_open(search, group, case):
            return
        group.weights[case] = found.weights
        fresh = [_apply(search, group, case, name, left) for name in names if _is_open(search, group, case)]
        points = np.vstack([np.empty((0, pool.shape[1])), *fresh])
        if not _is_open(search, group, case) or not len(points):
            return
        pool = np.vstack([found.pool, points])


def _is_open(search: Search, group: Group, case: int) -> bool:
    return search.violated is None and not group.bounds[case] < 0 and not search.is_over()


@dataclass(frozen=True, eq=False)
class Combination:
    """A combination of the rows of a case.

    Attributes
    ----------
    weights : array, shape (q,)
    value : float
        Its largest value that was found: LOWER bound on its maximum.
    pool : array, shape (p, d)
        Points of the box.
    mixture : array, shape (1, d)
        Their convex combination on which the rows would balance if they were linear: a start for attacks.
    """

    weights: Array
    value: float
    pool: Array
    mixture: Array


def best_weights(network: Network, rows: Rows, case: int, box: tuple[Array, Array], pool: Array) -> Combination:
    """Weights of the rows of a case whose combination is as negative as points allow, by cutting planes.

    ``min over weights w of max over points x of w'r(x)`` is a linear program; attacks on the combination that it
    returns add points.

    Parameters
    ----------
    network : Network
    rows : Rows
    case : int
    box : pair of arrays, shape (d,)
    pool : array, shape (p, d)
        Points of the box.
    """
    own = np.flatnonzero(rows.member[case])
    best, mixture = (np.inf, np.zeros(len(rows.offset))), pool[:1]
    for _ in range(CUTS):
        values = rows.values(network, pool)[:, own]
        weights = np.zeros(len(rows.offset))
        weights[own], shares = _minimax(values)
        level, mixture = float((values @ weights[own]).max()), shares[None] @ pool
        if level >= 0:  # no combination is negative on all points
            best = min(best, (level, weights), key=lambda pair: pair[0])
            break
        offset, alone = np.atleast_1d(weights @ rows.offset), np.ones((1, 1), dtype=bool)
        one = Rows(weights[None] @ rows.rows, weights[None] @ rows.input_rows, offset, alone)
        start = pool[np.argsort(-(values @ weights[own]))[:PATHS]]
        found = climb(network, one, box, np.zeros(len(start), dtype=np.intp), start, STEPS)
        top = max(level, float(found.values.max()))
        best = min(best, (top, weights), key=lambda pair: pair[0])
        pool = np.vstack([pool, found.points])
        if best[0] <= level + 1e-2 * abs(level):
            break
    return Combination(best[1], best[0], pool, np.clip(mixture, *box))


def _minimax(values: Array) -> tuple[Array, Array]:
    """Weights of the columns with the smallest largest row of ``values w``, and those of the rows in the dual."""
    n, q = values.shape
    found = linprog(
        np.append(np.zeros(q), 1.0),
        A_ub=np.hstack([values, -np.ones((n, 1))]),
        b_ub=np.zeros(n),
        A_eq=np.append(np.ones(q), 0.0)[None],
        b_eq=[1.0],
        bounds=[(0.0, 1.0)] * q + [(None, None)],
    )
    if found.status != 0 or found.x is None:
        return np.full(q, 1.0 / q), np.full(n, 1.0 / n)
    weights, shares = np.maximum(found.x[:-1], 0.0), np.maximum(-found.ineqlin.marginals, 0.0)
    return weights / weights.sum(), shares / max(float(shares.sum()), 1e-300)


def _apply(search: Search, group: Group, case: int, name: str, left: int) -> Array:
    """One method on the combination of a case, in a fair share of the time left; attacks from its points."""
    certifier, points = get_certifier(name), []
    now = time.monotonic()
    deadline = now + (search.limits.deadline - now) / max(left, 1)

    def bounder(query: Query) -> Array:
        refusal = certifier.refusal(query)
        if refusal is not None or not METHODS[name].rigorous:
            return np.full(query.n_rows, np.inf)
        seed = int(search.limits.rng.integers(2**31))
        evidence = certifier.propose(query, Effort(stop_below=0.0, deadline=deadline, seed=seed))
        points.append(evidence.points)
        return certifier.check(query, evidence.multiplier)

    with search.timed(name):
        box = BoxBounds.over(search.network, *group.box)
        try:
            bound = box.of_combinations(group.rows, group.weights[case : case + 1], bounder)
        except FAILURES:
            return np.empty((0, len(box.inputs.lower)))
        group.close(case, float(bound[0]), name)
        usable = [_inside(found, group.box) for found in points]
        found = np.vstack([np.empty((0, len(box.inputs.lower))), *usable])
        if len(found) and not group.bounds[case] < 0:
            search.follow(group, group.box, np.full(len(found), case, dtype=np.intp), found, FOLLOW)
    return found


def _inside(points: Array, box: tuple[Array, Array]) -> Array:
    """Points of a method, those that are any, clipped to the box."""
    if points.ndim != 2 or points.shape[1] != len(box[0]):
        return np.empty((0, len(box[0])))
    return np.clip(points[np.isfinite(points).all(axis=1)], *box)
