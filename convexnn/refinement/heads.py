"""The last layers of a trained classifier replaced by a convexly trained robust head on its features."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import ReLU
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.inputs import as_number, class_indices, positive_number, seconds_or_none, whole_number
from convexnn.interop import is_torch_module
from convexnn.network import Network
from convexnn.program import Solution
from convexnn.quadratic.duels import worst_margin_bounds
from convexnn.refinement.torch_head import TorchHead, find_head, put_head, stored
from convexnn.restrictions.polynomial import COEFFICIENTS, PolynomialProgram
from convexnn.restrictions.polynomial_multiclass import MulticlassPolynomialProgram
from convexnn.solvers import solve
from convexnn.training.robust_relu import RobustReluOptions, train_robust_relu

Array = NDArray[np.float64]

HEADS = ("relu", "polynomial")


@dataclass(frozen=True)
class HeadOptions:
    """How the head of a classifier is replaced.

    Parameters
    ----------
    head : {"relu", "polynomial"}
        Robust ReLU head, started at the module's own and never worse than it, or polynomial head, globally optimal.
    radius : float
        l2, in units of the FEATURES, the inputs of the head; no statement about the inputs of the module follows.
    lam : float
        Weight of the head's regularizer.
    loss : str
        "squared_hinge", "hinge" or "logistic" of the worst margins over the ball.
    tol, max_iter, time_limit
        Of the solver; ``max_iter=None`` is its own.
    rounds : int
        Convex programs solved for a ReLU head, each with better slopes.
    n_patterns : int
        Sampled patterns of a ReLU head, on top of its own units.
    coefficients : tuple of float
        (a, b, c) of a polynomial head.
    batch_size : int
        Samples that go through the module at a time.
    head_layers : tuple of str, optional
        Dotted names of the module's last two Linear layers, or of its last one; None looks for them.
    device : str
        Of the training of a ReLU head. Features are gathered where the module is.
    sample_weight : array, shape (n,), optional
    random_state : int, Generator or None
        Of sampled patterns.
    """

    head: str = "relu"
    radius: float = 0.0
    lam: float = 1e-3
    loss: str = "squared_hinge"
    tol: float = 1e-3
    max_iter: int | None = None
    time_limit: float | None = None
    rounds: int = 3
    n_patterns: int = 0
    coefficients: tuple[float, float, float] = COEFFICIENTS
    batch_size: int = 256
    head_layers: tuple[str, ...] | None = None
    device: str = "cpu"
    sample_weight: Any = None
    random_state: Any = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant, before any work is done."""
        if self.head not in HEADS:
            raise InvalidInputError(f"head must be one of {HEADS}, got {self.head!r}.")
        if not (np.isfinite(as_number(self.radius, "radius")) and self.radius >= 0):
            raise InvalidInputError(f"radius must be a finite number >= 0, in feature units, got {self.radius!r}.")
        if not (np.isfinite(as_number(self.lam, "lam")) and self.lam > 0):
            raise InvalidInputError(f"lam must be positive and finite, got {self.lam!r}.")
        positive_number(self.tol, "tol")
        seconds_or_none(self.time_limit)
        for name, least in (("rounds", 0), ("n_patterns", 0), ("batch_size", 1), ("max_iter", 1)):
            if name != "max_iter" or self.max_iter is not None:
                object.__setattr__(self, name, whole_number(getattr(self, name), name, least))


@dataclass(frozen=True)
class HeadRefinement:
    """A classifier with another head, and what is known about the head.

    Attributes
    ----------
    model : torch.nn.Module
        A copy of the module with the new head; state dictionaries of equal heads fit each other.
    network : Network
        The new head, as the module's precision holds it: features to scores.
    before, after : float
        Certified objective of a ReLU head before and after, ``after <= before``. Of a polynomial head ``after`` is the
        program's optimum, and ``before`` is nan: the old head is no point of that program.
    accuracy_before, accuracy_after : float
        Share of the training samples that the module classifies as labelled, before and after.
    margins : array, shape (n,)
        Certified lower bounds on the smallest margin of every training sample over the ball of its FEATURES: where
        positive, no perturbation of the features within the radius changes the class.
    radius : float
        l2, feature units.
    features : array, shape (n, d)
        Inputs of the head at the training samples.
    solution : Solution or None
        Of the convex program; of a polynomial head its gap is to every polynomial network of any width.
    status : str
        ``"improved"``, ``"unchanged"`` (ReLU heads only), ``"trivial"`` (the constant head is optimal),
        ``"time_limit"`` or ``"interrupted"``.
    """

    model: Any
    network: Network
    before: float
    after: float
    accuracy_before: float
    accuracy_after: float
    margins: Array = field(repr=False)
    radius: float
    features: Array = field(repr=False)
    solution: Solution | None = field(repr=False)
    status: str

    @property
    def certified(self) -> float:
        """Share of the training samples whose class no perturbation of the FEATURES within the radius changes."""
        return float(np.mean(self.margins > 0))


