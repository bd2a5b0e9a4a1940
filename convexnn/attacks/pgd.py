"""Projected gradient ascent with restarts, momentum and a falling step; one for every norm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from convexnn.attacks.base import Attack, AttackProblem
from convexnn.attacks.fgsm import FGSM
from convexnn.attacks.objectives import Goal
from convexnn.exceptions import InvalidInputError
from convexnn.threats import L2Ball

Array = NDArray[np.float64]

FIRST_STEPS, LAST_STEP = (2.0, 0.5), 0.02  # in radii; the first step alternates between restarts
MOMENTUM = 0.25
POOLS = (1, 16)  # points a random start is chosen from, in the same turn


@dataclass(frozen=True)
class PGD(Attack):
    """Projected gradient ascent: ``x <- project(x + step direction(g))``.

    The direction is ``sign(g)`` scaled to the set for boxes and ``g / |g|_2`` for l2. Part of the last move is
    added to each step. The first start is the sample itself, with steps that fall geometrically from two radii
    to a fiftieth of one; every second start is the worst of sixteen random points and begins with half a radius,
    the others are random points treated like the first. All samples share the random numbers of a start, so the
    result of a sample does not depend on the batch, and a longer list of restarts begins with the shorter one:
    more restarts are never weaker. The points of :class:`FGSM` are candidates as well.

    Implements: Madry et al. (2018), section 2, arXiv 1706.06083, for any threat set; momentum as in
    Croce & Hein (2020), eq. (2), arXiv 2003.01690.

    Parameters
    ----------
    steps : int, default=40
    restarts : int, default=5
    """

    steps: int = 40
    restarts: int = 5

    name: ClassVar[str] = "pgd"

    def __post_init__(self) -> None:
        """Refuse counts that are not positive integers."""
        for label, value in (("steps", self.steps), ("restarts", self.restarts)):
            if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < 1:
                raise InvalidInputError(f"{label} must be a positive integer, got {value!r}.")

    def propose(self, problem: AttackProblem) -> Iterator[Array]:
        """FGSM's points, then the worst iterate of each goal and start."""
        yield from FGSM().propose(problem)
        goals = problem.objective.goals(problem.outputs(problem.X))
        for restart in range(self.restarts):
            for goal in goals:
                yield self._climb(problem, goal, restart)

    def _climb(self, problem: AttackProblem, goal: Goal, restart: int) -> Array:
        X = problem.X
        rng = np.random.default_rng([problem.seed, restart])
        x = problem.threat.project(X, X) if restart == 0 else _random_start(problem, rng, POOLS[restart % len(POOLS)])
        before, best, worst = x, x, np.full(len(X), -np.inf)
        for step in _steps(self.steps, restart):
            outputs, gradient = problem.slope(x, goal)
            best, worst = _keep(problem, best, worst, x, outputs)
            move = _pull_in(problem, x + step * _direction(problem, gradient, rng)) - x
            x, before = _pull_in(problem, x + (1 - MOMENTUM) * move + MOMENTUM * (x - before)), x
        return _keep(problem, best, worst, x, problem.outputs(x))[0]


def _steps(count: int, restart: int) -> Array:
    """Step lengths in radii: long first steps leave poor regions, short ones keep the random starts apart."""
    first = FIRST_STEPS[restart % len(FIRST_STEPS)]
    steps: Array = np.geomspace(first, min(first, LAST_STEP), count)
    return steps


def _random_start(problem: AttackProblem, rng: np.random.Generator, count: int) -> Array:
    """The worst of ``count`` points of each set, from random numbers that all samples share.

    Corners of the enclosing box and points inside it take turns; both are projected into the set.
    """
    X, (lower, upper) = problem.X, problem.threat.bounding_box(problem.X)
    best, worst = X, np.full(len(X), -np.inf)
    for index in range(count):
        part = rng.random(X.shape[1])
        part = part if index % 2 == 0 else np.round(part)
        x = _pull_in(problem, lower + (upper - lower) * part)
        best, worst = _keep(problem, best, worst, x, problem.outputs(x))
    return best


def _pull_in(problem: AttackProblem, Z: Array) -> Array:
    """Points of the sets near ``Z``.

    The exact projection for balls and boxes. A clipped l2 ball is met by projecting on the ball, then on the clip:
    for a sample inside the clip the second does not leave the ball, and nothing is searched for.
    """
    X, (lower, upper) = problem.X, problem.threat.bounding_box(problem.X)
    if problem.threat.norm == "l2":
        Z = L2Ball(cast(L2Ball, problem.threat).radius).project(Z, X)
    return np.minimum(np.maximum(Z, lower), upper)


def _direction(problem: AttackProblem, gradient: Array, rng: np.random.Generator) -> Array:
    """Steepest direction of length one radius; where the network is flat, a random one."""
    noise = rng.standard_normal(gradient.shape[1])
    flat = ~gradient.any(axis=1, keepdims=True)
    slope = np.where(flat, noise, gradient)
    if problem.threat.norm == "l2":
        slope = slope / np.abs(slope).max(axis=1, keepdims=True)  # tiny gradients must not underflow
        return cast(L2Ball, problem.threat).radius * slope / np.linalg.norm(slope, axis=1, keepdims=True)
    lower, upper = problem.threat.bounding_box(problem.X)
    return np.sign(slope) * np.maximum(upper - lower, 0.0) / 2


def _keep(problem: AttackProblem, best: Array, worst: Array, x: Array, outputs: Array) -> tuple[Array, Array]:
    value = problem.objective.value(outputs)
    better = value > worst
    return np.where(better[:, None], x, best), np.where(better, value, worst)
