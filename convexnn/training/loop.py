"""The training loop shared by all trainers: steps, schedule, evaluation, best-so-far, stopping, recovery."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np

from convexnn.training.base import Trainer
from convexnn.training.optimizers import OPTIMIZERS, FlatParameters, Layers, Optimizer
from convexnn.training.options import Progress, TrainingOptions
from convexnn.training.problem import Batch, TrainingProblem

if TYPE_CHECKING:
    import torch

    Objective = Callable[[TrainingProblem, Layers, Batch], torch.Tensor]

BLOW_UP = 1e3  # objective beyond this multiple of the first one: the run has diverged
RELATIVE_IMPROVEMENT = 1e-6


class Session:
    """One run: weights, optimizer, clock, history, best network so far.

    Parameters
    ----------
    problem : TrainingProblem
    trainer : Trainer
    options : TrainingOptions
    start : list of (W, b) tensors
        Standardized units.
    seed : int
        Seeds the order of mini-batches.
    origin : str, default=""
        Fingerprint of the network that ``start`` was taken from; empty where the seed drew it.

    Attributes
    ----------
    best : tuple (judged value, flat weights, epoch)
        Replaced in one assignment, so that an interrupt never finds half of it.
    status : str or None
        Why the run stopped; None while it goes on.
    """

    def __init__(
        self,
        problem: TrainingProblem,
        trainer: Trainer,
        options: TrainingOptions,
        start: Layers,
        seed: int,
        origin: str = "",
    ) -> None:
        self.problem, self.trainer, self.options, self.seed, self.origin = problem, trainer, options, seed, origin
        self.parameters = FlatParameters(start)
        self.optimizer: Optimizer = OPTIMIZERS[trainer.optimizer](self.parameters, options.momentum)
        self.base_rate = trainer.learning_rate if options.learning_rate is None else options.learning_rate
        self.batch_size = options.rows_per_step(len(problem.rows))
        self.epoch, self.divergences, self.in_a_row = 0, 0, 0
        self.rate_factor, self.last_rate = 1.0, 0.0
        self.first = math.nan
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, torch.Tensor, int] = (math.inf, self.parameters.read(), 0)
        self.reference = (math.inf, 0)  # value and epoch of the last improvement that counts for patience
        self.status: str | None = None
        self.on_evaluation: list[Callable[[Progress], Any]] = []
        self.on_epoch: list[Callable[[], None]] = []
        self._began, self.seconds_before = time.perf_counter(), 0.0

    # -- for trainers -----------------------------------------------------------------------------
    @property
    def layers(self) -> Layers:
        """Current weights, leaf tensors with gradients."""
        return self.parameters.layers

    def descend(self, epochs: int, objective: Objective | None = None) -> None:
        """Carry out up to ``epochs`` epochs of the optimizer on an objective (by default the trainer's own).

        Returns early when the run stops or the budget of ``options.epochs`` is spent.
        """
        minimized = self.trainer.objective if objective is None else objective
        if not self.history:
            self.evaluate()
        last = min(self.epoch + epochs, self.options.epochs)
        while self.epoch < last and self.status is None:
            self._epoch(minimized)
            if self.epoch % self.options.evaluate_every == 0 or self.epoch == last or self.status is not None:
                self.evaluate()
            for listener in self.on_epoch:
                listener()

    def evaluate(self) -> None:
        """Judge the current weights by the trainer's full objective, keep the best, decide whether to go on."""
        judged, objective, validation = self._judge()
        if math.isnan(self.first) and math.isfinite(objective):
            self.first = objective
        if not math.isfinite(judged) or not math.isfinite(objective) or objective > BLOW_UP * self.first:
            self._recover()
        else:
            self._keep(judged)
        self._report(objective, validation)

    def consider(self, values: torch.Tensor) -> None:
        """Judge other weights (flat) than the current ones; keep them when they are the best so far."""
        current = self.parameters.read()
        self.parameters.write(values)
        judged = self._judge()[0]
        self.parameters.write(current)
        if judged < self.best[0]:
            self.best = (judged, values.clone(), self.epoch)

    def _judge(self) -> tuple[float, float, float]:
        """Judged value, objective and validation loss (nan without validation) of the current weights, raw units."""
        import torch

        problem, held_out = self.problem, self.problem.validation_rows
        with torch.no_grad():
            objective = self.trainer.evaluate(problem, self.layers) * problem.loss_unit
            if held_out is None:
                return objective, objective, math.nan
            validation = float(problem.data_loss(self.layers, held_out)) * problem.loss_unit
        return validation, objective, validation

    @property
    def seconds(self) -> float:
        """Time spent, earlier parts of a resumed run included."""
        return self.seconds_before + time.perf_counter() - self._began

    # -- one epoch --------------------------------------------------------------------------------
    def _epoch(self, objective: Objective) -> None:
        rate = self.options.rate(self.epoch, self.base_rate) * self.rate_factor
        for batch in self.problem.batches(self.batch_size, self.seed, self.epoch):
            self.parameters.gradient.zero_()
            objective(self.problem, self.layers, batch).backward()
            self.optimizer.step(rate)
        self.epoch += 1
        self.last_rate = rate
        limit = self.options.time_limit
        if limit is not None and self.seconds > limit:
            self.status = "time_limit"

    # -- after an evaluation ----------------------------------------------------------------------
    def _keep(self, judged: float) -> None:
        self.in_a_row = 0
        if judged < self.best[0]:
            self.best = (judged, self.parameters.read(), self.epoch)
        if judged < self.reference[0] - RELATIVE_IMPROVEMENT * abs(judged):
            self.reference = (judged, self.epoch)
        patience = self.options.patience
        if patience is not None and self.epoch - self.reference[1] >= patience and self.status is None:
            self.status = "early_stopped"

    def _recover(self) -> None:
        """Back to the best weights with half the learning rate, a tenth of it when that was not enough."""
        self.parameters.write(self.best[1])
        self.optimizer.reset()
        self.rate_factor *= 0.5 if self.in_a_row == 0 else 0.1
        self.divergences += 1
        self.in_a_row += 1

    def _report(self, objective: float, validation: float) -> None:
        now = Progress(self.epoch, objective, validation, self.best[0], self.last_rate, self.seconds)
        self.history.append(asdict(now) | self.trainer.figures())
        wanted = [listener(now) for listener in self.on_evaluation]
        if any(wanted) and self.status is None:
            self.status = "stopped"

    # -- checkpoints ------------------------------------------------------------------------------
    def state(self) -> tuple[dict[str, Any], dict[str, np.ndarray[Any, Any]]]:
        """Header and arrays from which :meth:`load` continues the run."""
        header = {
            "epoch": self.epoch,
            "divergences": self.divergences,
            "in_a_row": self.in_a_row,
            "rate_factor": self.rate_factor,
            "last_rate": self.last_rate,
            "first": self.first,
            "best": [self.best[0], self.best[2]],
            "reference": list(self.reference),
            "history": self.history,
            "seconds": self.seconds,
        }
        arrays = {"weights": _array(self.parameters.values), "best_weights": _array(self.best[1])}
        arrays |= {f"optimizer.{name}": value for name, value in self.optimizer.state().items()}
        arrays |= {f"trainer.{name}": value for name, value in self.trainer.state().items()}
        return header, arrays

    def load(self, header: dict[str, Any], arrays: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up the state of an earlier run of the same problem."""
        import torch

        for name in ("epoch", "divergences", "in_a_row", "rate_factor", "last_rate", "first"):
            setattr(self, name, header[name])
        self.parameters.write(torch.as_tensor(arrays["weights"]))
        best = torch.as_tensor(arrays["best_weights"]).to(self.parameters.values)
        self.best = (header["best"][0], best, header["best"][1])
        self.reference = (header["reference"][0], header["reference"][1])
        self.history = list(header["history"])
        self.seconds_before = header["seconds"]
        self.optimizer.load(_part(arrays, "optimizer."))
        self.trainer.load(_part(arrays, "trainer."))


def _array(values: torch.Tensor) -> np.ndarray[Any, Any]:
    copied: np.ndarray[Any, Any] = values.detach().cpu().numpy().copy()
    return copied


def _part(arrays: dict[str, np.ndarray[Any, Any]], prefix: str) -> dict[str, np.ndarray[Any, Any]]:
    return {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
