"""Training with the exact LipSDP gradient: mean loss plus ``lam L^2``, L the LipSDP bound in raw units."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.training.base import Trainer
from convexnn.training.lipsdp_regularizer import WarmLipSDP
from convexnn.training.loop import Session
from convexnn.training.optimizers import Layers
from convexnn.training.options import TrainingOptions, require_count, require_number
from convexnn.training.problem import Batch, TrainingProblem

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class LipschitzPenalized(Trainer):
    """Base of the trainers judged by ``mean loss + lam L^2`` (plus the weight decay of the options, if any).

    ``L`` is the LipSDP upper bound on the l2 Lipschitz constant, raw units of inputs and targets: the objective
    of ``regularizer="lipschitz"`` of the estimators.

    Parameters
    ----------
    lam : float, default=1e-2
        Weight of ``L^2``.
    """

    lam: float = 1e-2

    def __post_init__(self) -> None:
        """Refuse a weight that cannot be meant."""
        require_number("lam", self.lam)

    def adapt(self, options: TrainingOptions) -> TrainingOptions:
        """Refuse ``lam`` of the options: it would weigh the sum of squared weights, not ``L^2``."""
        if options.lam:
            raise InvalidInputError(
                f"lam={options.lam:g} of pretrain weighs the sum of squared weights; for the weight of L^2 give "
                f"method={type(self).__name__}(lam=...), and for weight decay use weight_decay."
            )
        return super().adapt(options)

    def prepare(self, problem: TrainingProblem) -> None:
        """Forget the factor of an earlier run; refuse an activation with unbounded slopes."""
        self._lipsdp = self._warm(problem.activation.slopes)

    def _warm(self, slopes: tuple[float, float]) -> WarmLipSDP:
        return WarmLipSDP(slopes)

    def run(self, session: Session) -> None:
        """One descent; then a look at the zero network, which a large ``lam`` makes the best one."""
        super().run(session)
        session.consider(session.parameters.values.new_zeros(session.parameters.values.shape))

    def evaluate(self, problem: TrainingProblem, layers: Layers) -> float:
        """Objective with the certified bound for L."""
        loss = problem.data_loss(layers, problem.all_rows) + problem.penalty(layers)
        return float(loss) + self.lam / problem.loss_unit * self._lipsdp.bound(*raw_weights(problem, layers)) ** 2

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return the warm factor."""
        return self._lipsdp.state()

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up a warm factor."""
        self._lipsdp.load(state)


@dataclass(eq=False)
class LipschitzTrainer(LipschitzPenalized):
    """Adam on ``mean loss + lam L^2`` with the exact gradient of L, the LipSDP bound in raw units.

    Implements: convexnn, Proposition 4 of docs/theory/lipsdp.md (Danskin).

    Parameters
    ----------
    lam : float, default=1e-2
        Weight of ``L^2``: the ``lam`` of ``regularizer="lipschitz"`` of the estimators. (``lam`` of the options
        is another weight and refused here; ``weight_decay`` may be added.)
    exact_every : int, default=10
        Steps between exact maximizations of the LipSDP factor; see :class:`WarmLipSDP`.
    power_steps : int, default=3
        Power steps on the factor in every other step.
    """

    lam: float = 1e-2
    exact_every: int = 10
    power_steps: int = 3
    name: ClassVar[str] = "lipschitz"
    learning_rate: ClassVar[float] = 0.03

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        super().__post_init__()
        require_count("exact_every", self.exact_every)
        require_count("power_steps", self.power_steps, least=0)

    def _warm(self, slopes: tuple[float, float]) -> WarmLipSDP:
        return WarmLipSDP(slopes, exact_every=self.exact_every, power_steps=self.power_steps)

    def objective(self, problem: TrainingProblem, layers: Layers, batch: Batch) -> torch.Tensor:
        """Batch loss plus ``lam L^2`` at the warm factor."""
        L = self._lipsdp(*raw_weights(problem, layers))
        return problem.data_loss(layers, batch) + problem.penalty(layers) + self.lam / problem.loss_unit * L**2


def raw_weights(problem: TrainingProblem, layers: Layers) -> tuple[torch.Tensor, torch.Tensor]:
    """Hidden (m, d) and outer (k, m) weights in raw units, differentiable in the standardized layers.

    Raises
    ------
    UnsupportedModelError
        When there is not exactly one hidden layer.
    """
    if len(layers) != 2:
        raise UnsupportedModelError(
            f"Training with LipSDP needs one hidden layer, this network has {len(layers) - 1}; "
            "give hidden_units as one integer."
        )
    (W, _), (V, _) = layers
    scale = problem.scaling
    return W / problem.tensor(scale.input_scale), V * scale.target_scale
