"""Settings and results of the trainers of networks that are safe on whole regions."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.activations import Activation, LeakyReLU, ReLU, get_activation
from convexnn.certificate import Certificate
from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.training.options import DTYPES, Progress, require_count, require_number

Array = NDArray[np.float64]
CHOICES = {
    "start": ("tight", "gaussian"),
    "dtype": DTYPES,
    "arithmetic": ("float64+slack", "exact"),
    "finish": ("majorants", "branch_and_bound"),
}


@dataclass(frozen=True)
class RegionOptions:
    """Settings of :func:`train_safe_region`.

    Parameters
    ----------
    hidden_units : int, optional
        By default three an input.
    hidden_layers : sequence of int, optional
        Units of one or two hidden layers, in place of ``hidden_units``. Two layers have no pairs.
    activation : {"relu", "leaky_relu"} or ReLU or LeakyReLU, default="relu"
        Two hidden layers are for ReLU.
    units_per_direction : int, default=2
        Parallel units that share a majorant (``method="pairs"``); the dense method has one.
    steps : int, default=1500
        Gradient steps.
    batch_size : int, default=256
        Samples of each class a step.
    learning_rate : float, optional
        First step size of the weights, in coordinates where the regions have unit size; by default 5e-3.
    start : {"tight", "gaussian"}, default="tight"
        Random directions, whitened (needed where samples come near the region) or not.
    free_signs : bool, optional
        Let output weights change their sign, so that the accepted set need not be the outside of a convex body. By
        default only where there are negative samples outside of the regions.
    negative_weight : float, default=1.0
        Of the negative samples outside of the regions, against one for the positive ones.
    evaluate_every : int, default=100
        Steps between evaluations: bound, attack, accuracies.
    time_limit : float, optional
        Seconds; the safe network so far comes back with status "time_limit".
    device : str, default="cpu"
        "cpu", "cuda", ..., or "auto": CUDA when there is one. What is small is faster on the CPU.
    dtype : {"auto", "float32", "float64"}, default="auto"
        Of the gradient steps; "auto" is float64 on the CPU and float32 elsewhere. Evaluation and proof are in float64.
    arithmetic : {"float64+slack", "exact"}, default="float64+slack"
        Of the final proof; "exact" is over the rational numbers, for a few dozen inputs.
    finish : {"majorants", "branch_and_bound"}, default="majorants"
        How the bound of the last network is tightened: better majorants, or smaller and smaller parts of the region as
        well (two hidden layers: branch and bound on the signs of units), which gives back what the majorants lose: all
        of it for dense networks of about ten inputs, little from twenty on.
    finish_seconds : float, default=60.0
        For that, each region.
    random_state : int, Generator, RandomState or None
    verbose : int, default=0
        1 shows progress.
    callback : callable, optional
        Called with a :class:`Progress` after each evaluation (``validation_loss`` is the error at the bound); a true
        return value stops the run.
    checkpoint : path, optional
        An ``.npz`` file written every ``checkpoint_every`` steps and at the end; when it exists the run continues from
        it as if it had not been cut.
    checkpoint_every : int, default=100
    """

    hidden_units: int | None = None
    hidden_layers: Sequence[int] | None = None
    activation: str | Activation = "relu"
    units_per_direction: int = 2
    steps: int = 1500
    batch_size: int = 256
    learning_rate: float | None = None
    start: str = "tight"
    free_signs: bool | None = None
    negative_weight: float = 1.0
    evaluate_every: int = 100
    time_limit: float | None = None
    device: str = "cpu"
    dtype: str = "auto"
    arithmetic: str = "float64+slack"
    finish: str = "majorants"
    finish_seconds: float = 60.0
    random_state: Any = None
    verbose: int = 0
    callback: Callable[[Progress], Any] | None = None
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        """Refuse settings that cannot be carried out."""
        if self.hidden_units is not None:
            require_count("hidden_units", self.hidden_units)
        self._check_units()
        require_count("steps", self.steps, least=0)
        for name in ("units_per_direction", "batch_size", "evaluate_every", "checkpoint_every"):
            require_count(name, getattr(self, name))
        for name in ("learning_rate", "time_limit"):
            if getattr(self, name) is not None:
                require_number(name, getattr(self, name), positive=name == "learning_rate")
        require_number("negative_weight", self.negative_weight)
        require_number("finish_seconds", self.finish_seconds)
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise InvalidInputError(f"{name} must be one of {known}, got {getattr(self, name)!r}.")
        if self.callback is not None and not callable(self.callback):
            raise InvalidInputError(f"callback must be None or a callable, got {self.callback!r}.")

    def _check_units(self) -> None:
        if self.hidden_layers is not None:
            if isinstance(self.hidden_layers, str) or not isinstance(self.hidden_layers, Sequence):
                raise InvalidInputError(f"hidden_layers must hold one or two numbers, got {self.hidden_layers!r}.")
            object.__setattr__(self, "hidden_layers", tuple(self.hidden_layers))
            if len(self.hidden_layers) not in (1, 2):
                raise InvalidInputError(f"hidden_layers must hold one or two numbers, got {self.hidden_layers!r}.")
            for units in self.hidden_layers:
                require_count("hidden_layers", units)
            if self.hidden_units is not None:
                raise InvalidInputError("hidden_layers and hidden_units were both given; give one of them.")
        if not isinstance(get_activation(self.activation), ReLU | LeakyReLU):
            raise InvalidInputError(f"activation must be ReLU or LeakyReLU, got {self.activation!r}.")
        if self.is_deep and (self.leak or self.arithmetic == "exact"):
            raise InvalidInputError(
                "hidden_layers with two layers are for ReLU and are proved in float64 with outward rounding: leave "
                "activation and arithmetic at their defaults, or take one layer."
            )

    @property
    def is_deep(self) -> bool:
        """Whether there are two hidden layers."""
        return self.hidden_layers is not None and len(self.hidden_layers) == 2

    @property
    def leak(self) -> float:
        """Slope of the activation below zero."""
        activation = get_activation(self.activation)
        return activation.slope if isinstance(activation, LeakyReLU) else 0.0

    def units(self, n_inputs: int) -> int:
        """Units of the (first) hidden layer."""
        if self.hidden_layers is not None:
            return self.hidden_layers[0]
        return 3 * n_inputs if self.hidden_units is None else self.hidden_units

    def replace(self, **changes: Any) -> RegionOptions:
        """Copy with some settings changed."""
        return dataclasses.replace(self, **changes)

    def rate(self, step: int, base: float) -> float:
        """Learning rate of a step (0-based): fifty steps of warming up, then a cosine down to two percent."""
        fall = 0.02 + 0.98 * 0.5 * (1.0 + math.cos(math.pi * min(step / max(self.steps, 1), 1.0)))
        return base * fall * min(1.0, (step + 1) / 50)

    def smoothing(self, step: int) -> float:
        """Relative size of the barrier in the gradients of a step: from 0.3 down to 0.001."""
        return float(0.3 * (1e-3 / 0.3) ** (step / max(self.steps, 1)))


@dataclass(frozen=True, eq=False)
class RegionTraining:
    """Outcome of :func:`train_safe_region`.

    Attributes
    ----------
    network : Network
        One output in raw input units; ``f < 0`` on the whole of every region is proved for its stored weights.
    certificates : tuple of Certificate
        One a region, about ``network``: each bound is negative.
    bound : float
        The largest of these bounds.
    lower : float
        Largest value of ``network`` that was found on the regions: the truth lies between it and ``bound``.
    history : tuple of dict
        One entry an evaluation: step, seconds, loss (of the last batch), bound and lower (upper and lower bound of the
        network without its shift, in float64), accuracy (share of the positive samples above the bound), attainable
        (the same with ``lower`` in place of the bound: what no proof can exceed), rejected (share of the negative
        samples outside that lie below the bound).
    start_accuracy : float
        Accuracy at the start, with its majorants optimized: what the start alone can do.
    accuracy, rejected : float
        Of ``network``, on the samples of the evaluations.
    status : str
        "finished", "time_limit", "interrupted", "stopped" (by the callback) or "diverged".
    steps : int
        Gradient steps done.
    seconds, cpu_seconds : float
        Wall and processor time of this call; ``proof_seconds`` is the part of the final bound and proof.
    proof_seconds : float
    method : str
    """

    network: Network
    certificates: tuple[Certificate, ...] = field(repr=False)
    bound: float
    lower: float
    history: tuple[Mapping[str, float], ...] = field(repr=False)
    start_accuracy: float
    accuracy: float
    rejected: float
    status: str
    steps: int
    seconds: float
    cpu_seconds: float
    proof_seconds: float
    method: str

    @property
    def certificate(self) -> Certificate:
        """The certificate with the largest bound (the only one, for one region)."""
        return max(self.certificates, key=lambda certificate: certificate.bound)

    def check(self) -> float:
        """Recompute the largest bound from the network and the certificates alone."""
        return max(float(certificate.check(self.network)) for certificate in self.certificates)

    def accepts(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Whether ``f > 0`` at each of the inputs (n, d)."""
        return np.asarray(self.network(np.asarray(X, dtype=np.float64)) > 0)