def replace_head(module: Any, X: ArrayLike, y: ArrayLike, options: HeadOptions | None = None) -> HeadRefinement:
    """Train a robust head on the features of a torch classifier and put it in the place of the module's last layers.

    Implements: Kuelbs, Lall & Pilanci (2024), section 5: the last layers of a deep model trained by convex programs.

    Parameters
    ----------
    module : torch.nn.Module
        Any module that ends in two Linear layers with an activation between, or in one; with k outputs, or one (class
        1 where positive). It is not changed.
    X : array or tensor
        Inputs of the module, samples first.
    y : array of int, shape (n,)
        Class indices 0..k-1.
    options : HeadOptions, optional
        The radius is in feature units.

    Returns
    -------
    HeadRefinement

    Raises
    ------
    UnsupportedModelError
        When the module's end is not understood.
    InvalidInputError
        For labels, features or options that cannot be used.
    """
    chosen = HeadOptions() if options is None else options
    if not is_torch_module(module):
        raise UnsupportedModelError(f"Heads of torch modules are replaced, got {type(module).__name__}.")
    head = find_head(module, X, chosen.head_layers, chosen.batch_size)
    labels = class_indices(y, head.outputs.shape[1], n=len(head.features), present=2)
    train = _polynomial if chosen.head == "polynomial" else _relu
    return train(module, head, labels, chosen).of(module, head, labels, chosen.radius)


def _relu(module: Any, head: TorchHead, y: NDArray[np.intp], options: HeadOptions) -> _Outcome:
    """Robust ReLU head from the module's own, judged by one certified objective."""
    if head.activation not in (None, ReLU()):
        raise UnsupportedModelError(f"A ReLU head starts at a ReLU head, this one has {head.activation}.")
    steps: dict[str, Any] = {} if options.max_iter is None else {"max_iter": options.max_iter}
    settings = RobustReluOptions(
        radius=options.radius,
        lam=options.lam,
        loss=options.loss,
        sample_weight=options.sample_weight,
        n_patterns=options.n_patterns,
        rounds=options.rounds,
        tol=options.tol,
        time_limit=options.time_limit,
        device=options.device,
        random_state=options.random_state,
        **steps,
    )
    start = head.network(module)
    found = train_robust_relu(start, head.features, y, settings)
    judged = RobustReluOptions(
        radius=options.radius, lam=options.lam, loss=options.loss, sample_weight=options.sample_weight, rounds=0
    )
    network = stored(found.network, module, head)
    value = train_robust_relu(network, head.features, y, judged)
    if found.after >= found.before or not value.after <= found.before:  # also: the module's precision ate the gain
        same = train_robust_relu(start, head.features, y, judged)
        return _Outcome(start, found.before, found.before, same.margins, found.solution, "unchanged")
    status = "improved" if found.status == "finished" else found.status
    return _Outcome(network, found.before, value.after, value.margins, found.solution, status)


def _polynomial(module: Any, head: TorchHead, y: NDArray[np.intp], options: HeadOptions) -> _Outcome:
    """Globally optimal polynomial head on features that are centred and divided by one number."""
    center = head.features.mean(axis=0)
    scale = float(np.sqrt(np.mean((head.features - center) ** 2))) or 1.0
    k = head.outputs.shape[1]
    data: dict[str, Any] = {
        "lam": options.lam,
        "loss": options.loss,
        "radius": options.radius / scale,
        "coefficients": options.coefficients,
        "sample_weight": options.sample_weight,
    }
    X = (head.features - center) / scale
    program = (
        PolynomialProgram(X, 2.0 * y - 1.0, **data)
        if k == 1
        else MulticlassPolynomialProgram(X, y, n_classes=k, **data)
    )
    steps: dict[str, Any] = {} if options.max_iter is None else {"max_iter": options.max_iter}
    solution = solve(program, tol=options.tol, time_limit=options.time_limit, **steps)
    network = program.decode(solution.z).fold_scaling((center, np.full(len(center), scale)))
    network = stored(network, module, head)
    margins = worst_margin_bounds(network, head.features, y, options.radius)
    trivial = not solution.z.any()
    ended = solution.status if solution.status in ("time_limit", "interrupted") else "improved"
    return _Outcome(network, math.nan, solution.objective, margins, solution, "trivial" if trivial else ended)


@dataclass(frozen=True)
class _Outcome:
    """What a training says: head, objectives, margins, solution and how it ended."""

    network: Network
    before: float
    after: float
    margins: Array
    solution: Solution | None
    status: str

    def of(self, module: Any, head: TorchHead, y: NDArray[np.intp], radius: float) -> HeadRefinement:
        """The module with this head, or itself where the head is its own."""
        return HeadRefinement(
            model=module if self.status == "unchanged" else put_head(module, head, self.network),
            network=self.network,
            before=self.before,
            after=self.after,
            accuracy_before=_accuracy(head.outputs, y),
            accuracy_after=_accuracy(self.network(head.features).reshape(len(y), -1), y),
            margins=self.margins,
            radius=radius,
            features=head.features,
            solution=self.solution,
            status=self.status,
        )


def _accuracy(scores: Array, y: NDArray[np.intp]) -> float:
    predicted = (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)
    return float(np.mean(predicted == y))
