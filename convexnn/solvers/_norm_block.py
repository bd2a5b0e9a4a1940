"""Group norms as second-order cones; methods are those of ``ConeBlock``."""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from convexnn.solvers.cone_block import ConeStep, clip_change
from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]


class NormBlock:
    """``lam sum_i t_i`` with ``|u_i[:k]| <= t_i``; every ``t_i`` is eliminated inside its own block.

    Columns of the cone variables are ``(t_i, u_i[:k])``.
    """

    n_extra = 0
    rank = 0
    share = 1.0

    def __init__(self, problem: ConeProblem, lam: float) -> None:
        self.lam = self.weight = lam
        self.degree = problem.p
        self.k = problem.n_weights
        self.problem = problem
        self.d1, self.p = problem.d1, problem.p
        self.longest = problem.longest_start()

    def start(self, centre: Array, mu: float) -> Array:
        # central where the weight allows it; a tiny weight would ask for units of absurd length
        t = np.full(self.p, mu / (0.75 * self.lam))
        norm = np.linalg.norm(self._seen(centre), axis=0)
        safe = np.where(norm > 0, norm, 1.0)
        factor = np.minimum(0.5 * t / safe, self.longest)
        t = 2 * factor * safe
        U = centre * factor
        self.x = np.vstack([t[None], self._seen(U)])
        self.z = mu * np.vstack([self.x[:1], -self.x[1:]]) / _lorentz(self.x, self.x)
        return U

    def state(self) -> tuple[Array, ...]:
        return self.x, self.z

    def resume(self, state: tuple[Array, ...], U: Array, ratio: float) -> bool:
        if len(state) != 2 or state[0].shape[0] != self.k + 1:
            return False
        x, z = (part[:, self.problem.keep] for part in state)
        seen = self._seen(U)
        before = _lorentz(x, x)
        t = np.sqrt(before + (seen**2).sum(axis=0))  # as far from the boundary as it was
        self.x, self.z = np.vstack([t[None], seen]), ratio * z
        return bool(np.isfinite(t).all() and before.min() > 0 and _lorentz(z, z).min() > 0 and z[0].min() > 0)

    def value(self) -> float:
        return float(self.lam * self.x[0].sum())

    def gap(self) -> float:
        return float(np.vdot(self.x, self.z))

    def dual_residual(self) -> tuple[Array, Array]:
        return self._lift(self.z[1:]), np.zeros(0)

    def dual_gradient(self) -> Array:
        return -self._lift(self.z[1:] * np.minimum(1.0, self.lam / self.z[0]))

    def matrix(self) -> Array | None:
        return None

    def rescale(self) -> None:
        jx, jz = _lorentz(self.x, self.x), _lorentz(self.z, self.z)
        if not (jx.min() > 0 and jz.min() > 0):
            raise np.linalg.LinAlgError("a second-order cone variable reached the boundary")
        x, z = self.x / np.sqrt(jx), self.z / np.sqrt(jz)
        gamma = np.sqrt((1 + (x * z).sum(axis=0)) / 2)
        w = (x + np.vstack([z[:1], -z[1:]])) / (2 * gamma)
        w[0] = np.sqrt(1 + (w[1:] ** 2).sum(axis=0))
        self.w, self.eta = w, (jx / jz) ** 0.25
        self.lmbda = self._scale(self.z)
        self.h_tt = (2 * w[0] ** 2 - 1) / self.eta**2
        self.h_tu = -2 * w[0] * w[1:] / self.eta**2

    def unit_hessian(self) -> Array:
        w = self.w[1:].T
        factor = 2 / (2 * self.w[0] ** 2 - 1)
        block = np.zeros((self.p, self.d1, self.d1))
        block[:, : self.k, : self.k] = np.eye(self.k) - factor[:, None, None] * (w[:, :, None] * w[:, None, :])
        tilt = self.problem.original(np.eye(self.d1))
        return tilt.T @ (block / (self.eta**2)[:, None, None]) @ tilt

    def low_rank(self) -> Array | None:
        return None

    def affine(self) -> Array:
        return -self.lmbda

    def centring(self, mu: float) -> Array:
        identity = np.zeros_like(self.lmbda)
        identity[0] = mu
        return self._divide(identity)

    def second_order(self, step: ConeStep) -> Array:
        return -self._divide(_product(step.primal, step.dual))

    def clipped(self, step: ConeStep, length: float, mu: float) -> Array:
        product = _product(self.lmbda + length * step.primal, self.lmbda + length * step.dual)
        norm = np.maximum(np.linalg.norm(product[1:], axis=0), 1e-300)
        low, high = clip_change(product[0] - norm, mu), clip_change(product[0] + norm, mu)
        change = np.vstack([((high + low) / 2)[None], (high - low) / 2 / norm * product[1:]])
        return self._divide(change)

    def pull_back(self, target: Array) -> tuple[Array, Array]:
        image = self._unscale(target)
        self.t_right = image[0] - (self.lam - self.z[0])
        return self._lift(image[1:] - self.h_tu * (self.t_right / self.h_tt)), np.zeros(0)

    def expand(self, dU: Array, extra: Array, target: Array) -> ConeStep:
        seen = self._seen(dU)
        dt = (self.t_right - (self.h_tu * seen).sum(axis=0)) / self.h_tt
        primal = self._unscale(np.vstack([dt[None], seen]))
        return ConeStep(extra, primal, target - primal)

    def max_step(self, step: ConeStep, limit: float) -> float:
        root = np.sqrt(_lorentz(self.lmbda, self.lmbda))
        lmbda = self.lmbda / root
        for v in (step.primal, step.dual):
            head = _lorentz(lmbda, v)
            tail = v[1:] - (v[0] + head) / (lmbda[0] + 1) * lmbda[1:]
            rate = float(((np.linalg.norm(tail, axis=0) - head) / root).max())
            limit = min(limit, 1 / rate) if rate > 0 else limit
        return limit

    def gap_after(self, step: ConeStep, length: float) -> float:
        return float(np.vdot(self.lmbda + length * step.primal, self.lmbda + length * step.dual))

    def move(self, U: Array, step: ConeStep, length: float) -> None:
        t = self.x[0] + length * self._scale(step.primal)[0]
        self.x = np.vstack([t[None], self._seen(U)])
        self.z = self.z + length * self._unscale(step.dual)

    def _lift(self, v: Array) -> Array:
        full = np.zeros((self.d1, self.p))
        full[: self.k] = v
        return self.problem.original_adjoint(full)

    def _seen(self, U: Array) -> Array:
        return self.problem.original(U)[: self.k]

    def _scale(self, v: Array) -> Array:
        t = (self.w[1:] * v[1:]).sum(axis=0)
        tail = v[1:] + self.w[1:] * (t / (1 + self.w[0]) + v[0])
        return cast(Array, np.vstack([(self.w[0] * v[0] + t)[None], tail]) * self.eta)

    def _unscale(self, v: Array) -> Array:
        t = (self.w[1:] * v[1:]).sum(axis=0)
        tail = v[1:] + self.w[1:] * (t / (1 + self.w[0]) - v[0])
        return np.vstack([(self.w[0] * v[0] - t)[None], tail]) / self.eta

    def _divide(self, r: Array) -> Array:
        head = (self.lmbda[0] * r[0] - (self.lmbda[1:] * r[1:]).sum(axis=0)) / _lorentz(self.lmbda, self.lmbda)
        return np.vstack([head[None], (r[1:] - head * self.lmbda[1:]) / self.lmbda[0]])


def _lorentz(a: Array, b: Array) -> Array:
    return np.asarray(a[0] * b[0] - (a[1:] * b[1:]).sum(axis=0))


def _product(a: Array, b: Array) -> Array:
    return np.vstack([(a * b).sum(axis=0)[None], a[0] * b[1:] + b[0] * a[1:]])
