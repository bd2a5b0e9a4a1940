"""Solves the program of one layer by a primal-dual interior point method; every iterate is strictly feasible."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve

from convexnn.refinement.deep_barrier import MixedInequality, longest_step
from convexnn.restrictions.deep_layer import DeepLayerProgram

Array = NDArray[np.float64]

ROOM = 1e-9  # cones are widened by this share of their own scale, so that a network on their boundary is inside
RIDGE = (
    1e-9  # share of the loss that biases of usual size pay, and of the bound that multipliers pay: of dead units, too
)
FRACTION = 0.95  # of the way to the boundary that a step may go


@dataclass(frozen=True)
class LayerSolution:
    """What the method found for one layer.

    Attributes
    ----------
    theta : array, shape (m, h + 1)
    gap : float
        Complementarity at the end: the distance from the optimum where the dual residual is zero, an estimate.
    iterations : int
    status : str
        ``"optimal"``, ``"max_iter"``, ``"time_limit"``, ``"interrupted"`` or ``"failed"``.
    """

    theta: Array
    gap: float
    iterations: int
    status: str


class LayerNewton:
    """Primal-dual method of one `DeepLayerProgram`, started at its network.

    Variables x are theta, row by row, then the multipliers and s of the matrix inequality; ``rows >= 0`` are the cones,
    with multipliers ``y``, and ``M >= 0`` is the matrix inequality, with multiplier ``L``.
    """

    def __init__(self, program: DeepLayerProgram) -> None:
        self.program, self.maps = program, program.maps
        theta = program.lift(program.network)
        self.shape, self.lmi = theta.shape, None
        v, self.price = np.zeros(0), np.zeros(0)
        if program.regularizer == "lipschitz":
            self.lmi = MixedInequality([W for W, _ in program.network.layers], program.layer)
            v = self.lmi.start(theta[:, :-1])
            cost = program.lam * self.lmi.scale
            self.price = np.append(RIDGE * cost * v[-1] / (len(v) * v[:-1]), cost)
        self.x = np.concatenate([theta.ravel(), v])
        size = np.abs(self.maps.inputs) @ np.abs(theta.T)
        later = np.matmul(np.abs(self.maps.rows), size[:, :, None])[:, :, 0]
        self.room = [ROOM * (size.max() + 1.0), ROOM * (later.max(initial=0.0) + 1.0)]
        self.decay = self._ridge(theta)
        own = np.arange(theta.size).reshape(self.shape)[:, :-1].ravel()
        self.places = np.concatenate([own, np.arange(theta.size, self.x.size)])  # of the inequality's variables in x
        self.y = [np.zeros_like(slack) for slack in self.slacks(self.x)]
        self.L = np.zeros((0, 0))
        self.terms = sum(y.size for y in self.y) + (self.lmi.order if self.lmi else 0)

    def _ridge(self, theta: Array) -> Array:
        """Weights of the squares of theta: weight decay, or almost nothing where the biases are free."""
        program, decay = self.program, np.zeros(theta.shape)
        if program.regularizer == "l2":
            decay[:] = program.lam
            decay[:, -1] = 0.0 if program.is_output else program.lam
        elif not program.is_output:
            size = float(np.mean(np.square(self.maps.inputs @ theta.T))) + float(np.mean(theta[:, -1] ** 2))
            decay[:, -1] = RIDGE * program.mean_loss(theta) / (len(theta) * max(size, 1e-300))
        return decay

    # -- pieces -----------------------------------------------------------------------------------
    def theta(self, x: Array) -> Array:
        """The layer's weights and biases in x."""
        return x[: self.shape[0] * self.shape[1]].reshape(self.shape)

    def v(self, x: Array) -> Array:
        """The multipliers and s in x."""
        return x[self.shape[0] * self.shape[1] :]

    def slacks(self, x: Array) -> list[Array]:
        """Slacks of the widened cones."""
        return [slack + room for slack, room in zip(self.program.slacks(self.theta(x)), self.room, strict=True)]

    def changes(self, dx: Array) -> list[Array]:
        """Changes of the slacks along dx."""
        z = self.maps.inputs @ self.theta(dx).T
        own = self.maps.signs * z if self.maps.signs.shape[1] else self.maps.signs
        return [own, np.matmul(self.maps.rows, z[:, :, None])[:, :, 0]]

    def matrix(self, x: Array, constant: float = 1.0) -> Array:
        """The matrix inequality at x, or its change along x with ``constant=0``."""
        if self.lmi is None:
            return np.zeros((0, 0))
        return self.lmi.matrix(self.theta(x)[:, :-1], self.v(x), constant)

    def cost(self, x: Array) -> float:
        """What is minimized."""
        theta = self.theta(x)
        decay = float(np.sum(self.decay * theta**2))
        return self.program.mean_loss(theta) + decay + float(self.price @ self.v(x))

    def adjoint(self, y: list[Array], L: Array) -> Array:
        """Multipliers of cones and matrix inequality, as a vector in the space of x."""
        g = np.zeros((len(self.maps.inputs), self.shape[0]))
        if y[0].size:
            g += self.maps.signs * y[0]
        if y[1].size:
            g += np.matmul(y[1][:, None, :], self.maps.rows)[:, 0]
        found = np.concatenate([(g.T @ self.maps.inputs).ravel(), np.zeros(len(self.price))])
        if self.lmi is not None:
            found[self.places] += np.concatenate([part.ravel() for part in self.lmi.adjoint(L)])
        return found

    def gradient(self) -> Array:
        """Of the cost."""
        program, theta = self.program, self.theta(self.x)
        F, Y = program.outputs(theta), program.Y
        slope = program.loss.gradient(F.ravel(), Y.ravel()).reshape(F.shape) * program.weight[:, None]
        g = np.matmul(slope[:, None, :], self.maps.outputs)[:, 0]
        return np.concatenate([(g.T @ self.maps.inputs + 2.0 * self.decay * theta).ravel(), self.price])

    def system(self, slacks: list[Array], G: Array) -> Array:
        """The Newton matrix: cost, cones with weights y / slack, matrix inequality with ``tr(A G A L)``."""
        program, maps, (m, width) = self.program, self.maps, self.shape
        theta, n = self.theta(self.x), len(maps.inputs)
        F, Y = program.outputs(theta), program.Y
        bend = program.loss.curvature(F.ravel(), Y.ravel()).reshape(F.shape) * program.weight[:, None]
        C = np.matmul(maps.outputs.transpose(0, 2, 1), bend[:, :, None] * maps.outputs)
        if slacks[0].size:
            C[:, np.arange(m), np.arange(m)] += self.y[0] / slacks[0]
        if slacks[1].size:
            C += np.matmul(maps.rows.transpose(0, 2, 1), (self.y[1] / slacks[1])[:, :, None] * maps.rows)
        H = np.zeros((len(self.x), len(self.x)))
        block = np.empty((m, width, m, width))
        for j in range(m):
            left = (C[:, j, j:, None] * maps.inputs[:, None, :]).reshape(n, -1)
            part = (maps.inputs.T @ left).reshape(width, m - j, width)
            block[j, :, j:, :] = part
            block[j:, :, j, :] = part.transpose(1, 2, 0)
        H[: m * width, : m * width] = block.reshape(m * width, m * width)
        H[np.arange(m * width), np.arange(m * width)] += 2.0 * self.decay.ravel()
        if self.lmi is not None:
            H[np.ix_(self.places, self.places)] += self.lmi.hessian(G, self.L)
        return H

    # -- iteration --------------------------------------------------------------------------------
    def complementarity(self) -> float:
        """Sum of slacks times multipliers and the inner product of M and L."""
        total = sum(float(np.sum(slack * y)) for slack, y in zip(self.slacks(self.x), self.y, strict=True))
        return total + float(np.sum(self.matrix(self.x) * self.L))

    def initial(self, mu: float) -> None:
        """Multipliers that are the barrier's own at mu."""
        self.y = [mu / slack for slack in self.slacks(self.x)]
        if self.lmi is not None:  # the trace of the input block of L is the price of s at an optimum
            G = np.linalg.inv(self.matrix(self.x))
            self.L = self.price[-1] / float(np.trace(G[: self.lmi.d, : self.lmi.d])) * G

    def step(self) -> None:
        """One predictor-corrector step."""
        slacks, M = self.slacks(self.x), self.matrix(self.x)
        G = np.linalg.inv(M)
        G = 0.5 * (G + G.T)
        solve = _Solve(self.system(slacks, G))
        gradient, mu = self.gradient(), self.complementarity() / max(self.terms, 1)
        zero = [np.zeros_like(y) for y in self.y]
        ahead = self._direction(solve, gradient, 0.0, slacks, (M, G), (zero, np.zeros_like(M)))
        length = self._length(slacks, M, ahead)
        sigma = (1.0 - length) ** 3 if self.terms else 0.0
        second = ([change * dy for change, dy in zip(self.changes(ahead[0]), ahead[1], strict=True)], np.zeros_like(M))
        if length < 0.1:
            second = (zero, second[1])
        elif self.lmi is not None:
            product = G @ self.matrix(ahead[0], 0.0) @ ahead[2]
            second = (second[0], 0.5 * (product + product.T))
        dx, dy, dL = self._direction(solve, gradient, max(sigma, 1e-3) * mu, slacks, (M, G), second)
        length = min(1.0, FRACTION * self._length(slacks, M, (dx, dy, dL), cap=2.0))
        self.x = self.x + length * dx
        self.y = [y + length * change for y, change in zip(self.y, dy, strict=True)]
        self.L = self.L + length * dL

    def _direction(
        self,
        solve: Callable[[Array], Array],
        gradient: Array,
        mu: float,
        slacks: list[Array],
        pair: tuple[Array, Array],
        second: tuple[list[Array], Array],
    ) -> tuple[Array, list[Array], Array]:
        """Changes of x, y and L towards complementarity mu, second-order terms of the predictor taken off."""
        G = pair[1]
        aim = [(mu - extra) / slack for slack, extra in zip(slacks, second[0], strict=True)]
        target = mu * G - second[1]
        dx = solve(self.adjoint(aim, target) - gradient)
        dy = [
            goal - y - y * change / slack
            for goal, y, change, slack in zip(aim, self.y, self.changes(dx), slacks, strict=True)
        ]
        if self.lmi is None:
            return dx, dy, self.L
        product = G @ self.matrix(dx, 0.0) @ self.L
        return dx, dy, target - self.L - 0.5 * (product + product.T)

    def _length(self, slacks: list[Array], M: Array, move: tuple[Array, list[Array], Array], cap: float = 1.0) -> float:
        """Longest step, at most ``cap``, that keeps slacks, multipliers, M and L nonnegative."""
        dx, dy, dL = move
        longest = cap
        for values, changes in [*zip(slacks, self.changes(dx), strict=True), *zip(self.y, dy, strict=True)]:
            falling = changes < 0.0
            if falling.any():
                longest = min(longest, float(np.min(-values[falling] / changes[falling])))
        if self.lmi is not None:
            longest = min(longest, longest_step(M, self.matrix(dx, 0.0)), longest_step(self.L, dL))
        return longest

    def solve(self, tol: float, max_iter: int, deadline: float) -> LayerSolution:
        """Iterate until complementarity and dual residual are ``tol`` of the cost, or something ends it."""
        start = self.cost(self.x)
        self.initial(max(0.1 * start, 1e-300) / max(self.terms, 1))
        iterations, status, gap = 0, "max_iter", math.inf
        best = self.x
        try:
            while iterations < max_iter:
                gap, cost = self.complementarity(), self.cost(self.x)
                best = self.x if cost <= self.cost(best) else best
                residual = self.gradient() - self.adjoint(self.y, self.L)
                scaled = float(np.abs(residual) @ np.abs(self.x))
                if max(gap, scaled) <= tol * max(cost, 1e-9 * start):
                    status = "optimal"
                    break
                if time.perf_counter() > deadline:
                    status = "time_limit"
                    break
                self.step()
                iterations += 1
        except (LinAlgError, np.linalg.LinAlgError):
            status = "failed"
        except KeyboardInterrupt:
            status = "interrupted"
        return LayerSolution(self.theta(best), gap, iterations, status)


class _Solve:
    """Solutions with one positive definite matrix, scaled to unit diagonal and shifted only as far as it needs it."""

    def __init__(self, H: Array) -> None:
        self.scale = 1.0 / np.sqrt(np.maximum(np.diagonal(H), 1e-300))
        with np.errstate(over="ignore", invalid="ignore"):
            self.H = H * self.scale[:, None] * self.scale
        if not np.isfinite(self.H).all():
            raise LinAlgError("the Newton system overflowed")
        for shift in (0.0, 1e-15, 1e-13, 1e-11, 1e-8):
            trial = self.H.copy()
            trial[np.diag_indices_from(trial)] = 1.0 + shift
            try:
                self.factor = cho_factor(trial, overwrite_a=True, check_finite=False)
            except LinAlgError:
                continue
            return
        raise LinAlgError("the Newton system has no digits left")

    def __call__(self, right: Array) -> Array:
        b = self.scale * right
        x = cho_solve(self.factor, b, check_finite=False)
        x += cho_solve(self.factor, b - self.H @ x, check_finite=False)
        if not np.isfinite(x).all():
            raise LinAlgError("the Newton step is not finite")
        return np.asarray(self.scale * x)
