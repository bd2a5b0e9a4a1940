"""Pattern search for networks with several outputs: disturb, descend, solve again; kept only if better."""

from __future__ import annotations

import time
import warnings

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from convexnn.exceptions import SolverError
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, sample_gates
from convexnn.program import Solution
from convexnn.refinement.best import BestSoFar
from convexnn.refinement.options import RefineOptions
from convexnn.refinement.vector import STOPPED, regularizer_of, solve_vector
from convexnn.training import LipschitzTrainer, pretrain

Array = NDArray[np.float64]

#: Epochs of a descent, and the disturbances (relative to the length of a unit) that the rounds take in turn.
EPOCHS, SIZES = 200, (0.3, 0.1, 1.0)
#: Outer weights of fresh units relative to the mean of the others.
FRESH = 1e-3


def search_vector(
    state: BestSoFar, patterns: ActivationPatterns, options: RefineOptions, solution: Solution | None
) -> tuple[Solution | None, ActivationPatterns]:
    """Rounds of disturbance, descent and convex programs from the best network; the seed is fixed.

    Units that were lost come back as sampled gates, so that a network has as many units as the first one.
    """
    width = len(state.origin.b)
    for number in range(options.pattern_search):
        left = state.left(options)
        if (solution is not None and solution.status in STOPPED) or _is_over(left):
            break
        rng = np.random.default_rng(number)
        trial = BestSoFar(state.network, state.value, state.objective, time.perf_counter())
        trial.network = _descended(trial, _disturbed(state, width, SIZES[number % len(SIZES)], rng), left)
        trial.value = state.objective(trial.network)
        try:
            found, own = solve_vector(trial, patterns, left)
        except SolverError:
            found, own = None, patterns
        if trial.value < state.value:
            state.network, state.value = trial.network, trial.value
            solution, patterns = (found, own) if found is not None else (solution, patterns)
        state.record("pattern_search")
        if found is not None and found.status == "interrupted":
            return found, patterns
    return solution, patterns


def _is_over(options: RefineOptions) -> bool:
    return options.time_limit is not None and options.time_limit <= 1e-3


def _disturbed(state: BestSoFar, width: int, size: float, rng: np.random.Generator) -> Network:
    """Noise on every hidden unit, and sampled gates with small outer weights in place of lost ones."""
    network, X = state.network, state.objective.X
    W, b, V = network.W, network.b, network.layers[-1][0]
    length = np.sqrt((W**2).sum(axis=1) + b**2)[:, None] / np.sqrt(W.shape[1] + 1)
    noise = size * length * rng.standard_normal((len(b), W.shape[1] + 1))
    more = max(width - len(b), 0)
    if more:
        gates, offsets = sample_gates(X, more, random_state=int(rng.integers(2**31)))
        outer = FRESH * np.abs(V).mean() * rng.standard_normal((len(V), len(offsets)))
        W, b, V = np.vstack([W, gates]), np.r_[b, offsets], np.hstack([V, outer])
        noise = np.vstack([noise, np.zeros((len(offsets), W.shape[1] + 1))])
    return Network.shallow(W + noise[:, :-1], b + noise[:, -1], V, network.layers[-1][1])


def _descended(state: BestSoFar, network: Network, options: RefineOptions) -> Network:
    """Gradient steps on the training objective itself."""
    target, penalized = state.objective, regularizer_of(options) == "lipschitz"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        result = pretrain(
            target.X,
            target.y,
            method=LipschitzTrainer(lam=options.lam) if penalized else "adam",
            loss=target.loss,
            start=network,
            sample_weight=target.sample_weight,
            random_state=0,
            epochs=EPOCHS,
            time_limit=None if options.time_limit is None else options.time_limit / 2,
            lam=0.0 if penalized else options.lam,
        )
    return result.network
