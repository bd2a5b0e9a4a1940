"""SafeRegionClassifier: a classifier that is proved never to leave one class on a whole region of the inputs."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from convexnn.activations import Activation
from convexnn.estimators.callbacks import CallbackSupport, Stages, tells_callbacks
from convexnn.estimators.regressor import checked_weights
from convexnn.estimators.safe_region_fit import (
    Sides,
    given_regions,
    inside,
    proved_bound,
    samples,
    trained,
    trainer_name,
)
from convexnn.exceptions import InvalidInputError
from convexnn.training.data import refuse_overflow
from convexnn.training.options import require_count
from convexnn.training.region_options import RegionTraining

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

SHARED = (
    "hidden_units",
    "hidden_layers",
    "activation",
    "units_per_direction",
    "batch_size",
    "learning_rate",
    "negative_weight",
    "time_limit",
    "device",
    "random_state",
    "verbose",
)  # parameters that are settings of the trainers under the same name


class SafeRegionClassifier(CallbackSupport, ClassifierMixin, BaseEstimator):
    """ReLU network with ``f < 0`` PROVED on a whole region: no point of it is ever given the other class.

    The network is ``f = g - B(g)`` with a certified upper bound B of g on the region, so every network on the way is
    safe and training spends its steps on accepting as many samples outside as it can. The bound holds for the
    real-valued network of the stored float64 weights, for all points of the region and not only for samples.

    Parameters
    ----------
    region : Region, L2Ball, LInfBall, Box or Polytope, or a list of these
        Where the safe class is guaranteed, in the units of the ``X`` that ``fit`` sees: a ball of radius r is around
        the origin, other centers and shapes by :func:`convexnn.regions.ellipsoid` and
        :func:`convexnn.regions.rotated_box`, ``{x : A x <= b}`` is a :class:`convexnn.regions.Polytope`. A list is a
        union (of balls and ellipsoids). Must be given.
    hidden_units : int, optional
        By default three an input.
    method : {"auto", "pairs", "dense", "facets"}, default="auto"
        "pairs" (balls and ellipsoids): parallel units that share a majorant. "dense" (the same regions): units of their
        own, with the semidefinite bound of Soletskyi & Dalrymple (2024). "facets" (boxes, also rotated, and polytopes):
        directions that find the facets. "auto" takes "pairs" or "facets". Unions are for balls and ellipsoids.
    hidden_layers : sequence of int, optional
        Units of one or two hidden layers, in place of ``hidden_units``. Two layers are for balls and ellipsoids: every
        unit is its own, bounds go through a chain of quadratics.
    activation : {"relu", "leaky_relu"} or ReLU or LeakyReLU, default="relu"
        Two hidden layers are for ReLU.
    safe_class : label, optional
        The class that the region belongs to; by default the first in increasing order. When it is given, ``y`` may
        hold samples of the other class alone.
    units_per_direction : int, default=2
        Parallel units that share a direction (``method="pairs"``).
    max_iter : int, optional
        Gradient steps; by default 1500, and 300 after the search for directions with "facets".
    batch_size : int, default=256
        Samples of each class a step.
    learning_rate : float, optional
        By default that of the method.
    negative_weight : float, default=1.0
        Of the samples of the safe class outside of the region, against one for the other class.
    time_limit : float, optional
        Seconds; the safe network so far is kept, with a warning.
    device : str, default="cpu"
        "cpu", "cuda", ..., or "auto"; "facets" always runs on the CPU.
    random_state : int, Generator, RandomState or None
        Seed; an integer makes fits repeatable.
    verbose : int, default=0
        1 shows progress (not with "facets").

    Attributes
    ----------
    network_ : Network
        Positive for ``classes_[1]``, as everything in this package that takes a classifier expects.
    safe_network_ : Network
        The network of the theorem, negative on the region; ``network_`` itself, or its negative where the safe class
        is ``classes_[1]``.
    region_certificate_ : Certificate
        Upper bound of ``safe_network_`` on the region, negative, checked again after training; the largest of
        ``region_certificates_`` where there are several regions.
    region_certificates_ : tuple of Certificate
        One a region.
    region_bound_ : float
        The largest of the bounds, as recomputed.
    classes_ : array, shape (2,)
    safe_class_ : label
    n_unreachable_ : int
        Training samples of the other class that lie in the region: no safe classifier can accept them.
    training_ : RegionTraining
        All that the trainer tells.
    history_ : list of dict
        One entry an evaluation: step, seconds, bound, lower (best attack), accuracy and more.
    start_accuracy_ : float
        Share of the accepted samples at the start, before training.
    n_iter_ : int
    n_features_in_ : int
    feature_names_in_ : array of str

    Notes
    -----
    In a Pipeline the region is in the units AFTER the steps before this one. No scaler is needed: training runs in
    coordinates in which the region has unit size.

    Training balances the classes; sample weights count within a class. Samples of the safe class inside the region need
    not be given: the proof covers them.

    Examples
    --------
    >>> from convexnn import L2Ball, SafeRegionClassifier
    >>> from convexnn.datasets import make_adversarial_spheres
    >>> X, y = make_adversarial_spheres(1000, 5, random_state=0)
    >>> model = SafeRegionClassifier(L2Ball(1.0), max_iter=200, random_state=0).fit(X, y)
    >>> bool(model.region_certificate_.check(model.safe_network_) < 0)  # for every point of the ball
    True
    >>> bool(model.score(X, y) > 0.9)
    True
    """

    def __init__(
        self,
        region: Any = None,
        hidden_units: int | None = None,
        *,
        method: str = "auto",
        hidden_layers: Sequence[int] | None = None,
        activation: str | Activation = "relu",
        safe_class: Any = None,
        units_per_direction: int = 2,
        max_iter: int | None = None,
        batch_size: int = 256,
        learning_rate: float | None = None,
        negative_weight: float = 1.0,
        time_limit: float | None = None,
        device: str = "cpu",
        random_state: Any = None,
        verbose: int = 0,
    ) -> None:
        self.region = region
        self.hidden_units = hidden_units
        self.method = method
        self.hidden_layers = hidden_layers
        self.activation = activation
        self.safe_class = safe_class
        self.units_per_direction = units_per_direction
        self.max_iter = max_iter
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.negative_weight = negative_weight
        self.time_limit = time_limit
        self.device = device
        self.random_state = random_state
        self.verbose = verbose

    def __sklearn_tags__(self) -> Any:
        """Two classes only."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_class = False
        return tags

    @tells_callbacks
    def fit(self, X: ArrayLike, y: ArrayLike, sample_weight: ArrayLike | None = None) -> SafeRegionClassifier:
        """Train a network and prove its bound on the region.

        Parameters
        ----------
        X : array-like, shape (n, d)
        y : array-like, shape (n,)
            Two classes, any labels; samples of the safe class are optional where ``safe_class`` is given.
        sample_weight : array-like, shape (n,), optional
            Nonnegative; relative to the samples of the same class. Weight zero leaves a row out.

        Returns
        -------
        self

        Raises
        ------
        InvalidInputError
            For unusable data, regions or settings, and when all samples to be accepted lie in the region.
        CertificateError
            When the proof of the trained network does not check again (nothing is stored then).

        Warns
        -----
        UserWarning
            When some of the samples to be accepted lie in the region.
        ConvergenceWarning
            When training ended early.
        """
        inputs, targets = validate_data(self, X, y, dtype=np.float64)
        refuse_overflow(inputs, "X")
        weight = checked_weights(sample_weight, len(inputs))
        sides = Sides.of(targets, weight, self.safe_class)
        regions = given_regions(self.region, inputs.shape[1])
        name = trainer_name(self.method, regions)
        used = np.ones(len(inputs), dtype=bool) if weight is None else weight > 0
        unreachable = int(inside(inputs[sides.accept & used], regions).sum())
        self._warn_unreachable(unreachable, int((sides.accept & used).sum()), sides)
        drawn = samples(inputs, sides.accept, weight)
        stages = Stages(self, {"X": X, "y": y, "sample_weight": sample_weight})
        training = trained(name, regions, drawn, self._settings())
        self.region_bound_ = proved_bound(training, regions)
        self._store(training, sides)
        self.n_unreachable_ = unreachable
        stages.end()
        return self

    def _settings(self) -> dict[str, Any]:
        """Settings of the trainers, checked where their names differ."""
        if self.max_iter is not None:
            require_count("max_iter", self.max_iter, least=0)
        return {"steps": self.max_iter} | {name: getattr(self, name) for name in SHARED}

    def _warn_unreachable(self, found: int, total: int, sides: Sides) -> None:
        label = sides.classes.tolist()[1 - sides.safe]
        if found == total:
            raise InvalidInputError(
                f"All {total} samples of class {label!r} lie in the region, where none can be accepted: the region is "
                "too large, or in other units than X, or safe_class is the wrong one."
            )
        if found:
            warnings.warn(
                f"{found} of {total} samples of class {label!r} lie in the region: a safe classifier can never accept "
                "them. They are left out of training and count as errors.",
                UserWarning,
                stacklevel=3,
            )

    def _store(self, training: RegionTraining, sides: Sides) -> None:
        self.classes_, self.safe_class_ = sides.classes, sides.classes[sides.safe]
        self.safe_network_ = training.network
        self.network_ = training.network if sides.safe == 0 else -training.network
        self.region_certificates_ = tuple(training.certificates)
        self.region_certificate_ = training.certificate
        self.training_, self.history_ = training, [dict(row) for row in training.history]
        self.start_accuracy_, self.n_iter_ = training.start_accuracy, max(1, training.steps)

    def check(self) -> float:
        """Recompute the bound on the region from ``safe_network_`` and its certificates alone: negative.

        Raises
        ------
        CertificateError
            When a certificate does not prove its claim about this network.
        """
        check_is_fitted(self)
        return max(float(one.check(self.safe_network_)) for one in self.region_certificates_)

    def decision_function(self, X: ArrayLike) -> Array:
        """Scores, positive for ``classes_[1]``, shape (n,).

        On the region they are at most ``region_bound_`` (at least ``-region_bound_`` where the safe class is
        ``classes_[1]``), up to the rounding of this evaluation in float64.

        Parameters
        ----------
        X : array-like, shape (n, d)
        """
        check_is_fitted(self)
        inputs: Array = validate_data(self, X, reset=False, dtype=np.float64)
        refuse_overflow(inputs, "X")
        return self.network_(inputs)

    def predict(self, X: ArrayLike) -> NDArray[Any]:
        """Labels: ``classes_[1]`` where the score is positive, shape (n,)."""
        second = self.decision_function(X) > 0
        return np.asarray(self.classes_[second.astype(np.intp)])

    def to_torch(self, dtype: torch.dtype | None = None) -> torch.nn.Sequential:
        """``network_`` as ``nn.Sequential``, float64 unless said otherwise: the proof is about the float64 weights."""
        check_is_fitted(self)
        return self.network_.to_torch(dtype)
