"""Post-processing of a trained model by a convex program: same type out as in, never worse."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.exceptions import ConvergenceWarning

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.exceptions import InvalidInputError, SolverError
from convexnn.inputs import as_floats
from convexnn.interop import host_array
from convexnn.losses import get_loss
from convexnn.model_parts import ModelParts, deep_model, needs_relu, split_model
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Solution
from convexnn.refinement.best import BestSoFar, History
from convexnn.refinement.deep import DeepRefinement, deep_objective, refine_deep, stored_deep
from convexnn.refinement.heads import HeadOptions, replace_head
from convexnn.refinement.options import RefineOptions
from convexnn.refinement.stages import first_solve, search, train_further
from convexnn.refinement.vector import margin_targets, padded, require_vector
from convexnn.refinement.wrapped import is_opaque, labels_of, opaque_parts, unwrapped
from convexnn.search import TrainingObjective
from convexnn.training import Trainer
from convexnn.training.data import refuse_overflow
from convexnn.training.fitting import start_trainer

Array = NDArray[np.float64]

CUT_SHORT = {"time_limit": "its time limit", "max_iter": "max_iter", "interrupted": "an interrupt"}


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


def refine(
    model: Any,
    X: ArrayLike,
    y: ArrayLike,
    *,
    regularizer: str = "lipschitz",
    lam: float = 1e-2,
    method: str = "joint",
    layers: str = "all",
    start: str | Trainer | None = None,
    sample_weight: ArrayLike | None = None,
    head: str | None = None,
    **options: Any,
) -> Any:
    """Improve a trained model by the convex programs that its activation patterns define.

    Implements: Yin & Lesage-Landry (2026), Algorithm 1 and Corollary 10 (``method="alternating"``, and
    ``regularizer="l2"``), and the joint program of ``docs/theory/joint_program.md`` (``method="joint"``).

    Parameters
    ----------
    model : torch.nn.Sequential, Network, fitted sklearn MLPRegressor or MLPClassifier, or skorch net
        With ReLU activation; with ``layers="last2"`` or ``head`` any torch module; a Pipeline that ends in one of them
        (its last step is refined, in the units that the steps before return). It is not changed. Dtype, device,
        training flag, ``requires_grad`` and names of parameters of a torch module come back as they were.
    X : array, shape (n, d)
        Training inputs in the model's own input units (any shape that a torch body takes for ``"last2"``).
    y : array, shape (n,)
        Targets, (n, k) for k outputs; labels with a margin loss: the model's ``classes_``, else 0..k-1 (one output is
        positive for the second class); class indices with ``head``. A margin loss over k outputs is that of every class
        against the rest, summed.
    regularizer : {"lipschitz", "l2"}
        ``R(f)`` is the squared LipSDP bound (l2), or the sum of squared weights (weight decay).
    lam : float
        Weight of ``R``.
    method : {"joint", "alternating"}
        One convex program with multipliers and outer weights free, or the paper's alternating minimization.
    layers : {"all", "last2"}
        Retrain the whole model, a deep one layer by layer (:class:`DeepRefinement`), or the last two linear layers of
        a deeper one on the features that its body produces; the Lipschitz bound then concerns these features.
    start : str or Trainer, optional
        Train the network further before the convex program: the name of a trainer (``"lipschitz"``, ``"admm"``,
        ``"adversarial"``, ``"adam"``, ``"sgd"``) or a trainer. What it returns is kept only if it is better.
    sample_weight : array, shape (n,), optional
        Nonnegative weights of the mean.
    head : {"relu", "polynomial"}, optional
        With ``layers="last2"``: replace the last layers of a torch classifier by a robust head; ``regularizer`` and
        ``method`` are then not read. ``radius`` is in FEATURE units, those of the head's inputs.
    **options
        ``pattern_search``, ``solver``, ``tol``, ``max_iter``, ``time_limit``, ``verbose``, ``loss``, ``sweeps`` of
        :class:`RefineOptions`; with ``head`` those of :class:`HeadOptions`, such as ``radius``.

    Returns
    -------
    Refinement, or DeepRefinement for a model with several hidden layers, or HeadRefinement with ``head``
        With ``after <= before``. When the program fails or nothing better is found, the model comes back unchanged
        with a :class:`sklearn.exceptions.ConvergenceWarning`; so does the best network found when the convex solver
        was cut short.

    Raises
    ------
    UnsupportedModelError
        Names the layer or activation that cannot be refined.
    InvalidInputError, SolverError
        For unusable data or options; an unlicensed or missing solver is reported before any work.
    """
    if regularizer == "gated":
        raise InvalidInputError("A gated solution needs more units than the model has; use regularizer='l2' here.")
    if head is not None:
        if layers != "last2":
            raise InvalidInputError(f"head={head!r} replaces the last layers; call it with layers='last2'.")
        return replace_head(model, X, y, HeadOptions(head=head, lam=lam, sample_weight=sample_weight, **options))
    X, y = host_array(X), host_array(y)
    chosen = RefineOptions(regularizer=regularizer, lam=lam, method=method, **options)
    labelled = get_loss(chosen.loss).binary
    inside = unwrapped(model, X)
    if inside is not None:
        same: dict[str, Any] = {"regularizer": regularizer, "lam": lam, "method": method, "layers": layers, **options}
        labels = labels_of(model, y) if labelled else y
        found = refine(inside[0], inside[1], labels, start=start, sample_weight=sample_weight, **same)
        return replace(found, model=model if found.model is inside[0] else inside[2](found.model))
    whole = deep_model(model) if layers == "all" else None
    if whole is not None:
        y = margin_targets(model, y, whole.head.n_outputs) if labelled else y
        return _refine_deep(model, whole, X, y, chosen, sample_weight, start)
    opaque = layers == "last2" and is_opaque(model)
    parts = opaque_parts(model, X) if opaque else split_model(model, layers, classifiers=labelled)
    outputs = parts.head.n_outputs
    needs_relu(parts.head.select(0) if outputs > 1 and (labelled or np.ndim(y) == 2) else parts.head)
    features = parts.body(X)
    y = margin_targets(model, y, outputs) if labelled else y
    targets, weights = _checked_targets(features, y, sample_weight, outputs)
    objective = TrainingObjective(features, targets, weights, regularizer, lam, chosen.loss)
    found = refine_network(parts.head, features, targets, chosen, sample_weight=weights, start=start)
    changed = parts.put_back(padded(found.network, len(parts.head.b))) if found.status == "improved" else model
    network = opaque_parts(changed, X).head if opaque else split_model(changed, layers, classifiers=labelled).head
    after = found.after if network == found.network else objective(network)
    if after > found.before:  # the model's own precision (float32) ate the improvement
        _warn("storing the refined weights in the model's precision loses the improvement")
        return replace(
            found,
            model=model,
            network=parts.head,
            after=found.before,
            certificate=lipschitz(parts.head),
            status="unchanged",
        )
    certificate = found.certificate if network == found.network else lipschitz(network)
    return replace(found, model=changed, network=network, after=after, certificate=certificate)


def _refine_deep(
    model: Any,
    parts: ModelParts,
    X: ArrayLike,
    y: ArrayLike,
    options: RefineOptions,
    sample_weight: ArrayLike | None,
    start: str | Trainer | None,
) -> DeepRefinement:
    """All layers of a deep model, one after the other; judged as the model's precision stores them."""
    if start is not None or options.pattern_search or options.method != "joint":
        raise InvalidInputError("start, pattern_search and method='alternating' are for models with one hidden layer.")
    inputs = parts.body(X)
    targets, weights = _checked_targets(inputs, y, sample_weight, parts.head.n_outputs)
    Y = targets.reshape(len(inputs), -1)
    found = refine_deep(parts.head, inputs, Y, options, weight=weights)
    if found.status == "unchanged":
        _warn("no better network was found; the start comes back unchanged")
        return replace(found, model=model)
    return stored_deep(found, parts, model, deep_objective(inputs, Y, options, weights))


