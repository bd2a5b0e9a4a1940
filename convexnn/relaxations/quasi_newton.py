"""Limited-memory BFGS with backtracking, for functions that are infinite outside of an unknown open set."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.relaxations.smoothed_dual import Point, SmoothedDual

Array = NDArray[np.float64]

MEMORY = 20
#: Longest step in a logarithm, smallest step, and the factor of backtracking.
LONGEST, SHORTEST, BACKTRACK = 2.0, 1e-10, 0.3


@dataclass(frozen=True)
class Limits:
    """When a descent ends: steps, decrease over a window of steps, or anybody's word after a step."""

    steps: int
    decrease: float
    window: int
    stop: Callable[[Point], bool]


def descend(function: SmoothedDual, mu: float, limits: Limits) -> tuple[Point, Point, int]:
    """Minimize the smoothed dual from its centre.

    Returns
    -------
    last : Point
        Where the descent ended.
    best : Point
        With the smallest bound on the way.
    steps : int
    """
    phi = np.zeros(len(function.centre))
    here = best = function(phi, mu)
    pairs: list[tuple[Array, Array]] = []
    history, steps = [here.smoothed], 0
    while steps < limits.steps and np.isfinite(here.smoothed):
        direction = _limited(function, -_two_loops(here.gradient, pairs))
        there, length = _backtrack(function, phi, direction, here, mu)
        if there is None:
            if not pairs:
                break
            pairs = []
            continue
        step, change = length * direction, there.gradient - here.gradient
        if step @ change > 1e-12 * np.sqrt((step @ step) * (change @ change)):
            pairs = [*pairs, (step, change)][-MEMORY:]
        phi, here, steps = phi + step, there, steps + 1
        best = here if here.bound < best.bound else best
        history.append(here.smoothed)
        if limits.stop(best) or (len(history) > limits.window and _stalled(history, limits)):
            break
    return here, best, steps


def _stalled(history: list[float], limits: Limits) -> bool:
    return history[-limits.window - 1] - history[-1] < limits.window * limits.decrease


def _two_loops(gradient: Array, pairs: list[tuple[Array, Array]]) -> Array:
    """Inverse Hessian of the pairs times the gradient.

    Implements: Liu and Nocedal (1989), two-loop recursion of L-BFGS.
    """
    found, weights = gradient.copy(), []
    for step, change in reversed(pairs):
        weights.append((step @ found) / (step @ change))
        found -= weights[-1] * change
    if pairs:
        step, change = pairs[-1]
        found *= (step @ change) / (change @ change)
    for (step, change), weight in zip(pairs, reversed(weights), strict=True):
        found += step * (weight - (change @ found) / (step @ change))
    return found


def _limited(function: SmoothedDual, direction: Array) -> Array:
    longest = float(np.abs((direction * function.scale)[function.logarithmic]).max(initial=0.0))
    return direction if longest <= LONGEST else direction * (LONGEST / longest)


def _backtrack(
    function: SmoothedDual, phi: Array, direction: Array, here: Point, mu: float
) -> tuple[Point | None, float]:
    slope, length = float(here.gradient @ direction), 1.0
    while slope < 0.0 and length > SHORTEST:
        there = function(phi + length * direction, mu)
        if there.smoothed <= here.smoothed + 1e-4 * length * slope:
            return there, length
        length *= BACKTRACK
    return None, 0.0
