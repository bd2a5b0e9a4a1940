"""The descent on networks that are safe at every step: ``f = g - B(g)`` with a bound B of g on the regions."""

from __future__ import annotations

import math
import time
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.threads import one_thread
from convexnn.training.options import Progress
from convexnn.training.progress import reporting
from convexnn.training.region_checkpoint import load_region_checkpoint, save_region_checkpoint
from convexnn.training.region_evaluation import Evaluation, evaluate, polished
from convexnn.training.region_frame import UnitFrame
from convexnn.training.region_layers import LayersModel, LayersStart
from convexnn.training.region_majorants_torch import Bounded, union_maximum
from convexnn.training.region_model import COLDEST, HOTTEST, RegionModel, RegionStart, SafeModel
from convexnn.training.region_options import RegionOptions
from convexnn.training.region_samples import RegionSamples
from convexnn.training.starting import resolve_device

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]

SMALL = 200  # inputs up to which one thread is faster
GAP = 1e-6  # keeps networks that vanish on the regions apart from a division by zero
HEAT = 1e-5  # price of the temperature in the loss


@dataclass(eq=False)
class RegionRun:
    """A run: its state is what a checkpoint holds.

    Attributes
    ----------
    frame : UnitFrame
    samples : RegionSamples
    options : RegionOptions
    model : SafeModel
    seed : int
    rate : float
        First learning rate of the weights.
    """

    frame: UnitFrame
    samples: RegionSamples
    options: RegionOptions
    model: SafeModel
    seed: int
    rate: float

    def __post_init__(self) -> None:
        """Begin at step 0."""
        self.step, self.before = 0, 0.0
        self.began = time.perf_counter()
        self.rng = np.random.default_rng([self.seed, 3])
        self.history: list[dict[str, float]] = []
        self.best: tuple[float, dict[str, Array]] = (-math.inf, self.model.snapshot())
        self.optimizer = self.model.optimizer()
        judged = self.samples.evaluation
        self.judged = self.frame.into(judged.positive), self.frame.into(judged.negative)
        self.loss, self.status = math.nan, "finished"

    @property
    def seconds(self) -> float:
        """Wall time, earlier parts of a resumed run included."""
        return self.before + time.perf_counter() - self.began

    def run(self) -> None:
        """All steps, or as many as time, callback and keyboard allow; the model ends at the best evaluated weights."""
        options = self.options
        with (
            self.few_threads(),
            reporting(options.verbose, options.steps, "safe region") as report,
        ):
            try:
                self._resume_or_start(report)
                self._descend(report)
            except KeyboardInterrupt:
                self.status = "interrupted"
                self._judge_last()
        self.model.write(self.best[1])

    def few_threads(self) -> AbstractContextManager[Any]:
        """One thread while the arrays are small."""
        small = self.model.like["device"] == "cpu" and len(self.frame.center) <= SMALL
        return one_thread() if small else nullcontext()

    def _resume_or_start(self, report: Any) -> None:
        path = self.options.checkpoint
        if path is not None and load_region_checkpoint(self, path):
            return
        self._consider(polished(self.model.exact_groups(), self.frame.balls), report)

    def _descend(self, report: Any) -> None:
        options = self.options
        while self.step < options.steps and self.status == "finished":
            if options.time_limit is not None and self.seconds >= options.time_limit:
                self.status = "time_limit"
            elif not self._advance():
                self.status = "diverged"
            else:
                self.step += 1
                last = self.step == options.steps
                if (self.step % options.evaluate_every == 0 or last) and self._consider(None, report):
                    self.status = "stopped"
                if options.checkpoint is not None and self.step % options.checkpoint_every == 0 and not last:
                    save_region_checkpoint(self, options.checkpoint)
        if options.checkpoint is not None:  # before an evaluation that the uncut run would not make
            save_region_checkpoint(self, options.checkpoint)
        self._judge_last()

    def _advance(self) -> bool:
        """One step of Adam; False where a number ran away, and then nothing was changed."""
        import torch

        options, model = self.options, self.model
        base = self.rate
        model.set_rates(self.optimizer, options.rate(self.step, base), base)
        rows = self.samples.batch(options.batch_size, self.rng)
        groups = model.groups()
        bound = union_maximum(groups, self.frame.balls, options.smoothing(self.step))
        loss = self._loss(groups, bound, self.frame.into(rows.positive), self.frame.into(rows.negative))
        self.optimizer.zero_grad()
        loss.backward()
        self.loss = float(loss.detach())
        slopes = [value.grad for value in model.parameters.values() if value.grad is not None]
        if not math.isfinite(self.loss + float(sum(slope.abs().sum() for slope in slopes))):
            return False
        self.optimizer.step()
        with torch.no_grad():
            model.parameters["log_temperature"].clamp_(COLDEST, HOTTEST)
        return True

    def _loss(self, groups: Bounded, bound: torch.Tensor, positive: Array, negative: Array) -> torch.Tensor:
        """Logistic loss of ``T ((f - B) / (B - f(center)) - margin)``, which does not depend on the scale of f."""
        import torch
        from torch.nn.functional import softplus

        temperature, margin = self.model.parameters["log_temperature"].exp(), self.model.margin()
        total = HEAT * temperature
        for points, sign, weight in ((positive, -1.0, 1.0), (negative, 1.0, self.options.negative_weight)):
            if not len(points):
                continue
            # negative samples must not loosen the majorants: what they want of the bound is the task of the margin
            level = bound if sign < 0 else self._with_fixed_majorants(groups)
            gap = self._gap(groups, level)
            values = groups.values(torch.as_tensor(points, **self.model.like))
            total = total + weight * softplus(sign * temperature * ((values - level) / gap - margin)).mean()
        return total

    def _gap(self, groups: Bounded, bound: torch.Tensor) -> torch.Tensor:
        """``B - f(center)``, the size of f on the regions."""
        center = groups.values(self._centers(bound)).min()
        return bound - center + GAP * (1.0 + bound.detach().abs())

    def _with_fixed_majorants(self, groups: Bounded) -> torch.Tensor:
        return union_maximum(groups.fixed(), self.frame.balls, self.options.smoothing(self.step))

    def _centers(self, like: torch.Tensor) -> torch.Tensor:
        import torch

        zero = np.zeros(len(self.frame.center))
        shifts = [zero if ball.shift is None else ball.shift for ball in self.frame.balls]
        return torch.as_tensor(np.array(shifts), dtype=like.dtype, device=like.device)

    def output_scale(self, groups: Bounded) -> tuple[float, float]:
        """Factor that makes ``f - B - margin`` the logit of the loss, and that margin, for groups of this model."""
        import torch

        with torch.no_grad():
            gap = float(self._gap(groups, union_maximum(groups, self.frame.balls, 0.0)))
            temperature = float(self.model.parameters["log_temperature"].exp())
        return temperature / max(gap, np.finfo(float).tiny), float(self.model.margin().detach()) * gap

    # -- evaluations ------------------------------------------------------------------------------------
    def _consider(self, groups: Bounded | None, report: Any) -> bool:
        """Evaluate, keep the better weights; whether the callback asks to stop."""
        found = groups if groups is not None else self.model.exact_groups()
        value = evaluate(found, self.frame.balls, *self.judged, self.output_scale(found)[1], self.seed)
        self.history.append({"step": float(self.step), "seconds": self.seconds, "loss": self.loss, **asdict(value)})
        self._keep(value)
        options = self.options
        now = Progress(
            self.step,
            self.loss,
            1.0 - value.merit,
            1.0 - self.best[0],
            options.rate(self.step, self.rate),
            self.seconds,
        )
        report(now)
        return options.callback is not None and bool(options.callback(now))

    def _keep(self, value: Evaluation) -> None:
        if math.isfinite(value.bound) and value.merit >= self.best[0]:
            self.best = value.merit, self.model.snapshot()

    def _judge_last(self) -> None:
        """Evaluate where a run was cut between two evaluations."""
        if not self.history or self.history[-1]["step"] != self.step:
            self._consider(None, _silent)


def _silent(now: Progress) -> None:
    del now


def started(
    frame: UnitFrame,
    samples: RegionSamples,
    options: RegionOptions,
    start: RegionStart | LayersStart,
    seed: int,
    rate: float,
) -> RegionRun:
    """A run at its first step.

    Parameters
    ----------
    frame : UnitFrame
    samples : RegionSamples
    options : RegionOptions
    start : RegionStart or LayersStart
    seed : int
    rate : float
        First learning rate where the options name none.
    """
    device = resolve_device(options.device)
    dtype = options.dtype if options.dtype != "auto" else "float64" if device == "cpu" else "float32"
    rest = len(frame.balls), device, dtype, len(samples.usable.negative) > 0
    model = RegionModel(start, *rest) if isinstance(start, RegionStart) else LayersModel(start, *rest)
    return RegionRun(frame, samples, options, model, seed, options.learning_rate or rate)
