"""Certifier "sdp_first_order": the semidefinite relaxation of large networks by gradients of its dual.

The dense Newton system of :mod:`convexnn.relaxations.arrow` has a row for every multiplier, about ``4 m + d``; here
nothing is larger than m x m or m x d for m unstable units. The evidence is that of "sdp", and so is its check: one
proved eigenvalue of a matrix of size 1 + m.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.propagation.layer_bounds import LayerBounds, crown_bounds
from convexnn.propagation.query import Certifier, Effort, Evidence, Query
from convexnn.relaxations.arrow.evidence import check_arrow, has_relaxation, linear_bounds
from convexnn.relaxations.arrow.problem import ArrowProblem, Relaxation
from convexnn.relaxations.arrow.starts import dual_start
from convexnn.relaxations.arrow.targets import count_unstable, relaxation_of
from convexnn.relaxations.quasi_newton import Limits, descend
from convexnn.relaxations.smoothed_dual import Point, SmoothedDual
from convexnn.relaxations.support import refuse_smooth_units

Array = NDArray[np.float64]

#: Unstable units that dense matrices of that size still allow (the largest takes 0.3 GB).
LARGEST = 6000
#: Gap of the first descent relative to the bound, and the factor between descents.
FIRST_GAP, SHRINK = 0.3, 0.2
#: Rounds: after each, smoothing comes back at this gap and descents get more patient.
BACK, PATIENCE = 0.03, (0.1, 0.03, 0.01, 0.005, 0.003)
STEPS, WINDOW = 60, 3


@dataclass
class _Run:
    """Steps left and the best point of a row."""

    effort: Effort
    left: int
    best: Point
    target: float

    def enough(self, point: Point) -> bool:
        """Whether to stop at once."""
        return point.bound < self.target or self.effort.out_of_time()

    @property
    def status(self) -> str:
        """In the words of `Evidence`."""
        if self.best.bound < self.target:
            return "below"
        if self.effort.out_of_time():
            return "time_limit"
        return "optimal" if self.left > 0 else "max_iter"


def propose_first_order(query: Query, effort: Effort, bounds: LayerBounds | None = None) -> Evidence:
    """Multipliers of the semidefinite relaxation by limited-memory BFGS on its smoothed dual.

    Implements: Dathathri et al. (2020), SDP-FO, first-order descent on the dual with every iterate a certificate; with
    Schur complements and smoothing in place of eigenvectors and Adam (docs/theory/relaxations.md).

    Parameters
    ----------
    query : Query
        ReLU, LeakyReLU or linear units, any number of hidden layers; signs are honoured.
    effort : Effort
        ``tol`` is the relative gain below which a round of descents is the last; ``max_iter`` steps a row (default:
        no limit beside the rounds); ``stop_below``, ``first_failure``, ``deadline``.
    bounds : LayerBounds, optional
        Default: linear bounds.

    Returns
    -------
    Evidence
        Multiplier ``row{r}/y`` and ``row{r}/nu`` as of "sdp"; rows below the target by linear bounds have none.
        "optimal" means that descents gain no more: there is no gap.
    """
    bounds = crown_bounds(query) if bounds is None else bounds
    keys: dict[str, Array] = dict(bounds.multiplier)
    if bounds.empty or not has_relaxation(query, bounds):
        return Evidence("sdp_first_order", keys)
    if size_refusal(query, bounds) is not None:
        return Evidence("sdp_first_order", keys, f"failed: {size_refusal(query, bounds)}")
    relaxation = relaxation_of(query, bounds)
    before, statuses, iterations = linear_bounds(query, bounds), [], 0
    target = -np.inf if effort.stop_below is None else effort.stop_below
    for row in np.argsort(-before, kind="stable"):
        if before[row] < target or relaxation.m == 0:
            continue
        if effort.out_of_time():
            statuses.append("time_limit")
            break
        run = minimize_row(relaxation, int(row), effort)
        if run is None:
            statuses.append("failed: no strictly feasible start was found")
            continue
        status, point, steps = run
        statuses.append(status)
        iterations += steps
        keys[f"row{row}/y"], keys[f"row{row}/nu"] = np.split(point.v, [relaxation.n_rows])
        if effort.first_failure and not min(point.bound, before[row]) < target:
            break
    return Evidence("sdp_first_order", keys, _one_word(statuses), iterations)


def minimize_row(relaxation: Relaxation, row: int, effort: Effort) -> tuple[str, Point, int] | None:
    """Status, best point and steps for a row; None without a start."""
    problem = ArrowProblem(relaxation, relaxation.forms.outputs[row])
    v = dual_start(problem)
    if v is None:
        return None
    function = SmoothedDual(problem)
    function.recentre(v, 0.0)
    budget = effort.max_iter if effort.max_iter is not None else 10**9
    target = -np.inf if effort.stop_below is None else effort.stop_below - 1e-9 * (1.0 + abs(effort.stop_below))
    run = _Run(effort, budget, function(np.zeros(len(v)), 0.0), target)
    gap = FIRST_GAP * (abs(run.best.bound) + 1e-12)
    for patience in PATIENCE:
        earlier = run.best.bound
        _round(function, v, gap, patience, run)
        gain, size = earlier - run.best.bound, _size(run.best)
        if run.left <= 0 or run.enough(run.best) or gain < max(effort.tol, 1e-7) * size:
            break
        v, gap = run.best.v, BACK * size
    return run.status, run.best, budget - run.left


def _round(function: SmoothedDual, v: Array, gap: float, patience: float, run: _Run) -> None:
    """Descents with less and less smoothing, each from where the one before ended."""
    while run.left > 0 and not run.enough(run.best):
        mu = gap / function.weight
        function.recentre(v, mu)
        limits = Limits(min(STEPS, run.left), patience * gap, WINDOW, run.enough)
        last, best, steps = descend(function, mu, limits)
        run.left -= max(steps, 1)
        run.best = best if best.bound < run.best.bound else run.best
        v, gap = last.v, SHRINK * gap
        if gap < 0.5 * max(run.effort.tol, 1e-9) * _size(run.best):
            break


def _size(point: Point) -> float:
    return max(abs(point.bound), 1e-3 * float(np.abs(point.v).max(initial=0.0)), 1e-12)


def _one_word(statuses: list[str]) -> str:
    failed = [status for status in statuses if status.startswith("failed")]
    order = (*failed, "time_limit", "max_iter", "optimal", "below")
    return next((status for status in order if status in statuses), "optimal")


def size_refusal(query: Query, bounds: LayerBounds) -> str | None:
    """Why these bounds leave matrices too large, or None."""
    m = count_unstable(query, bounds)
    if m <= LARGEST:
        return None
    return f"The bounds leave {m} unstable units, {LARGEST} at most; use 'alpha_crown' or tighter bounds."


def refuse_first_order(query: Query) -> str | None:
    """Why the method does not apply, or None."""
    return refuse_smooth_units(query) or size_refusal(query, crown_bounds(query))


FIRST_ORDER = Certifier("sdp_first_order", propose_first_order, check_arrow, refuse_first_order)
