"""Training of polynomial networks: one convex program for l2, a few in better and better ellipsoids for linf."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.inputs import seconds_or_none
from convexnn.network import Network
from convexnn.program import Solution
from convexnn.restrictions.polynomial import PolynomialProgram
from convexnn.restrictions.polynomial_metric import better_metric
from convexnn.restrictions.polynomial_multiclass import MulticlassPolynomialProgram
from convexnn.restrictions.polynomial_zero import zero_solution
from convexnn.solvers import solve
from convexnn.values import ByValue

Array = NDArray[np.float64]

#: Ellipsoids tried around the box of an linf threat, and the part of the tolerance that one more must gain.
ELLIPSOIDS, WORTHWHILE = 12, 0.1


@dataclass(frozen=True, eq=False)
class PolynomialTraining(ByValue):
    """A trained polynomial network and what is proved about it.

    Attributes
    ----------
    network : Network
    program : PolynomialProgram
        The program of ``solution``; for linf with the last ellipsoid around the box.
    solution : Solution
        Its gap is about all networks of any width: for l2 on the training problem itself; for linf on the program with
        this ellipsoid, whose objective is an upper bound on the robust objective over the box.
    history : tuple of float
        Objective after every accepted program; never rises.
    """

    network: Network
    program: PolynomialProgram = field(repr=False)
    solution: Solution
    history: tuple[float, ...]


def train_polynomial(
    X: ArrayLike,
    y: ArrayLike,
    *,
    lam: float,
    tol: float = 1e-4,
    time_limit: float | None = None,
    n_classes: int | None = None,
    solver: str = "auto",
    **options: Any,
) -> PolynomialTraining:
    """Train a polynomial network to a certified global gap, robust to perturbations of its inputs.

    For ``norm=inf`` network and ellipsoid are improved in turn: the next ellipsoid lowers the loss of the network at
    hand, the next network is optimal for it, and a round is accepted only if the recomputed objective falls.

    Implements: docs/theory/polynomial.md, Proposition 7.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
        -1 / +1, real targets, or with ``n_classes`` class indices 0..C-1.
    lam : float
        Positive weight of ``sum_j |alpha_j|``.
    tol : float
        Relative gap of every program.
    time_limit : float or None
        Seconds in all; the best network so far comes back.
    n_classes : int or None
        Train all pairs of so many classes; None is one output.
    solver : str
        As in :func:`convexnn.solve`.
    **options
        ``loss``, ``radius``, ``norm``, ``coefficients``, ``sample_weight``, ``metric`` and ``start`` of
        :class:`convexnn.restrictions.PolynomialProgram`.

    Returns
    -------
    PolynomialTraining

    Raises
    ------
    InvalidInputError
        For data or options that cannot be used.
    """
    if n_classes is None:
        program = PolynomialProgram(X, y, lam=lam, **options)
    else:
        program = MulticlassPolynomialProgram(X, y, lam=lam, n_classes=n_classes, **options)
    limit = seconds_or_none(time_limit)
    deadline = math.inf if limit is None else time.perf_counter() + limit
    box = np.full(program.n_inputs, program.radius) if program.norm != 2 and program.radius > 0 else None
    return solve_polynomial(program, box, {"tol": tol, "solver": solver}, deadline)


def solve_polynomial(
    program: PolynomialProgram, box: Array | None, options: dict[str, Any], deadline: float = math.inf
) -> PolynomialTraining:
    """Solve a program, and those in better ellipsoids around a box; without a solver where zero is proved optimal.

    Parameters
    ----------
    program : PolynomialProgram
    box : array, shape (d,), or None
        Half-widths of the box inside the set of the program; None keeps the set.
    options : dict
        Of :func:`convexnn.solve`, with ``tol``.
    deadline : float
        On the clock of ``time.perf_counter``.
    """
    solution = zero_solution(program, options["tol"])
    if solution is not None:
        return PolynomialTraining(program.decode(solution.z), program, solution, (solution.objective,))
    solution = solve(program, time_limit=_remaining(deadline), **options)
    history = [solution.objective]
    for _ in range(ELLIPSOIDS):
        if box is None or time.perf_counter() >= deadline:
            break
        following = program.in_metric(better_metric(program.structure(), solution.z, box))
        found = solve(following, start=solution.z, time_limit=_remaining(deadline), **options)
        gain = solution.objective - found.objective
        if gain > 0:
            program, solution = following, found
            history.append(found.objective)
        if gain <= WORTHWHILE * options["tol"] * abs(solution.objective):
            break
    return PolynomialTraining(program.decode(solution.z), program, solution, tuple(history))


def _remaining(deadline: float) -> float | None:
    return None if math.isinf(deadline) else max(deadline - time.perf_counter(), 1e-3)
