"""L-BFGS on the neurons: the first way down, before second derivatives pay."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers.column_generation.objective import Evaluation, Objective

Array = NDArray[np.float64]

MEMORY = 20


class _Stop(Exception):  # noqa: N818
    """Leaves the minimizer of scipy."""


def lbfgs(objective: Objective, at: Evaluation, iterations: int, out_of_time: Callable[[], bool]) -> Evaluation:
    """Best of the neurons met in some iterations of L-BFGS; it is the last evaluation of ``objective``."""
    from scipy.optimize import minimize

    best = at

    def function(p: Array) -> tuple[float, Array]:
        nonlocal best
        here = objective.evaluate(at.neurons.at(p))
        if here.value < best.value:
            best = here
        if out_of_time():
            raise _Stop
        return here.value, objective.gradient(here).ravel()

    options: Any = {"maxiter": iterations, "maxcor": MEMORY, "maxfun": 2 * iterations, "ftol": 1e-15, "gtol": 0.0}
    with contextlib.suppress(_Stop):
        minimize(function, at.neurons.P.ravel(), jac=True, method="L-BFGS-B", options=options)
    return objective.evaluate(best.neurons)
