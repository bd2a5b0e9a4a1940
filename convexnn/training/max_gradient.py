"""``train_certified``: a classifier trained with the max-gradient penalty, and what is certified of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import is_one_of
from convexnn.network import Network, as_network
from convexnn.training.data import BINARY_LOSSES, CLASS_LOSSES, canonical_rows
from convexnn.training.max_gradient_forms import FactorPenalty
from convexnn.training.max_gradient_pairs import ClassPairs, margin_bounds
from convexnn.training.max_gradient_penalty import MaxGradientTrainer, errors_of
from convexnn.training.options import TrainingOptions, require_number
from convexnn.training.pretraining import pretrain
from convexnn.training.torch_losses import loss_name

Array = NDArray[np.float64]

#: Relative gap of the bounds of the returned network, whatever was asked of those on the way.
FINAL_GAP = 1e-4


@dataclass(frozen=True)
class CertifiedOptions:
    """Settings of :func:`train_certified`.

    Parameters
    ----------
    radius : float, default=0.1
        At which errors are certified, raw input units.
    norm : {inf, 2}, default=inf
        Of the perturbations.
    lam : float or array-like of shape (k, k), default=1e-3
        Weight of the bound of every pair of classes, or of each. Larger: smaller bounds, larger clean error.
    loss : str, optional
        "cross_entropy" or "multi_margin" of several outputs (default the first), "logistic", "hinge" or "squared_hinge"
        of one (default the first).
    form : {"factor", "eigenvalue"}, default="factor"
        Of the dual; see :class:`MaxGradientTrainer`.
    sample_weight : array-like, shape (n,), optional
    random_state : int, Generator, RandomState or None
    training : TrainingOptions
        Epochs, learning rate, batches, time limit, checkpoint, progress, callback. By default 400 epochs, every tenth
        evaluated; ``evaluate_every=1`` certifies every epoch, which costs more than the training.
    """

    radius: float = 0.1
    norm: float = np.inf
    lam: Any = 1e-3
    loss: Any = None
    form: str = "factor"
    sample_weight: Any = None
    random_state: Any = None
    training: TrainingOptions = field(default_factory=lambda: TrainingOptions(epochs=400))

    def __post_init__(self) -> None:
        """Refuse settings that cannot be carried out; the others are checked with the data."""
        require_number("radius", self.radius)
        if not is_one_of(self.norm, (2, np.inf)):
            raise InvalidInputError(f"norm must be 2 or numpy.inf, got {self.norm!r}.")


@dataclass(frozen=True, eq=False)
class CertifiedTraining:
    """Outcome of :func:`train_certified`; every number is recomputed from ``network``.

    Attributes
    ----------
    network : Network
        Of the lowest certified objective met.
    history : tuple of dict
        One entry an evaluation: epoch, objective (loss plus weighted certified bounds), loss, largest_bound,
        clean_error and certified_error on the training rows, seconds. Each is rigorous for the weights of its epoch.
    objective : float
        Mean loss plus weighted certified bounds of ``network``.
    bounds : array, shape (P,)
        Certified bounds of the margins of ``network``.
    pairs : int array, shape (P, 2)
        Classes (a, b) of the bounds.
    multiplier : mapping of str to array
        What proves the bounds: :meth:`check` needs nothing else.
    clean_error, certified_error : float
        Shares of the training rows that are misclassified, and that some perturbation of ``radius`` might change (an
        upper bound on the error under every attack).
    radius, norm : float
    status : str
        As in :class:`TrainingResult`.
    epochs : int
    seconds : float
    """

    network: Network
    history: tuple[dict[str, float], ...] = field(repr=False)
    objective: float
    bounds: Array = field(repr=False)
    pairs: NDArray[np.intp] = field(repr=False)
    multiplier: Mapping[str, Array] = field(repr=False)
    clean_error: float
    certified_error: float
    radius: float
    norm: float
    status: str
    epochs: int
    seconds: float

    def check(self) -> Array:
        """Recompute the bounds (P,) from network and multiplier alone."""
        return margin_bounds(self.network, self.multiplier, self.norm)

    def errors(self, X: ArrayLike, y: ArrayLike) -> tuple[float, float]:
        """Clean and certified error on other rows (class indices), from the same bounds."""
        points, labels = np.asarray(X, dtype=np.float64), np.asarray(y).astype(np.intp)
        clean, certified = errors_of(self.network, points, labels, self.bounds, self.radius, self.norm)
        return float(clean.mean()), float(certified.mean())


def train_certified(
    network: Any, X: ArrayLike, y: ArrayLike, options: CertifiedOptions | None = None
) -> CertifiedTraining:
    """Train a shallow classifier for a small certified error: mean loss plus certified bounds of all margins.

        minimize  sum_j om_j loss(f(x_j), y_j) + sum_{a < b} lam_ab M_ab

    with M_ab the max-gradient bound (linf) or LipSDP (l2) of ``f_a - f_b``, whose multipliers are trained along. A
    sample is certified when ``(f_y - f_b)(x) > radius M_yb`` for every rival b: one bound for all samples, no search
    around them.

    Implements: Raghunathan et al. (2018a), section 4: training with the certificate as a penalty.

    Parameters
    ----------
    network : Network, model that ``as_network`` takes, or int
        The start, with one hidden layer, never better than the result in the objective; or a number of hidden units to
        start afresh.
    X : array-like, shape (n, d)
        Raw input units.
    y : array-like of int, shape (n,)
        Class indices 0 to k - 1; with one output 0 / 1.
    options : CertifiedOptions, optional

    Returns
    -------
    CertifiedTraining

    Raises
    ------
    InvalidInputError
        For data, labels or settings that cannot be used.
    UnsupportedModelError
        For another number of hidden layers, or an activation with unbounded slopes.

    Warns
    -----
    ConvergenceWarning
        When the run was interrupted, ran out of time or diverged; the best network so far comes back.
    """
    chosen = CertifiedOptions() if options is None else options
    fresh = isinstance(network, (int, np.integer)) and not isinstance(network, bool)
    start = None if fresh else as_network(network)
    loss = _loss(chosen.loss, start)
    if loss not in (*BINARY_LOSSES, *CLASS_LOSSES) or (
        start is not None and (start.n_outputs > 1) != (loss in CLASS_LOSSES)
    ):
        raise InvalidInputError(f"train_certified is for classifiers; the loss {loss!r} does not fit this network.")
    trainer = MaxGradientTrainer(chosen.lam, chosen.radius, chosen.norm, chosen.form)
    found = pretrain(
        X,
        y,
        hidden_units=int(network) if fresh else 1,
        method=trainer,
        loss=loss,
        sample_weight=chosen.sample_weight,
        start=start,
        random_state=chosen.random_state,
        options=chosen.training,
    )
    net = found.network
    bounds, multiplier = FactorPenalty(net.activation.slopes, chosen.norm).certify(net, FINAL_GAP)
    rows = canonical_rows(X, y, chosen.sample_weight, loss=loss, n_outputs=net.n_outputs if net.n_outputs > 1 else 0)
    labels = (rows.target[:, 0] > 0 if loss in BINARY_LOSSES else rows.target[:, 0]).astype(np.intp)
    clean, certified = errors_of(net, rows.X, labels, bounds, chosen.radius, chosen.norm)
    return CertifiedTraining(
        net,
        found.history,
        found.best_objective,
        bounds,
        ClassPairs(net.n_outputs).members,
        multiplier,
        float(rows.weight @ clean),
        float(rows.weight @ certified),
        chosen.radius,
        chosen.norm,
        found.status,
        found.epochs,
        found.seconds,
    )


def _loss(loss: Any, start: Network | None) -> str:
    """The loss by name; by default that of one or of several outputs."""
    if loss is not None:
        return loss_name(loss)
    if start is None:
        return "cross_entropy"
    return "logistic" if start.n_outputs == 1 else "cross_entropy"
