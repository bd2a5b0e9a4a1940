"""The contract of a trainer and the result of a run.

One more trainer is one file with a subclass of :class:`Trainer` and one line in ``registry.py``. A trainer says
what a step minimizes; batching, schedule, stopping, progress, time limit, interrupts, divergence and checkpoints
belong to the loop.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from convexnn.network import Network
from convexnn.training.optimizers import Layers
from convexnn.training.options import TrainingOptions
from convexnn.training.problem import Batch, TrainingProblem

if TYPE_CHECKING:
    import torch

    from convexnn.training.loop import Session


@dataclass(frozen=True)
class TrainingResult:
    """Outcome of a training run.

    Parameters
    ----------
    network : Network
        Best network met, raw units of inputs and targets.
    history : tuple of dict
        One entry per evaluation: epoch, objective, validation_loss, learning_rate, seconds.
    best_objective : float
        Training objective of ``network``, recomputed in float64 from its weights, raw units of the loss.
    loss : float
        Its data term alone: weighted mean loss over the training rows.
    epochs : int
        Epochs carried out.
    seconds : float
    status : str
        "finished", "early_stopped", "stopped" (by the callback), "time_limit", "interrupted" or "diverged".
    method : str
    """

    network: Network
    history: tuple[dict[str, float], ...] = field(repr=False)
    best_objective: float
    loss: float
    epochs: int
    seconds: float
    status: str
    method: str


class Trainer:
    """Base of the trainers: plain minimization of loss plus penalty.

    Subclasses override :meth:`objective` (what one step minimizes, possibly on perturbed inputs, possibly with a
    further penalty) and, where they have an outer loop of their own, :meth:`run`. An instance serves one run at
    a time and may keep a warm start between steps; what must survive a checkpoint goes through :meth:`state`.
    """

    name: ClassVar[str] = ""
    optimizer: ClassVar[str] = "adam"
    learning_rate: ClassVar[float] = 0.01

    def adapt(self, options: TrainingOptions) -> TrainingOptions:
        """Options of the run; a trainer may insist on some."""
        return options

    def prepare(self, problem: TrainingProblem) -> None:
        """Get ready for a run: forget anything left from an earlier one."""

    def objective(self, problem: TrainingProblem, layers: Layers, batch: Batch) -> torch.Tensor:
        """Scalar that a step minimizes, standardized units, differentiable in ``layers``."""
        return problem.data_loss(layers, batch) + problem.penalty(layers)

    def evaluate(self, problem: TrainingProblem, layers: Layers) -> float:
        """Full objective the networks are judged by (no gradient is recorded)."""
        return float(self.objective(problem, layers, problem.all_rows))

    def figures(self) -> dict[str, float]:
        """Figures of the weights evaluated last that the history shall hold beside the objective."""
        return {}

    def run(self, session: Session) -> None:
        """Spend the budget: by default one descent over all epochs."""
        session.descend(session.options.epochs)

    def settings(self) -> dict[str, Any]:
        """Fields of a trainer that is a dataclass; a checkpoint written under others is refused."""
        fields: tuple[dataclasses.Field[Any], ...] = dataclasses.fields(self) if dataclasses.is_dataclass(self) else ()
        return {item.name: getattr(self, item.name) for item in fields if item.init}

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Arrays a checkpoint must hold beside weights and optimizer."""
        return {}

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up arrays written by :meth:`state`."""
