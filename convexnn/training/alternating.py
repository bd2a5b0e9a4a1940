"""Alternating minimization over the LipSDP multiplier and the weights, on fixed activation patterns.

Source: Yin & Lesage-Landry 2026 (arXiv 2606.19652), Algorithm 1.
"""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convexnn.exceptions import InvalidInputError, SolverError, SolverWarning
from convexnn.losses import Loss
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import FEASIBILITY_TOLERANCE, Solution
from convexnn.restrictions import LipschitzRestriction, ReluGroupLasso
from convexnn.restrictions.base import ConeProgram
from convexnn.restrictions.lipschitz_joint import RIDGE
from convexnn.restrictions.rows import check_inputs
from convexnn.restrictions.units import checked_network
from convexnn.solvers import solve


@dataclass(frozen=True)
class AlternatingRound:
    """One round of Algorithm 1.

    Attributes
    ----------
    round : int
        1 is the first.
    after_multiplier : float
        Objective of the network with its best T (step T <- argmin (2)): loss + lam LipSDP^2 + ridge.
    after_weights : float
        Objective at the solution of (12) with that T; never above ``after_multiplier`` when accepted.
    gap : float
        Verified relative gap of (12).
    seconds : float
        Time since the start of the run.
    status : str
        Of the solver on (12).
    """

    round: int
    after_multiplier: float
    after_weights: float
    gap: float
    seconds: float
    status: str


@dataclass(frozen=True)
class AlternatingResult:
    """Where Algorithm 1 ended.

    Attributes
    ----------
    network : Network
        Never worse than the network that was given; units sorted by sign, positive outer weights first.
    objective : float
        Its objective (with its best T).
    start_objective : float
        The objective of the network that was given.
    history : tuple of AlternatingRound
        Empty when there was nothing to optimize.
    solution : Solution or None
        Of the last convex program that was solved.
    status : str
        ``"converged"``, ``"max_rounds"``, ``"time_limit"``, ``"interrupted"`` or ``"failed"``.
    """

    network: Network
    objective: float
    start_objective: float
    history: tuple[AlternatingRound, ...]
    solution: Solution | None
    status: str


@dataclass(frozen=True)
class _Task:
    """What stays fixed over the rounds."""

    X: ArrayLike
    y: ArrayLike
    lam: float
    sample_weight: ArrayLike | None
    ridge: float
    loss: str | Loss
    solver: str
    solver_tol: float
    max_iter: int
    deadline: float

    def solve(self, program: ConeProgram) -> Solution:
        left = max(self.deadline - time.perf_counter(), 1e-3)
        limit = None if np.isinf(left) else left
        return solve(program, solver=self.solver, tol=self.solver_tol, max_iter=self.max_iter, time_limit=limit)

    def restriction(self, network: Network, patterns: ActivationPatterns) -> LipschitzRestriction:
        return LipschitzRestriction.at(
            network,
            self.X,
            self.y,
            self.lam,
            patterns=patterns,
            sample_weight=self.sample_weight,
            ridge=self.ridge,
            loss=self.loss,
        )


def alternating_minimization(
    network: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    lam: float = 1e-2,
    regularizer: str = "lipschitz",
    sample_weight: ArrayLike | None = None,
    max_rounds: int = 30,
    tol: float = 1e-4,
    solver: str = "auto",
    solver_tol: float = 1e-6,
    max_iter: int = 200,
    time_limit: float | None = None,
    ridge: float = RIDGE,
    loss: str | Loss = "squared",
) -> AlternatingResult:
    """Improve a shallow ReLU network by Algorithm 1, without ever making it worse.

    The units are sorted by the sign of their outer weight and the patterns of ALL units are extracted once.
    With ``regularizer="l2"`` program (6) is solved once. With ``regularizer="lipschitz"`` two steps alternate:
    T <- argmin (2) at the network, W <- argmin (12) for that T, the ``|v|`` and the patterns. The objective never
    rises. The joint program (:class:`~convexnn.restrictions.LipschitzProgram`) over the same patterns is never
    worse than any round of this.

    Implements: Yin & Lesage-Landry (2026), Algorithm 1.

    Parameters
    ----------
    network : Network, torch module or fitted sklearn MLP
        One hidden ReLU layer, one output.
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    lam : float
        Positive weight of the regularizer.
    regularizer : {"lipschitz", "l2"}
    sample_weight : array-like, shape (n,), or None
    max_rounds : int
        At least 1.
    tol : float
        Stop when a round lowers the objective by less than this, relatively.
    solver : str
        See :func:`convexnn.solvers.solve`.
    solver_tol : float
        Verified relative gap asked of every convex program.
    max_iter : int
        Iterations of the solver on each of them.
    time_limit : float or None
        Seconds in all; the best network so far is returned.
    ridge : float
        Weight of the squared merged biases (Lipschitz only).
    loss : str or Loss
        "squared", "huber", "hinge", "squared_hinge" or "logistic"; targets -1 / +1 for the last three.

    Returns
    -------
    AlternatingResult

    Raises
    ------
    InvalidInputError
        For data or options that cannot be used.
    SolverError
        When the first convex program cannot be solved; a failure later ends the loop with a SolverWarning.
    """
    if regularizer not in ("lipschitz", "l2"):
        raise InvalidInputError(f"regularizer={regularizer!r} was given; expected 'lipschitz' or 'l2'")
    if max_rounds < 1:
        raise InvalidInputError(f"max_rounds={max_rounds!r} was given; expected at least 1")
    began = time.perf_counter()
    deadline = np.inf if time_limit is None else began + time_limit
    inputs = check_inputs(X)
    task = _Task(inputs, y, lam, sample_weight, ridge, loss, solver, solver_tol, max_iter, deadline)
    ordered = sort_by_sign(checked_network(network, inputs.shape[1]))
    patterns = extract(ordered, inputs)  # line 2: once, for all units
    if regularizer == "l2":
        return _group_lasso(task, ordered, patterns, began)
    return _alternate(task, ordered, patterns, max_rounds, tol, began)


