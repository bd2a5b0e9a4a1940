"""Adversarial training: every step descends on inputs that projected gradient ascent has moved for the worse.

Source: Madry, Makelov, Schmidt, Tsipras & Vladu 2018 (arXiv 1706.06083).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import is_one_of
from convexnn.training.base import Trainer
from convexnn.training.loop import Session
from convexnn.training.optimizers import Layers
from convexnn.training.options import require_count, require_number
from convexnn.training.problem import Batch, TrainingProblem
from convexnn.training.torch_losses import TORCH_LOSSES

if TYPE_CHECKING:
    import torch

NORMS = (2, np.inf)
UNITS = ("raw", "standardized")
EVALUATION_SEED = 0


@dataclass(eq=False)
class AdversarialTrainer(Trainer):
    """Adam on ``mean max_{|x' - x| <= radius} loss(f(x'), y)``, the inner maximum by projected gradient ascent (PGD).

    Implements: Madry et al. (2018), eq. (2.1), with the inner maximum by PGD.

    Parameters
    ----------
    radius : float, default=0.1
        Size of the perturbation, in the ``units``.
    norm : {2, numpy.inf}, default=2
    units : {"raw", "standardized"}, default="raw"
        Units in which perturbations are measured: those of the inputs as given, or each input divided by its
        standard deviation over the training rows.
    steps : int, default=10
        Ascent steps of each inner maximization.
    step_size : float, optional
        In the units of the radius; None is ``2.5 radius / steps``.

    Notes
    -----
    Of the clean row and the points that the ascent visits, the worst one is taken, so the adversarial loss is never
    below the clean one. It is a LOWER bound on the inner maximum. Networks are judged (``best_objective``, history)
    by twice as many steps from the row itself and from a fixed random point, which makes two evaluations comparable;
    rows held out for validation are judged clean.
    """

    radius: float = 0.1
    norm: float = 2
    units: str = "raw"
    steps: int = 10
    step_size: float | None = None
    name: ClassVar[str] = "adversarial"

    def __post_init__(self) -> None:
        """Refuse settings that cannot be meant."""
        require_number("radius", self.radius)
        require_count("steps", self.steps)
        if self.step_size is not None:
            require_number("step_size", self.step_size, positive=True)
        if not is_one_of(self.norm, NORMS):
            raise InvalidInputError(f"norm must be 2 or numpy.inf, got {self.norm!r}.")
        if self.units not in UNITS:
            raise InvalidInputError(f"units must be one of {UNITS}, got {self.units!r}.")

    def prepare(self, problem: TrainingProblem) -> None:
        """Count steps from zero."""
        del problem
        self._seed, self._count = 0, 0

    def run(self, session: Session) -> None:
        """One descent; the random starts of the ascents follow from the seed of the session."""
        self._seed = session.seed
        super().run(session)

    def objective(self, problem: TrainingProblem, layers: Layers, batch: Batch) -> torch.Tensor:
        """Batch loss at perturbed inputs, plus the penalty."""
        self._count += 1
        start = self._random_start(problem, batch, np.random.default_rng([self._seed, self._count]))
        return self._loss(problem, layers, self.perturb(problem, layers, batch, start, self.steps))

    def evaluate(self, problem: TrainingProblem, layers: Layers) -> float:
        """Adversarial objective over all rows: ascents from the rows themselves and from fixed random points."""
        import torch

        rows = problem.all_rows
        random = self._random_start(problem, rows, np.random.default_rng(EVALUATION_SEED))
        moved = [self.perturb(problem, layers, rows, s, 2 * self.steps) for s in (torch.zeros_like(rows.X), random)]
        losses = [self._row_losses(problem, layers, batch.X, batch) for batch in moved]
        return float(torch.maximum(*losses) @ rows.weight + problem.penalty(layers))

    def perturb(self, problem: TrainingProblem, layers: Layers, batch: Batch, start: torch.Tensor, steps: int) -> Batch:
        """The rows moved to the worst points that the ascent visits, each inside its threat set.

        Parameters
        ----------
        problem : TrainingProblem
        layers : list of (W, b) tensors
        batch : Batch
        start : tensor, shape (b, d)
            First perturbation, in the ``units``.
        steps : int
        """
        import torch

        frozen = [(W.detach(), b.detach()) for W, b in layers]
        unit = problem.tensor(1.0 / problem.scaling.input_scale if self.units == "raw" else 1.0)
        step = 2.5 * self.radius / self.steps if self.step_size is None else self.step_size
        worst, highest = torch.zeros_like(batch.X), self._row_losses(problem, frozen, batch.X, batch)
        shift = start.detach().clone()
        with torch.enable_grad():
            for index in range(steps + 1):
                shift.requires_grad_(index < steps)
                losses = self._row_losses(problem, frozen, batch.X + shift * unit, batch)
                higher = losses.detach() > highest
                worst = torch.where(higher[:, None], shift.detach(), worst)
                highest = torch.where(higher, losses.detach(), highest)
                if index < steps:
                    (slope,) = torch.autograd.grad(losses.sum(), shift)
                    shift = project(shift.detach() + step * steepest(slope, self.norm), self.radius, self.norm)
        return batch._replace(X=batch.X + worst * unit)

    def _random_start(self, problem: TrainingProblem, batch: Batch, rng: np.random.Generator) -> torch.Tensor:
        return problem.tensor(_random_shifts(tuple(batch.X.shape), self.radius, self.norm, rng))

    @staticmethod
    def _row_losses(problem: TrainingProblem, layers: Layers, X: torch.Tensor, batch: Batch) -> torch.Tensor:
        return TORCH_LOSSES[problem.loss](problem.forward(layers, X), batch.target)

    @staticmethod
    def _loss(problem: TrainingProblem, layers: Layers, batch: Batch) -> torch.Tensor:
        return problem.data_loss(layers, batch) + problem.penalty(layers)

    def state(self) -> dict[str, np.ndarray[Any, Any]]:
        """Return how many steps were taken: they number the random starts."""
        return {"count": np.array(self._count)}

    def load(self, state: dict[str, np.ndarray[Any, Any]]) -> None:
        """Take up the number of steps."""
        self._count = int(state["count"])


def steepest(slope: torch.Tensor, norm: float) -> torch.Tensor:
    """Direction of unit norm along which a linear function with this gradient rises most, row by row."""
    import torch

    if norm == np.inf:
        return slope.sign()
    return torch.nn.functional.normalize(slope, dim=1, eps=torch.finfo(slope.dtype).tiny)


def project(shift: torch.Tensor, radius: float, norm: float) -> torch.Tensor:
    """Projection of each row on the ball of the radius (Euclidean)."""
    if norm == np.inf:
        return shift.clamp(-radius, radius)
    length = shift.norm(dim=1, keepdim=True)
    return shift * (radius / length.clamp_min(radius)) if radius > 0 else shift * 0.0


def _random_shifts(shape: tuple[int, ...], radius: float, norm: float, rng: np.random.Generator) -> Any:
    """Uniform points of the ball."""
    if norm == np.inf:
        return radius * rng.uniform(-1.0, 1.0, shape)
    direction = rng.standard_normal(shape)
    direction /= np.maximum(np.linalg.norm(direction, axis=1, keepdims=True), np.finfo(float).tiny)
    return radius * rng.random((shape[0], 1)) ** (1.0 / shape[1]) * direction
