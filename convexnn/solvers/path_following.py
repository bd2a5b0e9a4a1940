"""Primal-dual steps along a weighted central path, from a strictly feasible start.

The path keeps ``rows_ki slack_ki = mu weight_ki`` and ``primal dual = kappa mu I`` for the regularizer's cone.
Weights are square roots of leverage scores, and all rows together weigh about as much as the cone (``share``): at
equal ``mu`` for every row the path hugs the boundary of the matrix inequality and steps collapse.

The point is always feasible; only the dual residual has to vanish, and it shrinks with each step as ``mu`` does. Losses
other than squared bring variables of their own, their slopes, with what belongs to them (``loss_term``).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from convexnn.program import InteriorPair
from convexnn.solvers._dense_system import REFINEMENTS
from convexnn.solvers._loss_terms import loss_term
from convexnn.solvers.centre import moved_inside, row_weights
from convexnn.solvers.cone_block import ConeBlock, ConeStep, clip_change
from convexnn.solvers.cone_problem import ConeProblem
from convexnn.solvers.loss_term import LossStep
from convexnn.solvers.newton_system import NewtonSystem, newton_system

Array = NDArray[np.float64]

#: Fraction of the longest step taken.
STEP_FRACTION = 0.99
#: Initial mu in units of (loss at zero) / (degree of the path).
INITIAL_MU = 5.0
GONDZIO_CORRECTORS = 2
#: Correctors with a longer step are not damped: what is left to gain is left to the correctors after them.
SHORT_STEP = 0.1
#: Products of a warm start are pulled to within this factor of the path.
WARM_SPREAD = 10.0
#: Largest share of the complementarity that a dual residual may have in a pair for warm starts.
SETTLED = 0.1
#: A dual residual this many times larger than the step promised asks for refined solves from then on.
RESIDUAL_GROWTH = 100.0


@dataclass(frozen=True)
class _Target:
    """Right sides of the complementarity equations of the rows, the cone and the loss."""

    rows: Array
    cone: Array
    loss: Array

    def plus(self, other: _Target, factor: float = 1.0) -> _Target:
        """Sum with ``factor`` times another target."""
        return _Target(*(a + factor * b for a, b in zip(self._parts, other._parts, strict=True)))

    @property
    def _parts(self) -> tuple[Array, Array, Array]:
        return self.rows, self.cone, self.loss


@dataclass(frozen=True)
class _Direction:
    """A Newton direction with everything a step length or a corrector needs."""

    dU: Array
    d_slack: Array
    d_rows: Array
    cone: ConeStep
    loss: LossStep
    length: float
    target: _Target


def _between(first: Any, second: Any, share: float) -> Any:
    """``first + share (second - first)``, part by part."""
    if isinstance(first, _Target | _Direction | ConeStep | LossStep):
        parts = [(getattr(first, field.name), getattr(second, field.name)) for field in fields(first)]
        return type(first)(*(_between(a, b, share) for a, b in parts))
    return first + share * (second - first)


class PathFollower:
    """The iterate ``(U, slack, rows, block variables)`` and the step that moves it.

    Parameters
    ----------
    problem : ConeProblem
        Loss and rows.
    block : ConeBlock
        The regularizer.
    centre : array, shape (d + 1, p)
        Strictly interior, near the analytic centres.
    """

    def __init__(self, problem: ConeProblem, block: ConeBlock, centre: Array, pair: InteriorPair | None = None) -> None:
        self.problem, self.block = problem, block
        self.system: NewtonSystem = newton_system(problem, block)
        self.weights = row_weights(problem, centre)
        self.kappa = block.share * problem.size / block.degree
        self.term = loss_term(problem)
        self.degree = self.weights.sum() + self.kappa * block.degree + self.term.degree
        self.is_warm = pair is not None and self._resume(pair, centre)
        if not self.is_warm:
            self._begin(centre)
        self.length, self._left_over = 0.0, math.inf
        self._residual_size = self._expected_residual = math.inf

    def _begin(self, centre: Array) -> None:
        """Start on the path, up to the dual residual."""
        mu = INITIAL_MU * self.problem.loss_at_zero() / self.degree
        self.U = self.block.start(centre, self.kappa * mu)
        self.term.start(self.U, mu)
        self.slack = self.problem.slack(self.U)
        self.rows = mu * self.weights / self.slack

    def _resume(self, pair: InteriorPair, centre: Array) -> bool:
        """Take up a pair of a neighboring program; False when it is not interior here.

        Multipliers are scaled by the ratio of the weights: with the same point, that leaves every complementarity
        equation as well centred as it was, at ``mu`` times the ratio.
        """
        problem, ratio = self.problem, self.block.weight / pair.weight
        U = moved_inside(problem, problem.shifted(pair.z[problem.keep].T / pair.unit), centre)
        if U is None or not self.block.resume(pair.cone, U, ratio):
            return False
        mu = self._hold = ratio * pair.mu
        self.U, self.slack = U, problem.slack(U)
        self.term.start(U, mu)
        central = mu * self.weights / self.slack
        rows = ratio * pair.rows[:, problem.keep] / pair.unit
        self.rows = np.clip(rows, central / WARM_SPREAD, central * WARM_SPREAD)
        return bool(np.isfinite(self.rows).all())

    @property
    def is_settled(self) -> bool:
        """Whether the dual residual is small against the complementarity."""
        return self._left_over < SETTLED * self.gap()

    def pair(self, unit: float) -> InteriorPair:
        """The current pair, for neighboring programs."""
        z = unit * self.problem.original(self.U).T
        cone = tuple(part.copy() for part in self.block.state())
        return InteriorPair(z, unit * self.rows, cone, self.gap() / self.degree, self.block.weight, unit)

    def gap(self) -> float:
        """Total complementarity: the gap the iteration believes in."""
        return float(np.vdot(self.rows, self.slack)) + self.block.gap() + self.term.gap()

    def objective(self) -> float:
        """Objective at the iterate, the regularizer in its cone variables."""
        return self.term.value(self.U) + self.block.value()

    def step(self) -> float:
        """Move by one predictor-corrector step; returns its length. LinAlgError when no step can be computed."""
        self._residuals()
        self.block.rescale()
        self.term.rescale()
        self.system.factor(self.rows / self.slack)
        predictor = self._direction(_Target(-self._products, self.block.affine(), self.term.affine()))
        affine_length = min(1.0, predictor.length)
        mu = self._centring(predictor, affine_length)
        corrector = self._corrector(predictor, mu)
        direction = self._gondzio(corrector, mu)
        return self._move(direction)

    def _residuals(self) -> None:
        problem = self.problem
        g, self._extra_residual = self.block.dual_residual()
        gradient = self.term.gradient(self.U)
        self._residual = gradient - problem.row_adjoint(self.rows) - g
        size, roundoff = float(np.abs(self._residual).max()), 1e-12 * float(np.abs(gradient).max())
        if size > RESIDUAL_GROWTH * (self._expected_residual + roundoff):
            self.system.refinements = REFINEMENTS
        self._residual_size = size
        self._products = self.rows * self.slack

    def _direction(self, target: _Target) -> _Direction:
        """Direction of a target, whatever its length."""
        direction = self._trial(target, -1.0)
        assert direction is not None
        return direction

    def _trial(self, target: _Target, least: float) -> _Direction | None:
        """Solve ``slack d_rows + rows d_slack = target.rows`` together with the targets of the cone and the loss.

        None when the rows alone keep the step from being longer than ``least``.
        """
        problem, block = self.problem, self.block
        right, extra = block.pull_back(target.cone)
        right += problem.row_adjoint(target.rows / self.slack) - self._residual
        right += self.term.pull_back(target.loss)
        dU, d_extra = self.system.solve(right, extra - self._extra_residual)
        d_slack = problem.row_change(dU)
        d_rows = (target.rows - self.rows * d_slack) / self.slack
        limit = self._longest_row_step(d_slack, d_rows)
        if limit <= least:
            return None
        cone, loss = block.expand(dU, d_extra, target.cone), self.term.expand(dU, target.loss)
        length = block.max_step(cone, self.term.max_step(loss, limit))
        return _Direction(dU, d_slack, d_rows, cone, loss, length, target)

    def _damped(self, full: _Direction, half: _Direction, damping: float) -> _Direction:
        """Direction at another damping than 1 and 1/2, without a solve: directions are affine in their targets."""
        mixed = cast(_Direction, _between(full, half, 2 - 2 * damping))
        limit = self.term.max_step(mixed.loss, self._longest_row_step(mixed.d_slack, mixed.d_rows))
        return replace(mixed, length=self.block.max_step(mixed.cone, limit))

    def _longest_row_step(self, d_slack: Array, d_rows: Array) -> float:
        rate = -float((d_slack / self.slack).min(initial=0.0))
        positive = self.rows if self.problem.all_rows else np.where(self.problem.is_row, self.rows, 1.0)
        return 1 / max(rate, -float((d_rows / positive).min(initial=0.0)), 1e-3)

    def _centring(self, predictor: _Direction, length: float) -> float:
        """Target mu: cubed ratio of the complementarity after the predictor step (Mehrotra)."""
        after = np.vdot(self.slack + length * predictor.d_slack, self.rows + length * predictor.d_rows)
        after += self.block.gap_after(predictor.cone, length) + self.term.gap_after(predictor.loss, length)
        ratio = max(float(after), 0.0) / self.gap()
        return min(max(ratio**3, 1e-5), 1.0) * self.gap() / self.degree

    def _corrector(self, predictor: _Direction, mu: float) -> _Direction:
        """Mehrotra's corrector, its second-order term damped when that leads nowhere."""
        block, term = self.block, self.term
        rows = -predictor.d_slack * predictor.d_rows
        second = _Target(rows, block.second_order(predictor.cone), term.second_order(predictor.loss))
        target = _Target(
            mu * self.weights - self._products,
            block.affine() + block.centring(self.kappa * mu),
            term.affine() + term.centring(mu),
        )
        best = full = self._direction(target.plus(second))
        if full.length > SHORT_STEP:
            return full
        half = self._direction(target.plus(second, 0.5))
        for trial in (half, self._damped(full, half, 0.1)):
            if trial.length > 1.05 * best.length:
                best = trial
        return best

    def _gondzio(self, direction: _Direction, mu: float) -> _Direction:
        """Correctors with the same factorization, kept while the step grows."""
        target = mu * self.weights
        for _ in range(GONDZIO_CORRECTORS):
            if direction.length > 0.9:
                break
            trial = min(1.0, 1.5 * direction.length + 0.1)
            products = (self.slack + trial * direction.d_slack) * (self.rows + trial * direction.d_rows)
            change = _Target(
                clip_change(products, target),
                self.block.clipped(direction.cone, trial, self.kappa * mu),
                self.term.clipped(direction.loss, trial, mu),
            )
            least = 1.01 * direction.length + 0.01
            better = self._trial(direction.target.plus(change), least)
            if better is None or better.length <= least:
                break
            direction = better
        return direction

    def _move(self, direction: _Direction) -> float:
        self.length = length = min(1.0, STEP_FRACTION * direction.length)
        self._expected_residual = (1 - length) * self._residual_size
        self._left_over = (1 - length) * abs(float(np.vdot(self._residual, self.U)))
        self.U = self.U + length * direction.dU
        self.rows = self.rows + length * direction.d_rows
        recursion = self.slack + length * direction.d_slack
        exact = self.problem.slack(self.U)
        # the slack follows the point unless roundoff spoils it
        self.slack = np.where(exact > 0.1 * recursion, exact, recursion)
        self.block.move(self.U, direction.cone, length)
        self.term.move(self.U, direction.loss, length)
        return length
