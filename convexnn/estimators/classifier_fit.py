"""How a classifier is trained: from encoded labels to a start network and the road that its regularizer takes."""

from __future__ import annotations

import time
import warnings
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning

from convexnn.certificate import Certificate
from convexnn.certificates.lipschitz import lipschitz
from convexnn.constraints import ConstrainedTraining, Guarantees
from convexnn.estimators.constrained import Asked, constrained_fit, constrained_history, start_objective
from convexnn.estimators.starts import Condensed, require_hidden_units, start_network
from convexnn.exceptions import InvalidInputError
from convexnn.inputs import is_one_of
from convexnn.network import Network, as_network
from convexnn.patterns import ActivationPatterns, extract
from convexnn.program import Solution
from convexnn.refinement import RefineOptions, refine_network
from convexnn.refinement.core import CUT_SHORT
from convexnn.refinement.options import REGULARIZERS
from convexnn.refinement.vector import as_many_outputs
from convexnn.restrictions.base import positive
from convexnn.restrictions.loss_bounds import scalar_loss
from convexnn.training import AdversarialTrainer, Trainer
from convexnn.training.certified_margin import MarginOptions, train_certified_margin
from convexnn.training.options import require_count, require_number
from convexnn.training.robust_relu import RobustReluOptions, train_robust_relu

Array = NDArray[np.float64]

ROBUST = ("adversarial", "margin")

#: Tightest relative gaps that the robust trainers are asked for, and their steps at the default ``max_iter`` of 200.
ROBUST_TOL, MARGIN_TOL = 1e-3, 1e-5
ROBUST_STEPS, MARGIN_STEPS = 25, 2000


@dataclass(frozen=True)
class FitOptions:
    """What a fit needs beside the data.

    Attributes
    ----------
    regularizer : str
        Of the classifier.
    refine : RefineOptions
        Of the convex programs; the robust regularizers have weight decay in it.
    radius, norm : float
        Of the perturbations of a robust objective.
    device : str
    """

    regularizer: str
    refine: RefineOptions
    radius: float
    norm: float
    device: str

    def left(self, began: float) -> FitOptions:
        """The options with what is left of the time limit."""
        limit = self.refine.time_limit
        if limit is None:
            return self
        return replace(self, refine=replace(self.refine, time_limit=max(limit - (time.perf_counter() - began), 1e-3)))


@dataclass(frozen=True)
class Fitted:
    """What a fit ends with; see the attributes of :class:`~convexnn.SafeSNNClassifier`."""

    network: Network
    before: float
    after: float
    solution: Solution | None
    patterns: ActivationPatterns
    certificate: Certificate
    history: list[dict[str, Any]]
    constrained: ConstrainedTraining | None = None

    @property
    def guarantees(self) -> Guarantees:
        """What is proved of the network; empty without constraints."""
        return Guarantees(()) if self.constrained is None else self.constrained.guarantees

    @property
    def iterations(self) -> int:
        """Of the last convex program, or the number of programs with constraints; at least one."""
        if self.constrained is not None:
            return len(self.constrained.programs)
        return 1 if self.solution is None else max(1, self.solution.iterations)


def checked_options(model: Any) -> FitOptions:
    """Options of an estimator; refuses what cannot be meant before any work is done."""
    require_hidden_units(model.hidden_units)
    if model.regularizer not in (*REGULARIZERS, *ROBUST):
        raise InvalidInputError(f"regularizer must be one of {(*REGULARIZERS, *ROBUST)}, got {model.regularizer!r}.")
    if not scalar_loss(model.loss).binary:
        raise InvalidInputError(f"loss={model.loss!r} was given; a classifier needs a margin loss such as 'hinge'.")
    if not is_one_of(model.norm, (2, np.inf)):
        raise InvalidInputError(f"norm must be 2 or numpy.inf, got {model.norm!r}.")
    names = ("lam", "method", "pattern_search", "solver", "tol", "max_iter", "time_limit", "verbose", "loss")
    shared = {name: getattr(model, name) for name in names}
    own = model.regularizer if model.regularizer in REGULARIZERS else "l2"
    refine = RefineOptions(regularizer=own, **shared)
    if model.regularizer in ROBUST:  # the other ones leave these to their solvers
        require_count("max_iter", model.max_iter)
        require_number("tol", model.tol, positive=True)
        if model.pattern_search:
            raise InvalidInputError(
                f"pattern_search is not for regularizer={model.regularizer!r}; use pattern_search=0."
            )
    radius = positive(model.radius, "radius", zero=True)
    return FitOptions(model.regularizer, refine, radius, float(model.norm), model.device)


