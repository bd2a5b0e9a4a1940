"""Losses as terms of the interior point method; methods are those of ``LossTerm``.

Every loss here but the logistic one is piecewise linear or quadratic and has the form (Aravkin, Burke & Pillonetto
2013)

    om l(f) = max { nu (f - t) - q nu^2 / 2 : low <= nu <= high },

with ``q = 1 / (2 om)`` (Huber, squared hinge) or 0 (hinge). Instead of its slope, which bends at kinks, the method
follows ``nu`` as a variable of its own, with multipliers ``a, b >= 0`` of its two limits::

    f - t - q nu = a - b,     a (high - nu) = mu w,     b (nu - low) = mu w.

Eliminating them leaves the Newton matrix of the squared loss with ``1 / (q + a / (high - nu) + b / (nu - low))`` in
place of ``2 om``, and the free intercept centres predictions by these weights. So kinks cost n divisions a step.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.losses import Hinge, Logistic
from convexnn.solvers.cone_block import clip_change
from convexnn.solvers.cone_problem import ConeProblem
from convexnn.solvers.loss_term import LossStep, LossTerm

Array = NDArray[np.float64]

#: Least probability of an error, and of none.
LEAST = 1e-200
#: Margins of the first logistic probabilities are cut here.
FARTHEST = 1.5
#: Total path weight of the kinks, as a share of that of the cone rows.
SHARE = 1.0


def loss_term(problem: ConeProblem) -> LossTerm:
    """Term of the loss of a problem."""
    if problem.is_squared:
        return SquaredTerm(problem)
    return LogisticTerm(problem) if isinstance(problem.sample_loss, Logistic) else PiecewiseTerm(problem)


class SquaredTerm:
    """The squared loss, and what losses without kinks share: no pairs."""

    degree = 0.0
    empty = np.zeros((2, 0))

    def __init__(self, problem: ConeProblem) -> None:
        self.problem = problem

    def start(self, U: Array, mu: float) -> None:
        """Nothing to set."""

    def value(self, U: Array) -> float:
        return self.problem.loss(U)

    def gap(self) -> float:
        return 0.0

    def gradient(self, U: Array) -> Array:
        return self.problem.gradient(U)

    def rescale(self) -> None:
        """Nothing changes."""

    def affine(self) -> Array:
        return self.empty

    def centring(self, mu: float) -> Array:  # noqa: ARG002
        return self.empty

    def second_order(self, step: LossStep) -> Array:  # noqa: ARG002
        return self.empty

    def clipped(self, step: LossStep, length: float, mu: float) -> Array:  # noqa: ARG002
        return self.empty

    def pull_back(self, target: Array) -> Array:  # noqa: ARG002
        return np.zeros((self.problem.d1, self.problem.p))

    def expand(self, dU: Array, target: Array) -> LossStep:  # noqa: ARG002
        return LossStep(0.0, self.empty[0], self.empty)

    def max_step(self, step: LossStep, limit: float) -> float:  # noqa: ARG002
        return limit

    def gap_after(self, step: LossStep, length: float) -> float:  # noqa: ARG002
        return 0.0

    def move(self, U: Array, step: LossStep, length: float) -> None:
        """Nothing to move."""


class LogisticTerm:
    """The logistic loss in its slope: ``y f = log((1 - p) / p)`` for the probabilities ``p = -y nu / om`` of an error.

    The logarithm bends far less than the exponential would where a step goes too far. What the relation misses of zero
    is measured by the Fenchel gaps ``om l(f) + om l*(nu / om) - nu f``, which count as complementarity.
    """

    degree = 0.0

    def __init__(self, problem: ConeProblem) -> None:
        self.problem = problem

    def start(self, U: Array, mu: float) -> None:  # noqa: ARG002
        problem = self.problem
        self.intercept: float | Array = problem.best_constant(U)
        margin = np.clip(problem.y * (problem.raw_predict(U) + self.intercept), -FARTHEST, FARTHEST)
        self.p, self.q = 1 / (1 + np.exp(margin)), 1 / (1 + np.exp(-margin))
        self._note(U)

    def _note(self, U: Array) -> None:
        """Keep what the next step needs of the current point."""
        problem = self.problem
        self.f = problem.raw_predict(U) + self.intercept
        self.violation = self.f - problem.y * np.log(self.q / self.p)
        self.nu = problem.multiplier = -problem.weight * problem.y * self.p

    def value(self, U: Array) -> float:
        return self.problem.loss_of(self.f, U)

    def gap(self) -> float:
        return self._fenchel(self.f, self.p, self.q)

    def _fenchel(self, f: Array, p: Array, q: Array) -> float:
        """``sum om (log(1 + exp(-m)) + p log p + q log q + p m)`` with ``m = y f``: relative entropies."""
        problem = self.problem
        margin = problem.y * f
        own = np.logaddexp(0.0, margin)  # minus the logarithm of the probability that the loss itself has
        other = np.logaddexp(0.0, -margin)
        entropies = p * (np.log(p) + own) + q * (np.log(q) + other)
        return float(problem.weight @ np.maximum(entropies, 0.0))

    def gradient(self, U: Array) -> Array:
        return self.problem.gradient(U)

    def rescale(self) -> None:
        self.problem.set_curvature(self.problem.weight * self.p * self.q)

    def affine(self) -> Array:
        return np.zeros(len(self.problem.y))

    def centring(self, mu: float) -> Array:  # noqa: ARG002
        return np.zeros(len(self.problem.y))

    def _change(self, step: LossStep) -> Array:
        return -self.problem.y * step.nu / self.problem.weight

    def second_order(self, step: LossStep) -> Array:
        half = 0.5 * np.minimum(self.p, self.q)
        dp = np.clip(self._change(step), -half, half)
        logs = np.log1p(-dp / self.q) - np.log1p(dp / self.p)
        return -self.problem.y * (logs + dp / (self.p * self.q))

    def clipped(self, step: LossStep, length: float, mu: float) -> Array:  # noqa: ARG002
        return np.zeros(len(self.problem.y))

    def _shift(self, target: Array) -> Array:
        """What ``nu`` changes by at unchanged predictions, negated."""
        return self.problem.curvature * (-self.violation - target)

    def pull_back(self, target: Array) -> Array:
        return self.problem.predict_adjoint(self._shift(target))

    def expand(self, dU: Array, target: Array) -> LossStep:
        problem = self.problem
        shift, raw = self._shift(target), problem.raw_predict(dU)
        intercept = problem.intercept_step(shift - self.nu, raw)
        return LossStep(intercept, problem.curvature * (raw + intercept) - shift, np.zeros((2, 0)))

    def max_step(self, step: LossStep, limit: float) -> float:
        dp = self._change(step)
        rate = max(float((-dp / self.p).max()), float((dp / self.q).max()))
        return min(limit, 1 / rate) if rate > 0 else limit

    def gap_after(self, step: LossStep, length: float) -> float:
        dp = length * self._change(step)
        f = self.f + length * (step.nu + self._shift(np.zeros(1))) / self.problem.curvature
        return self._fenchel(f, np.maximum(self.p + dp, LEAST), np.maximum(self.q - dp, LEAST))

    def move(self, U: Array, step: LossStep, length: float) -> None:
        dp = length * self._change(step)
        self.intercept += length * step.intercept
        self.p, self.q = np.maximum(self.p + dp, LEAST), np.maximum(self.q - dp, LEAST)
        self._note(U)


class PiecewiseTerm:
    """A piecewise linear-quadratic loss with its pairs; rows of pair arrays belong to ``high`` and ``low``."""

    def __init__(self, problem: ConeProblem) -> None:
        self.problem = problem
        low, high = problem.sample_loss.slopes(problem.y)
        self.limits = problem.weight * np.vstack([high, low])
        self.has = np.isfinite(self.limits)
        self.q = np.zeros(len(problem.y)) if isinstance(problem.sample_loss, Hinge) else 0.5 / problem.weight
        self.signs = np.array([[1.0], [-1.0]])
        self.weights = SHARE * problem.size / max(self.has.sum(), 1) * self.has
        self.degree = float(self.weights.sum())

    def start(self, U: Array, mu: float) -> None:
        self.intercept: float | Array = self.problem.best_constant(U)
        self.nu = self._central(self._offset(U), mu)
        self.multipliers = mu * self.weights / self._slack()
        self._note(U)

    def _central(self, g: Array, mu: float) -> Array:
        """Solve ``q nu + mu w / (high - nu) - mu w / (nu - low) = g`` for nu, all samples at once, by bisection."""
        reach = 2 * (
            np.abs(g) / np.maximum(self.q, 1e-300) + np.sqrt(mu * self.weights.max() / np.maximum(self.q, 1e-300))
        )
        high = np.where(self.has[0], self.limits[0], reach)
        low = np.where(self.has[1], self.limits[1], -reach)
        for _ in range(60):
            middle = 0.5 * (low + high)
            pushes = (
                mu * self.weights / np.where(self.has, np.maximum(self.signs * (self.limits - middle), 1e-300), 1.0)
            )
            above = self.q * middle + pushes[0] - pushes[1] > g
            high, low = np.where(above, middle, high), np.where(above, low, middle)
        return 0.5 * (low + high)

    def _slack(self) -> Array:
        """``high - nu`` and ``nu - low``, shape (2, n); 1 where there is no limit."""
        return np.where(self.has, self.signs * (np.where(self.has, self.limits, 0.0) - self.nu), 1.0)

    def _offset(self, U: Array) -> Array:
        return self.problem.raw_predict(U) + self.intercept - self.problem.y

    def _note(self, U: Array) -> None:
        """Keep what the next step needs of the current point."""
        self.slack = self._slack()
        self.f = self._offset(U)
        self.violation = self.f - self.q * self.nu - self.multipliers[0] + self.multipliers[1]
        self.problem.multiplier = self.nu

    def value(self, U: Array) -> float:
        return self.problem.loss_of(self.f + self.problem.y, U)

    def gap(self) -> float:
        return float(np.vdot(self.multipliers, self.slack * self.has))

    def gradient(self, U: Array) -> Array:
        return self.problem.gradient(U)

    def rescale(self) -> None:
        self.problem.set_curvature(1 / (self.q + (self.multipliers / self.slack).sum(axis=0)))

    def affine(self) -> Array:
        return -self.multipliers * self.slack

    def centring(self, mu: float) -> Array:
        return mu * self.weights

    def second_order(self, step: LossStep) -> Array:
        return self.signs * step.nu * step.pairs

    def clipped(self, step: LossStep, length: float, mu: float) -> Array:
        products = (self.slack - length * self.signs * step.nu) * (self.multipliers + length * step.pairs)
        return clip_change(products, mu * self.weights) * self.has

    def _shift(self, target: Array) -> Array:
        """What ``nu`` changes by at unchanged predictions, negated: ``h (ra / su - rb / sl - violation)``."""
        pushes = target / self.slack
        return self.problem.curvature * (pushes[0] - pushes[1] - self.violation)

    def pull_back(self, target: Array) -> Array:
        return self.problem.predict_adjoint(self._shift(target))

    def expand(self, dU: Array, target: Array) -> LossStep:
        problem = self.problem
        shift, raw = self._shift(target), problem.raw_predict(dU)
        intercept = problem.intercept_step(shift - self.nu, raw)
        nu = problem.curvature * (raw + intercept) - shift
        return LossStep(intercept, nu, (target + self.signs * self.multipliers * nu) / self.slack)

    def max_step(self, step: LossStep, limit: float) -> float:
        positive = np.where(self.has, self.multipliers, 1.0)
        rate = max(
            float((self.signs * step.nu / self.slack * self.has).max(initial=0.0)),
            -float((step.pairs * self.has / positive).min(initial=0.0)),
        )
        return min(limit, 1 / rate) if rate > 0 else limit

    def gap_after(self, step: LossStep, length: float) -> float:
        slack = self.slack - length * self.signs * step.nu
        return float(np.vdot(self.multipliers + length * step.pairs, slack * self.has))

    def move(self, U: Array, step: LossStep, length: float) -> None:
        recursion = self.slack - length * self.signs * step.nu
        self.intercept += length * step.intercept
        self.nu = self.nu + length * step.nu
        self.multipliers = self.multipliers + length * step.pairs
        self._note(U)
        # the slack follows the multiplier unless roundoff spoils it
        self.slack = np.where(self.slack > 0.1 * recursion, self.slack, recursion)
