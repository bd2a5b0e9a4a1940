"""The steps of a refinement: each offers a network, the best so far is kept."""

from __future__ import annotations

import contextlib
import time
import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from convexnn.exceptions import InvalidInputError
from convexnn.patterns import ActivationPatterns
from convexnn.program import Solution
from convexnn.refinement.best import BestSoFar
from convexnn.refinement.options import RefineOptions
from convexnn.refinement.vector import solve_vector
from convexnn.refinement.vector_search import search_vector
from convexnn.restrictions.catalog import PROGRAMS
from convexnn.search import SearchOptions, continued, search_from
from convexnn.solvers import solve
from convexnn.training import Trainer, pretrain
from convexnn.training.alternating import alternating_minimization
from convexnn.training.fitting import start_penalty

Array = NDArray[np.float64]


def train_further(state: BestSoFar, trainer: Trainer, options: RefineOptions) -> None:
    """Gradient steps from the best network, for half of what is left of the time; the seed is fixed."""
    left = state.left(options).time_limit
    target = state.objective
    result = pretrain(
        target.X,
        target.y,
        method=trainer,
        start=state.network,
        loss=target.loss,
        sample_weight=target.sample_weight,
        random_state=0,
        time_limit=None if left is None else left / 2,
        verbose=options.verbose,
        **start_penalty(trainer, options.regularizer, options.lam),
    )
    state.offer(result.network, trainer.name)
    state.origin = state.network


def first_solve(
    state: BestSoFar, patterns: ActivationPatterns, options: RefineOptions
) -> tuple[Solution | None, ActivationPatterns]:
    """The convex program (or Algorithm 1) that the options name, from the patterns of the start."""
    if state.network.n_outputs > 1:
        return solve_vector(state, patterns, options)
    if options.regularizer == "gated":
        return _gated(state, patterns, options)
    if options.regularizer == "l2" or options.method == "joint":
        stage = "joint" if options.regularizer == "lipschitz" else "l2"
        return _solve_program(state, patterns, options, stage)[0], patterns
    target = state.objective
    result = alternating_minimization(
        state.network,
        target.X,
        target.y,
        lam=options.lam,
        loss=target.loss,
        sample_weight=target.sample_weight,
        solver=options.solver,
        solver_tol=options.tol,
        max_iter=options.max_iter,
        time_limit=state.left(options).time_limit,
    )
    state.offer(result.network, "alternating")
    return result.solution, patterns


def search(
    state: BestSoFar, patterns: ActivationPatterns, options: RefineOptions, solution: Solution | None
) -> tuple[Solution | None, ActivationPatterns]:
    """Rounds of pattern search from the best network, with as many units at most; the seed is fixed."""
    if state.network.n_outputs > 1:
        return search_vector(state, patterns, options, solution)
    stopped = solution is not None and solution.status in ("interrupted", "time_limit")
    if not options.pattern_search or stopped:
        return solution, patterns
    left = state.left(options)
    chosen = SearchOptions(
        rounds=options.pattern_search,
        time_limit=left.time_limit,
        solver=options.solver,
        tol=options.tol,
        max_iter=options.max_iter,
    )
    offset = time.perf_counter() - state.began
    task, point = continued(state.network, state.objective, chosen, patterns, solution)
    result = search_from(task, state.network, point, state.origin)
    for number in range(1, options.pattern_search + 1):
        last = [step for step in result.history if step.round == number][-1:]
        for step in last:
            row = {"stage": "pattern_search", "objective": step.objective, "seconds": offset + step.seconds}
            state.history.append(row)
    if result.status == "interrupted":
        warnings.warn("convexnn: the pattern search was interrupted.", ConvergenceWarning, stacklevel=4)
    if result.objective >= state.value:
        return solution, patterns
    state.network, state.value = result.network, result.objective
    return result.solution, result.patterns


def _solve_program(
    state: BestSoFar,
    patterns: ActivationPatterns,
    options: RefineOptions,
    stage: str,
    *,
    regularizer: str | None = None,
) -> tuple[Solution, bool]:
    """Solve from the best network; the solution, and whether its network was accepted."""
    target = state.objective
    program = PROGRAMS[regularizer or options.regularizer](
        target.X,
        target.y,
        patterns,
        lam=options.lam,
        sample_weight=target.sample_weight,
        start=state.network,
        loss=target.loss,
    )
    solution = solve(
        program,
        solver=options.solver,
        tol=options.tol,
        max_iter=options.max_iter,
        time_limit=state.left(options).time_limit,
        verbose=options.verbose,
    )
    return solution, bool(np.isfinite(solution.z).all()) and state.offer(program.decode(solution.z), stage)


def _gated(
    state: BestSoFar, patterns: ActivationPatterns, options: RefineOptions
) -> tuple[Solution, ActivationPatterns]:
    """Relaxation first, then the cones again, on every pattern with both signs."""
    with contextlib.suppress(InvalidInputError):  # a gate without interior cannot be decomposed
        _solve_program(state, patterns, options, "gated")
    both = patterns.with_both_signs()
    solution, _ = _solve_program(state, both, options, "l2", regularizer="l2")
    return solution, both
