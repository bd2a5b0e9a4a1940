"""The best separable majorants of a network on a unit ball or box, by a barrier method with few unknowns.

Two numbers a group (curvature and slope of its quadratic) and the multipliers of the region are coupled; offsets and
the multipliers of the pieces are eliminated group by group. No semidefinite variable, one (2G + r) system a step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import Activation, ReLU
from convexnn.regions.barrier import Barrier, State, fixed_majorants
from convexnn.regions.check import proved_bound
from convexnn.regions.region import BALL
from convexnn.regions.ridges import Ridges, Units, as_units, ridges
from convexnn.values import ByValue

Array = NDArray[np.float64]

NEGLIGIBLE = 1e-11  # share of all groups' variation below which a group is not optimized
GROWTH = 6.0  # of the weight of the value against the barrier
CENTRED = 1.0


@dataclass(frozen=True, eq=False)
class Majorants(ByValue):
    """Majorants of every group and what they prove.

    Attributes
    ----------
    curvature, slope : array, shape (G,)
        al and be of the quadratics ``al a^2 + be a + de``, a = v_g'e with the weights of the group's first unit.
    rho : array, shape (r,)
        Multipliers of the region; all equal for a ball.
    bound : float
        Proved upper bound of the network, rounding included.
    value : float
        What the solver reached, without proof; the bound is a rounding above it.
    point : array, shape (r,)
        Mean of the relaxed maximizer: a start for attacks, not always in the region's surface.
    iterations : int
    status : str
        "optimal", "max_iter", "time_limit", "stalled" or "linear".
    """

    curvature: Array = field(repr=False)
    slope: Array = field(repr=False)
    rho: Array = field(repr=False)
    bound: float
    value: float
    point: Array = field(repr=False)
    iterations: int = 0
    status: str = "optimal"


def _optimized(parts: Ridges) -> tuple[NDArray[np.intp], float]:
    """Groups worth optimizing, and the size of the values."""
    exists = parts.exists
    high, low = (np.where(exists, s * parts.slopes, -np.inf).max(axis=1) for s in (1.0, -1.0))
    variation = np.where(exists.any(axis=1), (high + low) * parts.reach, 0.0)
    bent = np.abs(np.where(exists, parts.curves, 0.0)).max(axis=1) * parts.reach**2
    steep = np.where(exists, np.abs(parts.slopes), 0.0).max(axis=1) * parts.reach
    size = float(steep.sum() + bent.sum())
    rows = np.flatnonzero(parts.kinked & (variation > NEGLIGIBLE * size / max(len(variation), 1)))
    return rows, size if size > 0 else 1.0


def best_majorants(
    parts: Ridges,
    *,
    tol: float = 1e-7,
    max_iter: int = 300,
    deadline: float = np.inf,
    start: tuple[Array, Array] | None = None,
) -> Majorants:
    """The majorants that minimize :func:`~convexnn.regions.check.proved_bound`, to a relative gap of ``tol``.

    Implements: convexnn, Proposition 3 of theory/region_bounds.md, the reduced dual.

    Parameters
    ----------
    parts : Ridges
    tol : float
        On the size of the gap of the barrier over the size of the value.
    max_iter : int
        Newton steps.
    deadline : float
        ``time.monotonic()`` after which the best so far is returned.
    start : (curvature, slope), optional
        Arrays (G,): known majorants; the result proves no more than they do.
    """
    rows, size = _optimized(parts)
    G, r = parts.directions.shape
    al, be = fixed_majorants(parts, np.arange(G))
    chosen, status, steps = None, "linear", 0
    with np.errstate(all="ignore"):
        if len(rows) or parts.kind != BALL:
            barrier = Barrier(parts, rows, size)
            known = (
                None
                if start is None
                else (start[0][rows] * barrier.reach**2 / size, start[1][rows] * barrier.reach / size)
            )
            chosen, status, steps = _minimize(barrier, tol, max_iter, deadline, known)
            al[rows], be[rows] = chosen.al * size / barrier.reach**2, chosen.be * size / barrier.reach
    rho = np.zeros(r) if chosen is None else np.broadcast_to(chosen.rho * size, (r,)).copy()
    value = np.nan if chosen is None else chosen.value * size + parts.offset
    point = np.zeros(r) if chosen is None else 0.5 * chosen.u
    options = [(al, be)] if start is None else [(al, be), start]
    bounds = [proved_bound(parts, *option, rho) for option in options]
    al, be = options[int(np.argmin(bounds))]
    bound = min(bounds)
    return Majorants(al, be, rho, bound, bound if np.isnan(value) else value, point, steps, status)


def _minimize(
    problem: Barrier, tol: float, max_iter: int, deadline: float, known: tuple[Array, Array] | None
) -> tuple[State, str, int]:
    s = problem.start() if known is None else problem.start(*known)
    t, steps = problem.parameter / (2.0 * abs(s.value) + 1e-3), 0
    while True:
        for _ in range(40):
            found = problem.step(s, t)
            steps += 1
            if found is None:
                return s, "stalled", steps
            moved = _search(problem, s, *found, t)
            if moved is None:
                break
            s = _freed(moved, t)
            if found[1] < CENTRED or steps >= max_iter or time.monotonic() >= deadline:
                break
        if problem.parameter / t < tol * max(abs(s.value), 1e-3):
            return s, "optimal", steps
        if steps >= max_iter or time.monotonic() >= deadline:
            return s, "max_iter" if steps >= max_iter else "time_limit", steps
        t *= GROWTH


def _freed(s: State, t: float) -> State:
    """With the best tau for the rest: next to its bound it would keep everything else from moving."""
    if s.room * t < 1.0:
        room = 1.0 / t
        s.tau, s.value, s.barrier = (
            s.tau + room - s.room,
            s.value + room - s.room,
            s.barrier + float(np.log(s.room * t)),
        )
        s.room = room
    return s


def _search(problem: Barrier, s: State, step: State, decrement: float, t: float) -> State | None:
    """The best of a row of shrinking steps: the longest feasible one often ends next to the boundary, a bad place."""
    before, length = t * s.value + s.barrier, 1.0
    best, least = None, before
    for _ in range(60):
        trial = problem.evaluate(s.moved(step, length))
        merit = np.inf if trial is None else t * trial.value + trial.barrier
        if merit < least:
            best, least = trial, merit
        elif best is not None:
            return best
        if best is not None and length == 1.0 and decrement < 1.0:
            return best
        if length * decrement < 1e-10 * abs(before):
            break
        length *= 0.6
    return best


def solve_majorants(
    weights: ArrayLike,
    biases: ArrayLike,
    outer: ArrayLike,
    offset: float,
    kind: str,
    *,
    groups: NDArray[np.intp] | None = None,
    activation: Activation | None = None,
    tight: bool = True,
    tol: float = 1e-7,
    max_iter: int = 300,
    start: tuple[Array, Array] | None = None,
) -> Majorants:
    """The best majorants of a shallow network ``sum_i outer_i act(weights_i'e + biases_i) + offset``.

    Parameters
    ----------
    weights : array, shape (h, r)
        In the unit variable e of the region.
    biases, outer : array, shape (h,)
    offset : float
    kind : {"ball", "box"}
    groups : array of int, shape (h,), optional
        Units that share one majorant (see `regions.paired.parallel_groups`); by default each has its own.
    activation : ReLU (default), LeakyReLU, Polynomial or Identity
    tight : bool
        Majorants need only hold on the interval that a group can reach; False gives the paper's semidefinite program.
    tol, max_iter, start
        See :func:`best_majorants`.
    """
    units = _units(weights, biases, outer, offset, kind, groups, activation)
    return best_majorants(ridges(units, tight=tight), tol=tol, max_iter=max_iter, start=start)


def majorant_bound(
    weights: ArrayLike,
    biases: ArrayLike,
    outer: ArrayLike,
    offset: float,
    curvature: ArrayLike,
    slope: ArrayLike,
    kind: str,
    *,
    groups: NDArray[np.intp] | None = None,
    activation: Activation | None = None,
    tight: bool = True,
    rho: ArrayLike | None = None,
) -> float:
    """Proved upper bound of a shallow network on the unit ball or box from any majorants, one a group.

    Arguments as in :func:`solve_majorants`; ``curvature`` and ``slope`` have shape (G,), ``rho`` (r,) only matters for
    boxes. The rounding of the computation is included; the network is the one of these float64 numbers.
    """
    units = _units(weights, biases, outer, offset, kind, groups, activation)
    return proved_bound(ridges(units, tight=tight), curvature, slope, rho)


def _units(
    weights: ArrayLike, biases: ArrayLike, outer: ArrayLike, offset: float, kind: str,
    groups: NDArray[np.intp] | None, activation: Activation | None,
) -> Units:  # fmt: skip
    others = {} if groups is None else {"groups": groups}
    return as_units(weights, biases, outer, offset, kind, activation=activation or ReLU(), **others)