def refine_network(
    network: Network,
    X: Array,
    y: Array,
    options: RefineOptions,
    *,
    sample_weight: Array | None = None,
    start: str | Trainer | None = None,
) -> Refinement:
    """Refine a shallow ReLU network on checked arrays; see :func:`refine`.

    With several outputs ``y`` has shape (n, k) and the loss is summed over them.
    """
    if network.n_outputs > 1:
        require_vector(options)
    began = time.perf_counter()
    trainer = None if start is None else start_trainer(start, options.lam)
    objective = TrainingObjective(X, y, sample_weight, options.regularizer, options.lam, options.loss)
    state = BestSoFar(network, objective(network), objective, began)
    patterns = extract(network, X)
    solution: Solution | None = None
    try:
        if trainer is not None:
            train_further(state, trainer, options)
            patterns = extract(state.network, X)
        solution, patterns = first_solve(state, patterns, options)
        solution, patterns = search(state, patterns, options, solution)
    except SolverError as error:
        _warn(f"the convex program failed: {error}")
    except KeyboardInterrupt:
        _warn("refinement was interrupted")
    if solution is not None and solution.status in CUT_SHORT:
        _warn(f"the convex solver stopped by {CUT_SHORT[solution.status]} at a gap of {solution.gap:.1e}")
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


def _checked_targets(
    X: Array, y: ArrayLike, sample_weight: ArrayLike | None, n_outputs: int = 1
) -> tuple[Array, Array | None]:
    targets = as_floats(y, "y")
    if targets.ndim == 2 and targets.shape[1] == 1:
        targets = targets[:, 0]
    expected = (len(X),) if n_outputs == 1 else (len(X), n_outputs)
    if targets.shape != expected or len(X) == 0:
        raise InvalidInputError(f"y must have shape {expected} with at least one sample, got {np.shape(y)}.")
    if not (np.isfinite(X).all() and np.isfinite(targets).all()):
        raise InvalidInputError("X or y holds NaN or infinite values.")
    refuse_overflow(X, "X")
    refuse_overflow(targets, "y")
    if sample_weight is None:
        return targets, None
    weights = np.asarray(sample_weight, dtype=float)
    if weights.shape != (len(X),) or not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise InvalidInputError(f"sample_weight must hold {len(X)} nonnegative finite numbers that are not all zero.")
    refuse_overflow(weights, "sample_weight")
    return targets, weights


def _warn(reason: str) -> None:
    warnings.warn(f"convexnn: {reason}.", ConvergenceWarning, stacklevel=3)