def scaled_iterations(max_iter: int, steps: int) -> int:
    """Steps of a robust trainer for ``max_iter`` of an estimator: ``steps`` at 200."""
    return max(1, steps * int(max_iter) // 200)


def one_against_the_rest(indices: NDArray[np.intp], n_classes: int) -> Array:
    """Targets of the margin losses: -1 / +1 (n,) for two classes, else (n, k) with +1 in the column of the class."""
    if n_classes == 2:
        return np.where(indices > 0, 1.0, -1.0)
    return np.where(np.eye(n_classes)[indices] > 0, 1.0, -1.0)


def start_of(
    start: Any, data: Condensed, options: FitOptions, classes: NDArray[Any], hidden_units: int, seed: int
) -> Network:
    """Network from which a classifier starts; ``data`` holds the targets of :func:`one_against_the_rest`.

    A network with two outputs stands for the difference of its scores. The trainer named "adversarial" attacks within
    the radius where there is one.
    """
    if isinstance(start, str):
        if start == "adversarial" and options.radius > 0:
            start = AdversarialTrainer(radius=options.radius, norm=options.norm, steps=5)
    elif not isinstance(start, Trainer):
        known = getattr(start, "classes_", None)
        if known is not None and not np.array_equal(known, classes):
            raise InvalidInputError(f"start was fitted on the classes {list(known)}, y holds {classes.tolist()}.")
        start = as_many_outputs(as_network(start), 1 if data.y.ndim == 1 else data.y.shape[1])
    refine = options.refine
    return start_network(
        start,
        data,
        hidden_units=hidden_units,
        seed=seed,
        lam=refine.lam,
        regularizer=refine.regularizer,
        loss=refine.loss,
        time_limit=None if refine.time_limit is None else refine.time_limit / 2,
        device=options.device,
        verbose=refine.verbose,
    )


def train_classifier(start: Network, data: Condensed, options: FitOptions, seed: int, asked: Asked = ()) -> Fitted:
    """Train from a start network, never worse than it; with constraints on its cells.

    Parameters
    ----------
    start : Network
    data : Condensed
        Targets of :func:`one_against_the_rest`.
    options : FitOptions
        With what is left of the time limit.
    seed : int
    asked : tuple of Constraint
        Of the score; only for weight decay.
    """
    if asked:
        return _constrained(start, data, options, asked)
    if options.regularizer in ROBUST:
        return _robust(start, data, options, seed)
    found = refine_network(start, data.X, data.y, options.refine, sample_weight=data.weight)
    return Fitted(
        found.network, found.before, found.after, found.solution, found.patterns, found.certificate, found.history
    )


def _constrained(start: Network, data: Condensed, options: FitOptions, asked: Asked) -> Fitted:
    began, refine = time.perf_counter(), options.refine
    found = constrained_fit(data, start, asked, refine)
    patterns = extract(start, data.X)
    before = start_objective(data, start, patterns, refine)
    rows = constrained_history(found, before, time.perf_counter() - began)
    return Fitted(found.network, before, found.objective, None, patterns, lipschitz(found.network), rows, found)


def _robust(start: Network, data: Condensed, options: FitOptions, seed: int) -> Fitted:
    """The robust trainers, which take class indices."""
    labels = (data.y > 0).astype(np.intp) if data.y.ndim == 1 else data.y.argmax(axis=1)
    refine = options.refine
    shared: dict[str, Any] = {
        "radius": options.radius,
        "norm": options.norm,
        "lam": refine.lam,
        "loss": refine.loss,
        "sample_weight": data.weight,
        "device": options.device,
        "time_limit": refine.time_limit,
        "random_state": seed,
        "verbose": refine.verbose,
    }
    if options.regularizer == "margin":
        shared |= {"tol": max(refine.tol, MARGIN_TOL), "max_iter": scaled_iterations(refine.max_iter, MARGIN_STEPS)}
        found: Any = train_certified_margin(start, data.X, labels, MarginOptions(**shared))
    else:
        shared |= {"tol": max(refine.tol, ROBUST_TOL), "max_iter": scaled_iterations(refine.max_iter, ROBUST_STEPS)}
        found = train_robust_relu(start, data.X, labels, RobustReluOptions(**shared))
    if found.status in CUT_SHORT:
        warnings.warn(f"convexnn: training stopped by {CUT_SHORT[found.status]}.", ConvergenceWarning, stacklevel=4)
    rows = [
        {"stage": row.stage, "objective": min(max(row.objective, found.after), found.before), "seconds": row.seconds}
        for row in found.history  # the ends are evaluated with rounding, the steps between them are not
    ]
    return Fitted(
        found.network,
        found.before,
        found.after,
        found.solution,
        extract(found.network, data.X),
        lipschitz(found.network),
        rows,
    )
