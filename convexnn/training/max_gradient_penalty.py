"""Certified training with the max-gradient penalty: mean loss plus certified bounds of all margins or outputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.certificates.margins import rival_margins
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.inputs import is_one_of, real_array
from convexnn.network import Network
from convexnn.threats import L2Ball, LInfBall
from convexnn.training.base import Trainer
from convexnn.training.data import BINARY_LOSSES, CLASS_LOSSES
from convexnn.training.lipschitz_gradient import raw_weights
from convexnn.training.max_gradient_forms import EigenvaluePenalty, FactorPenalty, PairPenalty
from convexnn.training.max_gradient_pairs import ClassPairs, margin_bounds
from convexnn.training.optimizers import Layers
from convexnn.training.options import TrainingOptions, require_count, require_number
from convexnn.training.problem import Batch, TrainingProblem

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

FORMS = ("factor", "eigenvalue")
NORMS = {2: "l2", np.inf: "linf"}


@dataclass(eq=False)
class MaxGradientTrainer(Trainer):
    """Adam on ``mean loss + sum_{a < b} lam_ab M_ab``, M_ab the certified bound of the margin ``f_a - f_b``.

    For inputs perturbed in linf M_ab is the max-gradient bound, for l2 LipSDP; raw units of the inputs. The multipliers
    of every bound are trained with the weights, so the objective is one of both. At every evaluation the bounds are
    certified anew (rigorous, rounding included), and with them the share of training rows that an attack of ``radius``
    could change.

    Other losses than those of class indices have no pairs of classes: every output is bounded for itself, ``sum_a lam
    M_a``.

    Implements: Raghunathan et al. (2018a), eq. (15) as a penalty, in the d x d form of docs/theory/lipsdp.md.

    Parameters
    ----------
    lam : float or array-like of shape (k, k), default=1e-3
        Weight of every pair, or of each (the entries a < b are read).
    radius : float, default=0.1
        For the certified error in the history, raw input units; the objective does not depend on it.
    norm : {inf, 2}, default=inf
    form : {"factor", "eigenvalue"}, default="factor"
        "eigenvalue" is eq. (15) of the paper with one free vector a pair (linf only); slower and looser, see
        docs/theory/max_gradient_training.md.
    power_steps : int, default=1
        Of the factors in every step.
    tol : float, default=1e-2
        Relative gap of the certified bounds at an evaluation.
    """

    lam: Any = 1e-3
    radius: float = 0.1
    norm: float = np.inf
    form: str = "factor"
    power_steps: int = 1
    tol: float = 1e-2
    name: ClassVar[str] = "max_gradient"
    learning_rate: ClassVar[float] = 0.01

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        weights = real_array(self.lam, "lam")
        if weights.ndim not in (0, 2) or not np.isfinite(weights).all() or (weights < 0).any():
            raise InvalidInputError(f"lam must be a number >= 0 or a (k, k) array of them, got {self.lam!r}.")
        self.lam = float(weights) if weights.ndim == 0 else tuple(tuple(row) for row in weights.tolist())
        require_number("radius", self.radius)
        require_number("tol", self.tol, positive=True)
        require_count("power_steps", self.power_steps)
        if not is_one_of(self.norm, NORMS):
            raise InvalidInputError(f"norm must be 2 or numpy.inf, got {self.norm!r}.")
        if self.form not in FORMS or (self.form == "eigenvalue" and self.norm == 2):
            raise InvalidInputError(f"form must be one of {FORMS} ('eigenvalue' for norm inf only), got {self.form!r}.")

    def adapt(self, options: TrainingOptions) -> TrainingOptions:
        """Refuse ``lam`` of the options: it would weigh the sum of squared weights."""
        if options.lam:
            raise InvalidInputError(
                f"lam={options.lam:g} of pretrain weighs the sum of squared weights; for the weight of the bounds give "
                "method=MaxGradientTrainer(lam=...), and for weight decay use weight_decay."
            )
        return super().adapt(options)

    def prepare(self, problem: TrainingProblem) -> None:
        """Forget multipliers of an earlier run; refuse activations with unbounded slopes."""
        slopes = problem.activation.slopes
        if not np.isfinite(slopes).all():
            raise UnsupportedModelError("An activation with unbounded slopes has no max-gradient bound to train.")
        self._pairs = ClassPairs(problem.rows.n_outputs, single=problem.loss not in CLASS_LOSSES)
        self._weights = self._pair_weights()
        self._penalty: PairPenalty = (
            FactorPenalty(slopes, self.norm, self.power_steps) if self.form == "factor" else EigenvaluePenalty(slopes)
        )
        self._figures: dict[str, float] = {}
        self._kept: list[tuple[Network, dict[str, Array]]] = []

    def _pair_weights(self) -> Array:
        members = self._pairs.members
        if isinstance(self.lam, float):
            return np.full(len(members), self.lam)
        if self._pairs.single:
            raise InvalidInputError("lam must be a number: this loss is not one of class indices and has no pairs.")
        table = np.asarray(self.lam)
        if table.shape != (members.max() + 1,) * 2:
            raise InvalidInputError(f"lam has shape {table.shape}; there are {members.max() + 1} classes.")
        return table[members[:, 0], members[:, 1]]

    def objective(self, problem: TrainingProblem, layers: Layers, batch: Batch) -> torch.Tensor:
        """Batch loss plus the weighted bounds at the multipliers of this step."""
        W, V = raw_weights(problem, layers)
        loss = problem.data_loss(layers, batch) + problem.penalty(layers)
        if not bool(W.isfinite().all() and V.isfinite().all()):
            return loss * float("nan")
        values = self._penalty(W, problem.tensor(self._pairs.differences) @ V)
        return loss + problem.tensor(self._weights / problem.loss_unit) @ values

    def evaluate(self, problem: TrainingProblem, layers: Layers) -> float:
        """Objective with certified bounds; the figures of the history are those of these weights."""
        if not all(bool(part.isfinite().all()) for pair in layers for part in pair):
            return float("nan")
        loss = float(problem.data_loss(layers, problem.all_rows) + problem.penalty(layers))
        network = problem.network(layers)
        bounds = self._certified(network)
        self._figures = {"loss": loss * problem.loss_unit, "largest_bound": float(bounds.max())}
        if problem.loss in CLASS_LOSSES or (problem.loss in BINARY_LOSSES and network.n_outputs == 1):
            errors = clean_and_certified_error(network, problem, bounds, self.radius, self.norm)
            self._figures |= dict(zip(("clean_error", "certified_error"), errors, strict=True))
        return loss + float(self._weights @ bounds) / problem.loss_unit

    def _certified(self, network: Network) -> Array:
        """Bounds of the network; when it was looked at before, with the better of old and new multipliers.

        The first network and the last one are remembered: two looks at one network then agree, though bounds depend on
        where the search for multipliers starts.
        """
        bounds, multiplier = self._penalty.certify(network, self.tol, self._pairs)
        for known, evidence in self._kept:
            if _same_weights(known, network):
                bounds = np.minimum(bounds, margin_bounds(network, evidence, self.norm, self._pairs))
        self._kept = [*self._kept[:1], (network, multiplier)]
        return bounds

    def figures(self) -> dict[str, float]:
        """Loss, largest bound, for classes clean and certified error, of the weights evaluated last."""
        return dict(self._figures)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the multipliers."""
        return self._penalty.state()

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up multipliers."""
        self._penalty.load(state)


def _same_weights(one: Network, other: Network) -> bool:
    pairs = zip(one.layers, other.layers, strict=True)
    return all(a[0].shape == b[0].shape and np.allclose(a[0], b[0], rtol=1e-9, atol=0.0) for a, b in pairs)


def clean_and_certified_error(
    network: Network, problem: TrainingProblem, bounds: Array, radius: float, norm: float
) -> tuple[float, float]:
    """Shares of the training rows (weighted) that are misclassified, and that are not certified at the radius."""
    rows = problem.rows
    target = rows.target[:, 0]
    labels = (target > 0 if problem.loss in BINARY_LOSSES else target).astype(np.intp)
    clean, certified = errors_of(network, rows.X, labels, bounds, radius, norm)
    return float(rows.weight @ clean), float(rows.weight @ certified)


def errors_of(
    network: Network, X: Array, labels: NDArray[np.intp], bounds: Array, radius: float, norm: float
) -> tuple[Array, Array]:
    """0 or 1 of every row: whether it is misclassified (ties count), and whether it is not certified at the radius.

    Parameters
    ----------
    network : Network
    X : array, shape (n, d)
    labels : int array, shape (n,)
    bounds : array, shape (P,)
        Of the pairs, in the order of :class:`ClassPairs`.
    radius : float
        Raw input units.
    norm : {2, inf}

    Returns
    -------
    clean, certified : array, shape (n,)
        Rounding included: a row whose margin is within rounding of zero is not certified.
    """
    kind = L2Ball if norm == 2 else LInfBall
    table = ClassPairs(network.n_outputs).matrix(bounds)
    clean, worst = (
        rival_margins(network, X, labels, kind(size), table, NORMS[norm]).max(axis=1) for size in (0.0, radius)
    )
    return (clean >= 0).astype(float), (~(worst < 0)).astype(float)
