"""How a training run is carried out: one frozen value instead of fifteen arguments."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from convexnn.exceptions import InvalidInputError

SCHEDULES = ("constant", "cosine", "step")
DTYPES = ("auto", "float32", "float64")
FULL_BATCH_ROWS = 2000
MINI_BATCH_ROWS = 256


@dataclass(frozen=True)
class Progress:
    """What a callback is told after each evaluation.

    Parameters
    ----------
    epoch : int
        Epochs done so far.
    objective : float
        Training objective of the current weights, raw units of ``y``.
    validation_loss : float
        Loss on the validation rows; NaN without validation.
    best : float
        Lowest judged value so far (the validation loss where there is validation, else the objective).
    learning_rate : float
        Learning rate of the last epoch.
    seconds : float
        Time since the start, including the runs a checkpoint continues.
    """

    epoch: int
    objective: float
    validation_loss: float
    best: float
    learning_rate: float
    seconds: float


@dataclass(frozen=True)
class TrainingOptions:
    """Settings of the training loop, the same for every trainer.

    Parameters
    ----------
    epochs : int, default=1000
        Passes over the distinct rows. A trainer with an outer loop spends this budget over all its rounds.
    learning_rate : float, optional
        Step size in standardized units; None takes the trainer's own default.
    batch_size : "auto" or int, default="auto"
        Rows per step; "auto" is the full batch up to 2000 distinct rows, else 256.
    schedule : {"cosine", "constant", "step"}, default="cosine"
        "cosine" falls to zero over the epochs; "step" multiplies by 0.1 at 50 % and at 75 % of them.
    momentum : float, default=0.9
        Heavy-ball momentum of ``method="sgd"``; the first-moment decay of Adam.
    weight_decay : float, default=0.0
        Weight of ``sum ||(w_j, b_j)||^2 + ||v_j||^2`` in STANDARDIZED units (inputs and targets scaled to unit
        variance), the output bias left out. Insensitive to the units of the data.
    lam : float, default=0.0
        Weight of the same sum in RAW units: the ``lam`` of ``regularizer="l2"`` of the estimators.
    patience : int, optional
        Stop after this many epochs without a relative improvement of 1e-6 of the judged value. None never does.
    evaluate_every : int, default=10
        Epochs between evaluations of the full objective (and of the validation loss).
    time_limit : float, optional
        Seconds; the best network so far is returned with status "time_limit".
    device : str, default="auto"
        "cpu", "cuda", "cuda:1", ...; "auto" takes CUDA when there is one.
    dtype : {"auto", "float32", "float64"}, default="auto"
        "auto" is float64 on the CPU and float32 elsewhere. The returned Network is float64 in any case.
    verbose : int, default=0
        0 is silent; 1 shows a progress bar (rich), or log records of level INFO when rich is missing.
    callback : callable, optional
        Called with a :class:`Progress` after each evaluation; a true return value stops the run.
    checkpoint : path, optional
        An ``.npz`` file written every ``checkpoint_every`` epochs and at the end. When it exists already the run
        continues from it, bit for bit as if it had not been cut (full determinism on the CPU).
    checkpoint_every : int, default=100
        Epochs between two writes of the checkpoint.
    """

    epochs: int = 1000
    learning_rate: float | None = None
    batch_size: int | str = "auto"
    schedule: str = "cosine"
    momentum: float = 0.9
    weight_decay: float = 0.0
    lam: float = 0.0
    patience: int | None = None
    evaluate_every: int = 10
    time_limit: float | None = None
    device: str = "auto"
    dtype: str = "auto"
    verbose: int = 0
    callback: Callable[[Progress], Any] | None = None
    checkpoint: str | os.PathLike[str] | None = None
    checkpoint_every: int = 100

    def __post_init__(self) -> None:
        """Refuse settings that cannot be carried out."""
        for name in ("epochs", "evaluate_every", "checkpoint_every"):
            _require(_is_count(getattr(self, name), 1), name, "a positive integer", getattr(self, name))
        _require(
            self.patience is None or _is_count(self.patience, 1),
            "patience",
            "None or a positive integer",
            self.patience,
        )
        _require(
            self.batch_size == "auto" or _is_count(self.batch_size, 1),
            "batch_size",
            "'auto' or a positive integer",
            self.batch_size,
        )
        _require(self.schedule in SCHEDULES, "schedule", f"one of {SCHEDULES}", self.schedule)
        _require(self.dtype in DTYPES, "dtype", f"one of {DTYPES}", self.dtype)
        _require(
            self.learning_rate is None or _is_real(self.learning_rate, positive=True),
            "learning_rate",
            "None or a positive number",
            self.learning_rate,
        )
        _require(_is_real(self.momentum) and self.momentum < 1, "momentum", "a number in [0, 1)", self.momentum)
        for name in ("weight_decay", "lam"):
            _require(_is_real(getattr(self, name)), name, "a finite number >= 0", getattr(self, name))
        _require(
            self.time_limit is None or _is_real(self.time_limit), "time_limit", "None or seconds >= 0", self.time_limit
        )
        _require(self.callback is None or callable(self.callback), "callback", "None or a callable", self.callback)

    def replace(self, **changes: Any) -> TrainingOptions:
        """Copy with some settings changed."""
        return dataclasses.replace(self, **changes)

    def rows_per_step(self, n_rows: int) -> int:
        """Rows of one gradient step on ``n_rows`` distinct rows."""
        if self.batch_size == "auto":
            return n_rows if n_rows <= FULL_BATCH_ROWS else MINI_BATCH_ROWS
        return min(int(self.batch_size), n_rows)

    def rate(self, epoch: int, base: float) -> float:
        """Learning rate of an epoch (0-based) under the schedule."""
        part = epoch / self.epochs
        if self.schedule == "cosine":
            return base * 0.5 * (1.0 + math.cos(math.pi * min(part, 1.0)))
        if self.schedule == "step":
            return base * (1.0 if part < 0.5 else 0.1 if part < 0.75 else 0.01)
        return base


def build_options(options: TrainingOptions | None, **settings: Any) -> TrainingOptions:
    """Options from a ready value, from keyword settings, or from both (settings win).

    Raises
    ------
    InvalidInputError
        For an unknown setting, with the known names.
    """
    base = TrainingOptions() if options is None else options
    if not isinstance(base, TrainingOptions):
        raise InvalidInputError(f"options must be a TrainingOptions or None, got {type(options).__name__}.")
    known = [field.name for field in dataclasses.fields(TrainingOptions)]
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise InvalidInputError(f"Unknown training setting {unknown[0]!r}; known settings: {', '.join(known)}.")
    return base.replace(**settings)


def _is_count(value: Any, least: int) -> bool:
    plain = not isinstance(value, bool | np.bool_) and np.ndim(value) == 0
    return plain and hasattr(value, "__index__") and int(value) >= least


def _is_real(value: Any, *, positive: bool = False) -> bool:
    if isinstance(value, bool | np.bool_) or np.ndim(value) or not hasattr(value, "__float__"):
        return False
    number = float(value)
    return math.isfinite(number) and (number > 0 if positive else number >= 0)


def _require(condition: bool, name: str, expected: str, value: Any) -> None:
    if not condition:
        raise InvalidInputError(f"{name} must be {expected}, got {value!r}.")


def require_count(name: str, value: Any, least: int = 1) -> None:
    """Refuse a setting that is not an integer of at least ``least``."""
    _require(_is_count(value, least), name, f"an integer of at least {least}", value)


def require_number(name: str, value: Any, *, positive: bool = False) -> None:
    """Refuse a setting that is not a finite number, nonnegative or positive."""
    expected = "a positive finite number" if positive else "a finite number >= 0"
    _require(_is_real(value, positive=positive), name, expected, value)
