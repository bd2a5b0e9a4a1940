"""Post-processing of a trained model by a convex program: same type out as in, never worse."""

from __future__ import annotations

import contextlib
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.model_parts import needs_relu, split_model
from convexnn.network import Network
from convexnn.patterns.extract import extract
from convexnn.patterns.multiset import ActivationPatterns
from convexnn.patterns.search import flip_active_rows
from convexnn.program import Program, Solution
from convexnn.restrictions import GatedGroupLasso, LipschitzProgram, ReluGroupLasso
from convexnn.restrictions.units import merge
from convexnn.solvers import require_solver, solve
from convexnn.training.alternating import alternating_minimization

Array = NDArray[np.float64]
History = list[dict[str, Any]]

REGULARIZERS = ("lipschitz", "l2", "gated")
METHODS = ("joint", "alternating")


@dataclass(frozen=True)
class RefineOptions:
    """How a network is refined; the keywords of :func:`refine`."""

    regularizer: str = "lipschitz"
    lam: float = 1e-2
    method: str = "joint"
    pattern_search: int = 0
    solver: str = "auto"
    tol: float = 1e-6
    max_iter: int = 200
    time_limit: float | None = None
    verbose: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any work is done."""
        if self.regularizer not in REGULARIZERS:
            raise InvalidInputError(f"regularizer must be one of {REGULARIZERS}, got {self.regularizer!r}.")
        if self.method not in METHODS:
            raise InvalidInputError(f"method must be one of {METHODS}, got {self.method!r}.")
        if not (np.isfinite(self.lam) and self.lam > 0):
            raise InvalidInputError(f"lam must be positive and finite, got {self.lam!r}.")
        if self.pattern_search < 0:
            raise InvalidInputError(f"pattern_search must be 0 or more rounds, got {self.pattern_search!r}.")
        require_solver(self.solver)


@dataclass(frozen=True)
class Refinement:
    """A refined model and the evidence for it.

    Attributes
    ----------
    model : object
        Same type as the model that came in.
    network : Network
        The refined shallow network: the whole model, or its head on the body's features.
    before, after : float
        Training objective ``mean((f(x) - y)^2) + lam R(f)`` of the network that came in and of the one that
        goes out; ``after <= before`` always.
    solution : Solution or None
        The convex program's solution, with a gap that concerns the program with these patterns; None when no
        program could be solved.
    certificate : Certificate
        Lipschitz bound (l2) of ``network``.
    patterns : ActivationPatterns
        The patterns of the program behind ``solution``.
    history : list of dict
        ``stage``, ``objective``, ``seconds``; the objective never rises.
    status : str
        ``"improved"`` or ``"unchanged"``.
    """

    model: Any
    network: Network
    before: float
    after: float
    solution: Solution | None
    certificate: Certificate = field(repr=False)
    patterns: ActivationPatterns = field(repr=False)
    history: History = field(repr=False)
    status: str

    @property
    def reduction(self) -> float:
        """Relative reduction of the objective, in [0, 1]."""
        return 0.0 if self.before <= 0 else (self.before - self.after) / self.before


@dataclass(frozen=True)
class TrainingObjective:
    """``mean((f(x_i) - y_i)^2) + lam R(f)``, weighted, recomputed from the network alone."""

    X: Array
    y: Array
    sample_weight: Array | None
    regularizer: str
    lam: float

    def __call__(self, network: Network) -> float:
        """Objective of ``network``; for ``"lipschitz"`` R is the square of the certified LipSDP bound."""
        loss = float(np.average((network(self.X) - self.y) ** 2, weights=self.sample_weight))
        return loss + self.lam * self.penalty(network)

    def penalty(self, network: Network) -> float:
        """R: ``L^2`` or the sum of squares of all hidden weights, hidden biases and outer weights."""
        if self.regularizer == "lipschitz":
            return lipschitz(network).bound ** 2
        return float((network.W**2).sum() + (network.b**2).sum() + (network.v**2).sum())


def refine(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    regularizer: str = "lipschitz",
    lam: float = 1e-2,
    method: str = "joint",
    layers: str = "all",
    sample_weight: ArrayLike | None = None,
    **options: Any,
) -> Refinement:
    """Improve a trained regressor by the convex program that its activation patterns define.

    Implements: Yin & Lesage-Landry (2026), Algorithm 1 and Corollary 10 (``method="alternating"``, and
    ``regularizer="l2"``), and the joint program of ``docs/theory/joint_program.md`` (``method="joint"``).

    Parameters
    ----------
    model : torch.nn.Sequential, Network, or fitted sklearn MLPRegressor
        With ReLU activation and one output. It is not changed.
    X : array, shape (n, d)
        Training inputs in the model's own input units (any shape that a torch body takes for ``"last2"``).
    y : array, shape (n,)
        Targets.
    regularizer : {"lipschitz", "l2"}
        ``R(f)`` is the squared LipSDP bound (l2), or the sum of squared weights (weight decay).
    lam : float
        Weight of ``R``.
    method : {"joint", "alternating"}
        One convex program with multipliers and outer weights free, or the paper's alternating minimization.
    layers : {"all", "last2"}
        Retrain the whole shallow model, or the last two linear layers of a deeper one on the features that its
        body produces; the Lipschitz bound then concerns these features.
    sample_weight : array, shape (n,), optional
        Nonnegative weights of the mean.
    **options
        ``pattern_search``, ``solver``, ``tol``, ``max_iter``, ``time_limit``, ``verbose`` of :class:`RefineOptions`.

    Returns
    -------
    Refinement
        With ``after <= before``. When the program fails or is cut short without improvement, the model comes
        back unchanged with a :class:`sklearn.exceptions.ConvergenceWarning`.

    Raises
    ------
    UnsupportedModelError
        Names the layer or activation that cannot be refined.
    InvalidInputError, SolverError
        For unusable data or options; an unlicensed or missing solver is reported before any work.
    """
    if regularizer == "gated":
        raise InvalidInputError("A gated solution needs more units than the model has; use regularizer='l2' here.")
    chosen = RefineOptions(regularizer=regularizer, lam=lam, method=method, **options)
    parts = split_model(model, layers)
    needs_relu(parts.head)
    features = parts.body(X)
    targets, weights = _checked_targets(features, y, sample_weight)
    objective = TrainingObjective(features, targets, weights, regularizer, lam)
    found = refine_network(parts.head, features, targets, chosen, sample_weight=weights)
    changed = parts.put_back(found.network) if found.status == "improved" else model
    network = split_model(changed, layers).head
    after = found.after if network == found.network else objective(network)
    if after > found.before:  # the model's own precision (float32) ate the improvement
        _warn("storing the refined weights in the model's precision loses the improvement")
        return replace(
            found, model=model, network=parts.head, after=found.before, certificate=lipschitz(parts.head), status="unchanged"
        )
    certificate = found.certificate if network == found.network else lipschitz(network)
    return replace(found, model=changed, network=network, after=after, certificate=certificate)


def refine_network(
    network: Network,
    X: Array,
    y: Array,
    options: RefineOptions,
    *,
    sample_weight: Array | None = None,
) -> Refinement:
    """Refine a shallow scalar ReLU network on checked arrays; see :func:`refine`."""
    began = time.perf_counter()
    objective = TrainingObjective(X, y, sample_weight, options.regularizer, options.lam)
    state = _State(network, objective(network), objective, began)
    patterns = extract(network, X)
    state.record("start")
    solution: Solution | None = None
    try:
        solution, patterns = _first_solve(state, patterns, options)
        solution, patterns = _search(state, patterns, options, solution)
    except SolverError as error:
        _warn(f"the convex program failed: {error}")
    except KeyboardInterrupt:
        _warn("refinement was interrupted")
    if state.network is network:
        _warn("no better network was found; the start comes back unchanged")
    return Refinement(
        model=state.network,
        network=state.network,
        before=state.history[0]["objective"],
        after=state.value,
        solution=solution,
        certificate=lipschitz(state.network),
        patterns=patterns,
        history=state.history,
        status="unchanged" if state.network is network else "improved",
    )


class _State:
    """Best network so far, its objective, and the history of accepted steps."""

    def __init__(self, network: Network, value: float, objective: TrainingObjective, began: float) -> None:
        self.network, self.value, self.objective, self.began = network, value, objective, began
        self.history: History = []

    def record(self, stage: str) -> None:
        self.history.append({"stage": stage, "objective": self.value, "seconds": time.perf_counter() - self.began})

    def offer(self, network: Network, stage: str) -> bool:
        """Keep ``network`` when it is strictly better."""
        value = self.objective(network)
        better = value < self.value
        if better:
            self.network, self.value = network, value
        self.record(stage)
        return better

    def left(self, options: RefineOptions) -> RefineOptions:
        """The options with what is left of the time limit."""
        if options.time_limit is None:
            return options
        return replace(options, time_limit=max(options.time_limit - (time.perf_counter() - self.began), 1e-3))


def _first_solve(
    state: _State, patterns: ActivationPatterns, options: RefineOptions
) -> tuple[Solution | None, ActivationPatterns]:
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
        sample_weight=target.sample_weight,
        tol=options.tol,
        solver=options.solver,
        time_limit=options.time_limit,
    )
    state.offer(result.network, "alternating")
    return result.solution, patterns


def _search(
    state: _State, patterns: ActivationPatterns, options: RefineOptions, solution: Solution | None
) -> tuple[Solution | None, ActivationPatterns]:
    """Cross the boundaries on which the network lies, as long as that helps."""
    for _ in range(options.pattern_search):
        if state.network.W.shape[0] != patterns.n_patterns:
            break
        flipped = flip_active_rows(state.network, state.objective.X, patterns)
        if np.array_equal(flipped.D, patterns.D):
            break
        found, accepted = _solve_program(state, flipped, options, "pattern_search", contains_start=False)
        if not accepted:
            break
        solution, patterns = found, flipped
    return solution, patterns


def _solve_program(
    state: _State,
    patterns: ActivationPatterns,
    options: RefineOptions,
    stage: str,
    *,
    regularizer: str | None = None,
    contains_start: bool = True,
) -> tuple[Solution, bool]:
    """Solve from the best network; the solution, and whether its network was accepted."""
    target = state.objective
    program = PROGRAMS[regularizer or options.regularizer](
        target.X,
        target.y,
        patterns,
        lam=options.lam,
        sample_weight=target.sample_weight,
        start=state.network if contains_start else None,
    )
    solution = solve(
        program,
        solver=options.solver,
        tol=options.tol,
        max_iter=options.max_iter,
        time_limit=state.left(options).time_limit,
        start=None if contains_start else merge(state.network),
        verbose=options.verbose,
    )
    return solution, bool(np.isfinite(solution.z).all()) and state.offer(program.decode(solution.z), stage)


def _gated(state: _State, patterns: ActivationPatterns, options: RefineOptions) -> tuple[Solution, ActivationPatterns]:
    """Relaxation first, then the cones again, on every pattern with both signs."""
    with contextlib.suppress(InvalidInputError):  # a gate without interior cannot be decomposed
        _solve_program(state, patterns, options, "gated")
    both = patterns.with_both_signs()
    solution, _ = _solve_program(state, both, options, "l2", regularizer="l2")
    return solution, both


PROGRAMS: dict[str, Callable[..., Program]] = {
    "lipschitz": LipschitzProgram,
    "l2": ReluGroupLasso,
    "gated": GatedGroupLasso,
}


def _checked_targets(X: Array, y: ArrayLike, sample_weight: ArrayLike | None) -> tuple[Array, Array | None]:
    targets = np.asarray(y, dtype=float)
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    if targets.shape != (len(X),) or len(X) == 0:
        raise InvalidInputError(f"y must have shape ({len(X)},) with at least one sample, got {np.shape(y)}.")
    if not (np.isfinite(X).all() and np.isfinite(targets).all()):
        raise InvalidInputError("X or y holds NaN or infinite values.")
    if sample_weight is None:
        return targets, None
    weights = np.asarray(sample_weight, dtype=float)
    if weights.shape != targets.shape or not np.isfinite(weights).all() or (weights < 0).any() or weights.sum() <= 0:
        raise InvalidInputError(f"sample_weight must hold {len(X)} nonnegative finite numbers that are not all zero.")
    return targets, weights


def _warn(reason: str) -> None:
    warnings.warn(f"convexnn: {reason}.", ConvergenceWarning, stacklevel=3)
