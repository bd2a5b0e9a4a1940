"""Sharpness-aware minimization (SAM): every step descends on the loss at the worst nearby weights, to first order.

Source: Foret, Kleiner, Mobahi & Neyshabur 2021 (arXiv 2010.01412). The radius is one of weights, not of inputs:
nothing about perturbed inputs is promised, and nothing is certified.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from convexnn.exceptions import InvalidInputError
from convexnn.training.base import Trainer
from convexnn.training.optimizers import OPTIMIZERS, Layers
from convexnn.training.options import require_number
from convexnn.training.problem import Batch, TrainingProblem

if TYPE_CHECKING:
    import torch


@dataclass(eq=False)
class SAMTrainer(Trainer):
    r"""Gradient descent on ``max_{|e| <= rho} mean loss(weights + e) + penalty``, the maximum to first order.

    A step takes the gradient ``g`` of the mean loss of its batch, moves all weights and biases together by
    ``e = rho g / |g|``, and descends along the gradient found there; the dependence of ``e`` on the weights is
    dropped, and the penalty is that of the weights themselves.

    Implements: Foret et al. (2021), Algorithm 1 with eq. (2) for p = 2.

    Parameters
    ----------
    rho : float, default=0.05
        Length of the move, in the weights of standardized inputs (and targets); 0 is the base optimizer itself.
    base : {"adam", "sgd"}, default="adam"
        Optimizer that takes the step.

    Notes
    -----
    Networks are judged (``best_objective``, history) by the loss and penalty at the weights themselves, as those of the
    plain trainers are. A step costs two gradients.
    """

    rho: float = 0.05
    base: str = "adam"
    name: ClassVar[str] = "sam"

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        require_number("rho", self.rho)
        if not isinstance(self.base, str) or self.base not in OPTIMIZERS:
            raise InvalidInputError(f"base must be one of {sorted(OPTIMIZERS)}, got {self.base!r}.")
        self.optimizer = self.base  # type: ignore[misc]

    def objective(self, problem: TrainingProblem, layers: Layers, batch: Batch) -> torch.Tensor:
        """Loss of the batch at the moved weights plus the penalty at the weights: its gradient is that of SAM."""
        return problem.data_loss(self.ascend(problem, layers, batch), batch) + problem.penalty(layers)

    def evaluate(self, problem: TrainingProblem, layers: Layers) -> float:
        """Loss and penalty of the weights themselves."""
        return float(problem.data_loss(layers, problem.all_rows) + problem.penalty(layers))

    def ascend(self, problem: TrainingProblem, layers: Layers, batch: Batch) -> Layers:
        """Weights moved by ``rho g / |g|``; where the gradient is zero (or overflows) they stay.

        Parameters
        ----------
        problem : TrainingProblem
        layers : list of (W, b) tensors
            Leaf tensors with gradients.
        batch : Batch

        Returns
        -------
        list of (W, b) tensors
            Differentiable in ``layers``, the move held fixed.
        """
        import torch

        if self.rho == 0:
            return layers
        parts = [part for pair in layers for part in pair]
        slopes = torch.autograd.grad(problem.data_loss(layers, batch), parts)
        largest = max(float(slope.abs().max()) for slope in slopes)
        if not 0 < largest < float("inf"):
            return layers
        scaled = [slope / largest for slope in slopes]  # first, so that no square over- or underflows
        length = torch.stack([part.square().sum() for part in scaled]).sum().sqrt()
        moved = [part + self.rho * slope / length for part, slope in zip(parts, scaled, strict=True)]
        return list(zip(moved[::2], moved[1::2], strict=True))
