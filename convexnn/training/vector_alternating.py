"""Alternating convex training of networks with several outputs: inner weights on fixed directions, then outer weights.

Each half step is one convex program that contains the network it starts from, so the objective never rises.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.inputs import positive_number, seconds_or_none, whole_number
from convexnn.losses import Loss
from convexnn.network import Network, as_network
from convexnn.program import FEASIBILITY_TOLERANCE, Program, Solution
from convexnn.restrictions.units import hidden
from convexnn.restrictions.vector_base import VectorProgram
from convexnn.restrictions.vector_group_lasso import VectorGroupLasso
from convexnn.restrictions.vector_lipschitz import VectorLipschitzProgram
from convexnn.restrictions.vector_outer import OuterGroupLasso, OuterLipschitz, OuterProgram
from convexnn.restrictions.vector_units import outer_weights
from convexnn.solvers import solve

STEPS: dict[str, tuple[type[VectorProgram], type[OuterProgram]]] = {
    "lipschitz": (VectorLipschitzProgram, OuterLipschitz),
    "l2": (VectorGroupLasso, OuterGroupLasso),
}

#: Share of the largest unit below which one is left out at the end if that does not raise the objective.
TINY = 1e-6


@dataclass(frozen=True)
class VectorStep:
    """One half step.

    Attributes
    ----------
    program : str
        Name of the convex program.
    objective : float
        Of the network after the step; never above that of the step before.
    gap : float
        Verified relative gap of the convex program.
    status : str
        Of the solver.
    accepted : bool
        Whether the step lowered the objective; else the network is the one before.
    """

    program: str
    objective: float
    gap: float
    status: str
    accepted: bool


@dataclass(frozen=True)
class VectorAlternation:
    """Where the alternation ended.

    Attributes
    ----------
    network : Network
        Never worse than the network that was given.
    objective : float
        Its objective.
    start_objective : float
        Of the network that was given.
    history : tuple of VectorStep
        Objectives in it never rise.
    status : str
        ``"converged"``, ``"max_rounds"``, ``"time_limit"``, ``"interrupted"`` or ``"failed"``.
    """

    network: Network
    objective: float
    start_objective: float
    history: tuple[VectorStep, ...]
    status: str


def alternate_vector(
    network: Any,
    X: ArrayLike,
    y: ArrayLike,
    lam: float,
    *,
    regularizer: str = "lipschitz",
    loss: str | Loss = "squared",
    classwise: bool = False,
    max_rounds: int = 10,
    tol: float = 1e-4,
    **options: Any,
) -> VectorAlternation:
    """Train a network with several outputs by convex programs, from a network and never worse than it.

    A round solves the program on the output directions of the network (its activation patterns and directions fixed),
    then the outer step (hidden units fixed). Patterns stay those of the first network for units that stay nonzero.

    Parameters
    ----------
    network : Network or any model that ``as_network`` takes
        One hidden ReLU layer.
    X : array-like, shape (n, d)
    y : array-like, shape (n, outputs)
        Numbers, or -1 / +1 for the margin losses: one class against the rest, for every class.
    lam : float
        Positive weight of the regularizer.
    regularizer : {"lipschitz", "l2"}
    loss : str or Loss
        "squared", "huber", "hinge", "squared_hinge" or "logistic", summed over the outputs.
    classwise : bool
        Add every pattern in the directions ``+-e_c`` of every output to the first program: more units, better starts.
    max_rounds : int
    tol : float
        Stop when a round lowers the objective by less than this share.
    **options
        ``sample_weight``; ``solver``, ``solver_tol``, ``time_limit`` (seconds for all rounds).

    Returns
    -------
    VectorAlternation
        No claim of global optimality.

    Raises
    ------
    InvalidInputError
        For an unknown regularizer or option, or data that do not fit.
    """
    if regularizer not in STEPS:
        raise InvalidInputError(f"regularizer={regularizer!r} is unknown; expected one of {sorted(STEPS)}")
    unknown = set(options) - {"sample_weight", "solver", "solver_tol", "time_limit"}
    if unknown:
        raise InvalidInputError(
            f"unknown options {sorted(unknown)}; expected sample_weight, solver, solver_tol, time_limit"
        )
    max_rounds, tol = whole_number(max_rounds, "max_rounds", 0), positive_number(tol, "tol", zero=True)
    chosen = {**options, "loss": loss, "time_limit": seconds_or_none(options.get("time_limit"))}
    return _Alternation(as_network(network), X, y, lam, regularizer, chosen).run(max_rounds, tol, classwise)


class _Alternation:
    """The network, its objective and what happened so far."""

    def __init__(
        self, network: Network, X: ArrayLike, y: ArrayLike, lam: float, regularizer: str, options: dict[str, Any]
    ) -> None:
        self.X, self.y, self.lam = X, y, lam
        self.inner, self.outer = STEPS[regularizer]
        self.data = {"sample_weight": options.get("sample_weight"), "loss": options["loss"]}
        self.solver, self.solver_tol = options.get("solver", "auto"), options.get("solver_tol", 1e-6)
        limit = options.get("time_limit")
        self.deadline = np.inf if limit is None else time.perf_counter() + limit
        self.network = network
        self.judge = self.inner.at(network, X, y, lam, **self.data)
        self.start_objective = self.objective = self.judge.network_objective(network)
        self.history: list[VectorStep] = []

    def run(self, max_rounds: int, tol: float, classwise: bool) -> VectorAlternation:
        status = "max_rounds"
        try:
            for number in range(max_rounds):
                before = self.objective
                self._step(self._inner_program(classwise and number == 0))
                self._step(self.outer(self.network, self.X, self.y, self.lam, **self.data))
                if time.perf_counter() >= self.deadline:
                    status = "time_limit"
                    break
                if before - self.objective <= tol * abs(before):
                    status = "converged"
                    break
        except KeyboardInterrupt:
            status = "interrupted"
        except SolverError:
            status = "failed"
        self._prune()
        return VectorAlternation(self.network, self.objective, self.start_objective, tuple(self.history), status)

    def _inner_program(self, classwise: bool) -> Program:
        return self.inner.at(self.network, self.X, self.y, self.lam, classwise=classwise, **self.data)

    def _step(self, program: Program) -> None:
        left = self.deadline - time.perf_counter()
        if left <= 0:
            return
        limit = None if np.isinf(left) else left
        solution = solve(program, solver=self.solver, tol=self.solver_tol, time_limit=limit)
        self.history.append(self._accept(program, solution))
        if solution.status == "interrupted":
            raise KeyboardInterrupt

    def _prune(self) -> None:
        """Leave out tiny units where that does not raise the objective; only at the end, for they may grow again."""
        if not any(step.accepted for step in self.history):
            return
        network = without_dead_units(self.network, TINY)
        value = self.judge.network_objective(network)
        if value <= self.objective:
            self.network, self.objective = network, value

    def _accept(self, program: Program, solution: Solution) -> VectorStep:
        """Take the network of a solution if it is feasible and its recomputed objective is lower."""
        accepted = False
        if solution.violation <= FEASIBILITY_TOLERANCE:
            network = without_dead_units(program.decode(solution.z), 0.0)
            value = self.judge.network_objective(network)
            accepted = value < self.objective
            if accepted:
                self.network, self.objective = network, value
        return VectorStep(program.name, self.objective, solution.gap, solution.status, accepted)


def without_dead_units(network: Network, share: float) -> Network:
    """Drop units of at most this share of the largest one; one unit stays."""
    V = outer_weights(network)
    size = np.linalg.norm(V, axis=1) * np.linalg.norm(hidden(network), axis=1)
    alive = size > share * size.max()
    alive[0] |= not alive.any()
    return Network.shallow(network.W[alive], network.b[alive], V[alive].T, network.layers[-1][1])
