"""Truncated Newton steps on the neurons: conjugate gradients on exact second derivatives, and a line search."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers.column_generation.neurons import Neurons
from convexnn.solvers.column_generation.objective import Evaluation, Objective

Array = NDArray[np.float64]

HALVINGS = 12
SUFFICIENT = 1e-4


@dataclass(frozen=True)
class NewtonOptions:
    """When to stop.

    Parameters
    ----------
    gradient : float
        Norm of the gradient that is small enough.
    steps : int
        Newton steps at most.
    products : int
        Products with the second derivative at most, in one step.
    """

    gradient: float
    steps: int = 10
    products: int = 100


def newton(
    objective: Objective,
    at: Evaluation,
    options: NewtonOptions,
    enough: Callable[[Evaluation], bool],
    out_of_time: Callable[[], bool],
) -> Evaluation:
    """Neurons of a lower smoothed objective, from an evaluation that was the last one of ``objective``."""
    for _ in range(options.steps):
        gradient = objective.gradient(at)
        size = float(np.linalg.norm(gradient))
        if size <= options.gradient or enough(at) or out_of_time():
            break
        direction = conjugate_direction(objective, at, gradient, options, out_of_time)
        following = line_search(objective, at, gradient, direction)
        if following is None:
            break
        at = following
    return at


def conjugate_direction(
    objective: Objective, at: Evaluation, gradient: Array, options: NewtonOptions, out_of_time: Callable[[], bool]
) -> Array:
    """Approximate Newton direction; along negative curvature the last descent direction before it.

    Neurons are measured relative to their own length, since the second derivative in a neuron grows with its square.
    """
    second = objective.second(at)
    weights = _preconditioner(at.neurons)
    x, residual = np.zeros_like(gradient), -gradient
    first = size = float(np.linalg.norm(gradient))
    scaled = weights * residual
    direction, product = scaled, float((residual * scaled).sum())
    target = max(0.3 * options.gradient, first * min(0.1, np.sqrt(first / max(at.value, 1e-300))))
    for count in range(options.products):
        change = second(direction)
        curvature = float((direction * change).sum())
        if curvature <= 1e-14 * float((direction * direction).sum()):
            return direction if count == 0 else x
        step = product / curvature
        x = x + step * direction
        residual = residual - step * change
        size = float(np.linalg.norm(residual))
        if size <= target or out_of_time():
            break
        scaled = weights * residual
        following = float((residual * scaled).sum())
        direction = scaled + (following / product) * direction
        product = following
    return x


def _preconditioner(neurons: Neurons) -> Array:
    squares = neurons.norms**2
    weights: Array = 1.0 / (squares + 0.01 * squares.max(initial=1e-300))
    return weights[:, None]


def line_search(objective: Objective, at: Evaluation, gradient: Array, direction: Array) -> Evaluation | None:
    """First of the steps 1, 1/2, 1/4, ... with a sufficient decrease; None when there is none."""
    slope = float((gradient * direction).sum())
    if not slope < 0:
        return None
    step = 1.0
    for _ in range(HALVINGS):
        following = objective.evaluate(at.neurons.at(at.neurons.P + step * direction))
        if following.value <= at.value + SUFFICIENT * step * slope:
            return following
        step *= 0.5
    return None
