"""Refinement of networks with several outputs: inner weights on fixed output directions, then the outer weights."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Program, Solution
from convexnn.refinement.best import BestSoFar
from convexnn.refinement.options import RefineOptions
from convexnn.restrictions import VectorGatedGroupLasso, VectorGroupLasso
from convexnn.restrictions.vector_units import dictionary_at, joined
from convexnn.solvers import solve
from convexnn.training.vector_alternating import STEPS, TINY, without_dead_units

Array = NDArray[np.float64]

#: Rounds of the two convex steps, and the share of the objective that a round must gain for another one.
ROUNDS, LEAST_GAIN = 10, 1e-3
STOPPED = ("interrupted", "time_limit")


def require_vector(options: RefineOptions) -> None:
    """Refuse what is known for one output only.

    Raises
    ------
    InvalidInputError
        For the alternating minimization with fixed multipliers.
    """
    if options.method != "joint":
        raise InvalidInputError(
            f"method={options.method!r} fixes outer weights of one output; with several outputs use method='joint'."
        )


def solve_vector(
    state: BestSoFar, patterns: ActivationPatterns, options: RefineOptions
) -> tuple[Solution | None, ActivationPatterns]:
    """Rounds of two convex programs, each containing the network it starts from; the last inner one and its patterns.

    Every step contains the network it starts from (docs/theory/vector_program.md, Proposition 3).
    """
    solution: Solution | None = None
    if options.regularizer == "gated":
        solution, patterns = _gated(state, options)
    for number in range(0 if solution is not None and solution.status in STOPPED else ROUNDS):
        before = state.value
        if options.regularizer != "gated" or number > 0:
            patterns = extract(state.network, state.objective.X)
            solution = _inner(state, options)
        if _ended(state, solution, options) or _ended(state, _outer(state, options), options):
            break
        if before - state.value <= LEAST_GAIN * abs(before):
            break
    if state.network is not state.origin:
        state.offer(without_dead_units(state.network, TINY), "tidy")
    return solution, patterns


def regularizer_of(options: RefineOptions) -> str:
    """What networks are judged by: the gated relaxation has weight decay."""
    return "l2" if options.regularizer == "gated" else options.regularizer


def _inner(state: BestSoFar, options: RefineOptions) -> Solution:
    target = state.objective
    program = STEPS[regularizer_of(options)][0].at(
        state.network, target.X, target.y, options.lam, sample_weight=target.sample_weight, loss=target.loss
    )
    return _accepted(state, program, options, "joint" if options.regularizer == "lipschitz" else "l2")


def _outer(state: BestSoFar, options: RefineOptions) -> Solution:
    target = state.objective
    program = STEPS[regularizer_of(options)][1](
        state.network, target.X, target.y, options.lam, sample_weight=target.sample_weight, loss=target.loss
    )
    return _accepted(state, program, options, "outer")


def _gated(state: BestSoFar, options: RefineOptions) -> tuple[Solution, ActivationPatterns]:
    """Relaxation first, then the cones again, on every pattern in both directions."""
    target = state.objective
    data: dict[str, Any] = {"sample_weight": target.sample_weight, "loss": target.loss}
    gates, directions = dictionary_at(state.network, target.X)
    origin = state.network
    relaxed = VectorGatedGroupLasso(target.X, target.y, gates, directions, options.lam, start=origin, **data)
    with contextlib.suppress(InvalidInputError):  # a gate without interior cannot be decomposed
        _accepted(state, relaxed, options, "gated")
    both, signed = joined((gates, directions), (gates, -directions))
    program = VectorGroupLasso(target.X, target.y, both, signed, options.lam, start=origin, **data)
    return _accepted(state, program, options, "l2"), both


def _accepted(state: BestSoFar, program: Program, options: RefineOptions, stage: str) -> Solution:
    """Solve, and keep the network where it is better."""
    solution = solve(
        program,
        solver=options.solver,
        tol=options.tol,
        max_iter=options.max_iter,
        time_limit=state.left(options).time_limit,
        verbose=options.verbose,
    )
    if np.isfinite(solution.z).all():
        state.offer(without_dead_units(program.decode(solution.z), 0.0), stage)
    return solution


def _ended(state: BestSoFar, solution: Solution | None, options: RefineOptions) -> bool:
    left = state.left(options).time_limit
    return solution is not None and solution.status in STOPPED or (left is not None and left <= 1e-3)


def as_many_outputs(network: Network, n_outputs: int) -> Network:
    """Network with one output where a classifier of two classes has two: the difference of the scores.

    Raises
    ------
    UnsupportedModelError
        For another number of outputs.
    """
    if n_outputs == 1 and network.n_outputs == 2:
        return network.margin(1, 0)
    if network.n_outputs != n_outputs:
        raise UnsupportedModelError(f"{n_outputs} output(s) are needed, one a class; got {network!r}.")
    return network


def margin_targets(model: Any, y: ArrayLike, n_outputs: int) -> Array:
    """Targets -1 / +1 of the margin losses from labels: (n,) for one output, else (n, k), one class against the rest.

    Parameters
    ----------
    model : object
        With ``classes_``, these are the labels; else class indices 0..k-1 (one output: 0 / 1 or -1 / +1).
    y : array-like, shape (n,)
        Or such targets already, shape (n, n_outputs).
    n_outputs : int
        One output is positive for the second class.

    Raises
    ------
    InvalidInputError
        For labels that the model does not know, or no labels at all.
    """
    labels, outputs = np.asarray(y), max(n_outputs, 2)
    if labels.ndim == 2 and labels.shape[1] == n_outputs > 1 and np.isin(labels, (-1, 1)).all():
        return labels.astype(np.float64)
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    known = np.asarray(getattr(model, "classes_", np.arange(outputs)))
    if n_outputs == 1 and len(known) == 2 and not hasattr(model, "classes_") and (labels == -1).any():
        known = np.array([-1, 1])
    if labels.ndim != 1 or len(known) != outputs or not np.isin(labels, known).all():
        raise InvalidInputError(f"y must hold one of the {outputs} class labels {known.tolist()} a sample.")
    indices = np.argmax(labels[:, None] == known, axis=1)
    if n_outputs == 1:
        return np.where(indices == 1, 1.0, -1.0)
    return np.where(np.eye(outputs)[indices] > 0, 1.0, -1.0)


def padded(network: Network, width: int) -> Network:
    """Network with zero units up to this number: the function is the same."""
    more = width - len(network.b)
    if more <= 0:
        return network
    V = np.atleast_2d(network.layers[-1][0])
    W = np.vstack([network.W, np.zeros((more, network.n_inputs))])
    b = np.r_[network.b, np.zeros(more)]
    return Network.shallow(W, b, np.hstack([V, np.zeros((len(V), more))]), network.layers[-1][1])
