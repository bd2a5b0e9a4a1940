"""Settings of the alternating trainer of networks that are safe on a region."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from convexnn.exceptions import InvalidInputError
from convexnn.training.options import require_count, require_number


@dataclass(frozen=True)
class RegionADMMOptions:
    """Settings of :func:`convexnn.training.train_region_admm`.

    Parameters
    ----------
    hidden_units : int, optional
        By default three an input.
    iterations : int, default=200
        Updates of slack and scaled multiplier.
    inner_steps : int, default=20
        Steps of Adam on weights and multipliers between two of them.
    batch_size : int, default=128
        Samples of each class a step.
    learning_rate, dual_learning_rate : float, default=3e-3 and 1e-2
        Of the weights and of the multipliers of the bound; both fall to two percent along a cosine.
    penalty : float, default=3.0
        Weight of the squared residual at the start, sigma.
    penalty_growth : float, default=1000.0
        Factor of the penalty at the end of the run over that at its start.
    dual_rate : float, default=1.0
        Step of the multiplier of the residual over the penalty, alpha.
    tolerance : float, default=0.005
        The bound is kept at its negative, delta.
    logit_scale : float, default=30.0
        The loss is logistic in ``logit_scale * f``.
    shift : bool, default=True
        At the end, subtract the proved bound from the output bias: safe always, and no slack is left. Otherwise the
        network comes back as it is when its bound is negative ("safe"), and shifted only when it is not ("shifted").
    stop_accuracy : float, default=1.0
        The run ends when the network is proved safe without any shift and accepts more than this share.
    evaluate_every : int, default=25
        Iterations between evaluations.
    time_limit : float, optional
        Seconds.
    random_state : int, Generator, RandomState or None
    callback : callable, optional
        Called with each row of the history; a true return value stops the run.
    """

    hidden_units: int | None = None
    iterations: int = 200
    inner_steps: int = 20
    batch_size: int = 128
    learning_rate: float = 3e-3
    dual_learning_rate: float = 1e-2
    penalty: float = 3.0
    penalty_growth: float = 1000.0
    dual_rate: float = 1.0
    tolerance: float = 0.005
    logit_scale: float = 30.0
    shift: bool = True
    stop_accuracy: float = 1.0
    evaluate_every: int = 25
    time_limit: float | None = None
    random_state: Any = None
    callback: Callable[[dict[str, float]], Any] | None = None

    def __post_init__(self) -> None:
        """Refuse settings that cannot be carried out."""
        if self.hidden_units is not None:
            require_count("hidden_units", self.hidden_units)
        require_count("iterations", self.iterations, least=0)
        for name in ("inner_steps", "batch_size", "evaluate_every"):
            require_count(name, getattr(self, name))
        for name in ("learning_rate", "dual_learning_rate", "penalty", "penalty_growth", "dual_rate", "logit_scale"):
            require_number(name, getattr(self, name), positive=True)
        for name in ("tolerance", "stop_accuracy"):
            require_number(name, getattr(self, name))
        if self.time_limit is not None:
            require_number("time_limit", self.time_limit)
        if self.callback is not None and not callable(self.callback):
            raise InvalidInputError(f"callback must be None or a callable, got {self.callback!r}.")

    def replace(self, **changes: Any) -> RegionADMMOptions:
        """Copy with some settings changed."""
        return dataclasses.replace(self, **changes)

    def fall(self, iteration: int) -> float:
        """Factor of the learning rates at an iteration."""
        return 0.02 + 0.49 * (1.0 + math.cos(math.pi * min(iteration / max(self.iterations, 1), 1.0)))

    def sigma(self, iteration: int) -> float:
        """The penalty at an iteration."""
        return float(self.penalty * self.penalty_growth ** (iteration / max(self.iterations, 1)))