def sort_by_sign(network: Network) -> Network:
    """Put the units with nonnegative outer weight first, otherwise in their order; the function is the same.

    Implements: Yin & Lesage-Landry (2026), line 1 of Algorithm 1.
    """
    order = np.argsort(network.v < 0, kind="stable")
    return Network.shallow(network.W[order], network.b[order], network.v[order], network.c, network.activation)


def _group_lasso(task: _Task, network: Network, patterns: ActivationPatterns, began: float) -> AlternatingResult:
    weight = task.sample_weight
    program = ReluGroupLasso(task.X, task.y, patterns, task.lam, sample_weight=weight, start=network, loss=task.loss)
    start = program.network_objective(network)
    solution = task.solve(program)
    candidate, value = _better(program, solution, network, start)
    row = AlternatingRound(1, start, solution.objective, solution.gap, time.perf_counter() - began, solution.status)
    status = "converged" if solution.is_optimal else _ending(solution) or "failed"
    return AlternatingResult(candidate, value, start, (row,), solution, status)


def _alternate(
    task: _Task, network: Network, patterns: ActivationPatterns, max_rounds: int, tol: float, began: float
) -> AlternatingResult:
    if not (network.v[:, None] * network.W).any():
        return _constant(task, network, patterns)
    history: list[AlternatingRound] = []
    solution: Solution | None = None
    start = value = np.inf
    status = "max_rounds"
    for number in range(1, max_rounds + 1):
        program = task.restriction(network, patterns)  # T <- argmin (2)
        if number == 1:
            start = value = program.network_objective(network)
        try:
            solution = task.solve(program)  # W <- argmin (12)
        except SolverError as error:
            if number == 1:
                raise
            warnings.warn(f"round {number} failed, its start is kept: {error}", SolverWarning, stacklevel=3)
            status = "failed"
            break
        seconds = time.perf_counter() - began
        history.append(AlternatingRound(number, value, solution.objective, solution.gap, seconds, solution.status))
        before = value
        network, value = _better(program, solution, network, value)
        ended = _ending(solution)
        if ended or time.perf_counter() >= task.deadline:
            status = ended or "time_limit"
            break
        if before - value <= tol * before or not (network.v[:, None] * network.W).any():
            status = "converged"
            break
    return AlternatingResult(network, value, start, tuple(history), solution, status)


def _better(program: ConeProgram, solution: Solution, network: Network, value: float) -> tuple[Network, float]:
    """Decoded solution when its own objective is lower, else the network as it was."""
    if solution.violation > FEASIBILITY_TOLERANCE:
        return network, value
    candidate = program.decode(solution.z)
    objective = program.network_objective(candidate)
    return (candidate, objective) if objective < value else (network, value)


def _ending(solution: Solution) -> str | None:
    """Why the run must stop after this solution, or None."""
    return solution.status if solution.status in ("time_limit", "interrupted") else None


def _constant(task: _Task, network: Network, patterns: ActivationPatterns) -> AlternatingResult:
    """Return a network without weights as it is: every unit is dead in (8), only its output bias is set right."""
    program = ReluGroupLasso(task.X, task.y, patterns, task.lam, sample_weight=task.sample_weight, loss=task.loss)
    zeros = np.zeros((patterns.n_patterns, program.n_inputs + 1))
    losses = program.loss.value(network(program.rows.X), program.rows.y)
    ridge = task.ridge * float(((network.v * network.b) ** 2).sum())
    start = float(program.rows.weight @ losses) + program.rows.constant + ridge
    fitted = program.decode(zeros)
    value = program.objective(zeros)
    if value < start:
        return AlternatingResult(fitted, value, start, (), None, "converged")
    return AlternatingResult(network, start, start, (), None, "converged")
