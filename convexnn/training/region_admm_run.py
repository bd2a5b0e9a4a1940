"""The alternation of ``train_region_admm`` in the unit variable of a region: matrix, steps, evaluations."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from convexnn.regions.newton import Majorants, solve_majorants
from convexnn.regions.region import BALL
from convexnn.training.region_admm_options import RegionADMMOptions

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]
Draw = Callable[[int, np.random.Generator], tuple[Array, Array]]


@dataclass(frozen=True, eq=False)
class UnitWeights:
    """A shallow network of the unit variable: ``c'relu(W e + b) + c0``; arrays (h, r), (h,), (h,) and a number."""

    W: Array
    b: Array
    c: Array
    c0: float

    def __call__(self, E: Array) -> Array:
        """Values at unit variables (n, r), shape (n,)."""
        return np.asarray(np.maximum(E @ self.W.T + self.b, 0.0) @ self.c + self.c0)

    def majorants(self, kind: str, start: Majorants | None = None, tol: float = 1e-5) -> Majorants:
        """Majorants of the semidefinite bound of the paper, and what they prove."""
        known = None if start is None else (start.curvature, start.slope)
        return solve_majorants(self.W, self.b, self.c, self.c0, kind, tight=False, tol=tol, start=known)


def dense_start(h: int, r: int, rng: np.random.Generator) -> UnitWeights:
    """Xavier weights with small biases, nonnegative at the output: what is accepted is the outside of a convex body."""
    W = rng.standard_normal((h, r)) * math.sqrt(2.0 / (r + h))
    c = np.abs(rng.standard_normal(h)) * math.sqrt(2.0 / (h + 1))
    return UnitWeights(W, -0.05 * np.linalg.norm(W, axis=1), c, 0.0)


def multipliers(weights: UnitWeights, found: Majorants) -> tuple[Array, Array, Array, Array]:
    """Multipliers (lam, mu, nu, rho) of the semidefinite dual from quadratic majorants.

        nu = 4 al,   lam - mu = 2 be - c,   c + lam + mu = 4 sqrt(al de) = 2 max(be, c - be, 0)

    Implements: convexnn, Proposition 2 of theory/global_safety.md, majorants as multipliers.

    Parameters
    ----------
    weights : UnitWeights
    found : Majorants
        al >= 0 and slopes in ``W e``; be, the slope in ``W e + b``, is ``slope - 2 al b``.

    Returns
    -------
    lam, mu, nu : array, shape (h,)
        Nonnegative.
    rho : array, shape (r,)
    """
    c, be = weights.c, found.slope - 2.0 * found.curvature * weights.b
    total = np.maximum(2.0 * np.maximum(np.maximum(be, c - be), 0.0), np.abs(2.0 * be - c) + c)
    lam, mu = 0.5 * (total - c + 2.0 * be - c), 0.5 * (total - c - 2.0 * be + c)
    return np.maximum(lam, 0.0), np.maximum(mu, 0.0), 4.0 * found.curvature, found.rho


class DualBlocks:
    """The distinct blocks of the symmetric matrix S(theta, y) of a shallow network on the unit ball or box.

        S = [ gamma - c0 + mu'b - |rho|     (W'mu/2)'      -(c + lam + mu + nu b)'/2 ]
            [             .                 diag(rho)          -W'diag(nu)/2         ]
            [             .                     .                 diag(nu)           ]

    with |rho| the sum (box) or the one number (ball). S >= 0 proves ``f <= gamma`` on the region: ``gamma - f`` minus
    terms of one sign is ``v'S v`` at ``v = (1, e, relu(W e + b))``.

    Implements: Soletskyi and Dalrymple (2024), dual semidefinite program, reconstructed.

    Parameters
    ----------
    corner, edge_inputs, edge_units, rho, cross, nu : tensor
        Shapes (), (r,), (h,), (r,), (r, h), (h,).
    """

    def __init__(self, *blocks: torch.Tensor) -> None:
        self.blocks = blocks

    @classmethod
    def of(cls, theta: tuple[Any, ...], y: tuple[Any, ...], gamma: float, kind: str) -> DualBlocks:
        """Blocks of weights (W, b, c, c0) and multipliers (lam, mu, nu, rho)."""
        (W, b, c, c0), (lam, mu, nu, rho) = theta, y
        total = rho if kind == BALL else rho.sum()
        corner = gamma - c0 + b @ mu - (total.reshape(()) if kind == BALL else total)
        diagonal = rho.expand(W.shape[1]) if kind == BALL else rho
        return cls(corner, 0.5 * W.T @ mu, -0.5 * (c + lam + mu + nu * b), diagonal, -0.5 * W.T * nu, nu)

    def matrix(self) -> torch.Tensor:
        """The whole symmetric matrix, shape (1 + r + h, 1 + r + h)."""
        import torch

        corner, inputs, units, rho, cross, nu = self.blocks
        r, h = cross.shape
        M = torch.zeros((1 + r + h, 1 + r + h), dtype=corner.dtype)
        M[0, 1 : 1 + r], M[0, 1 + r :], M[1 : 1 + r, 1 + r :] = inputs, units, cross
        return M + M.T + torch.diag(torch.cat([corner[None], rho, nu]))

    def distance(self, target: torch.Tensor) -> torch.Tensor:
        """Squared Frobenius distance to a symmetric matrix, without the entries that are zero in every S."""
        corner, inputs, units, rho, cross, nu = self.blocks
        r = len(rho)
        diagonal = target.diagonal()
        once = (corner - target[0, 0]) ** 2 + ((rho - diagonal[1 : 1 + r]) ** 2).sum()
        once = once + ((nu - diagonal[1 + r :]) ** 2).sum()
        twice = ((inputs - target[0, 1 : 1 + r]) ** 2).sum() + ((units - target[0, 1 + r :]) ** 2).sum()
        return once + 2.0 * (twice + ((cross - target[1 : 1 + r, 1 + r :]) ** 2).sum())


@dataclass(eq=False)
class ADMMRun:
    """One run in the unit variable of a region.

    Attributes
    ----------
    draw : callable
        Number and generator -> (positive, negative) unit variables.
    judged : array, shape (n, r)
        Positive samples that networks are judged on.
    options : RegionADMMOptions
    kind : {"ball", "box"}
    seed : int
    """

    draw: Draw
    judged: Array
    options: RegionADMMOptions
    kind: str
    seed: int
    history: list[dict[str, float]] = field(default_factory=list)
    status: str = "finished"
    done: int = 0
    start_accuracy: float = 0.0

    def run(self) -> tuple[UnitWeights, Majorants]:
        """All iterations; the evaluated weights that are best after a shift by their bound (or without any)."""
        import torch

        options, r = self.options, self.judged.shape[1]
        self.began = time.perf_counter()
        self.rng = np.random.default_rng([self.seed, 3])
        weights = dense_start(options.hidden_units or 3 * r, r, np.random.default_rng([self.seed, 0]))
        found = weights.majorants(self.kind)
        weights = dataclasses.replace(weights, c0=-found.bound - options.tolerance)  # feasible from the beginning
        self.theta = self._leaves(weights.W, weights.b, weights.c, weights.c0)
        lam, mu, nu, rho = multipliers(weights, found)
        self.y = self._leaves(lam, mu, nu, rho[:1] if self.kind == BALL else rho)
        rates = ((self.theta, options.learning_rate), (self.y, options.dual_learning_rate))
        self.optimizer = torch.optim.Adam([{"params": list(part), "lr": rate} for part, rate in rates])
        self.bases = [rate for _, rate in rates]
        self.slack = self._blocks().matrix().detach().clone()
        self.price = torch.zeros_like(self.slack)
        self.best: tuple[float, UnitWeights, Majorants] = (-1.0, weights, found)
        self.loss, self.residual = math.nan, 0.0
        self._evaluate()
        self.start_accuracy = self.history[0]["accuracy"]
        self._iterate()
        return self.best[1], self.best[2]

    def _leaves(self, *parts: Any) -> tuple[torch.Tensor, ...]:
        import torch

        return tuple(torch.tensor(part, dtype=torch.float64, requires_grad=True) for part in parts)

    def _blocks(self) -> DualBlocks:
        lam, mu, nu, rho = self.y
        y = (lam.clamp_min(0.0), mu.clamp_min(0.0), nu, rho.clamp_min(0.0))
        return DualBlocks.of(self.theta, y, -self.options.tolerance, self.kind)

    def _iterate(self) -> None:
        options = self.options
        while self.done < options.iterations and self.status == "finished":
            if options.time_limit is not None and time.perf_counter() - self.began >= options.time_limit:
                self.status = "time_limit"
                break
            try:
                alive = self._advance()
            except KeyboardInterrupt:
                self.status = "interrupted"
                break
            self.done += 1
            if not alive:
                self.status = "diverged"
            elif self.done % options.evaluate_every == 0 and self.done < options.iterations and self._evaluate():
                self.status = "stopped"
        if self.status != "diverged" and self.history[-1]["step"] != self.done:
            self._evaluate()

    def _advance(self) -> bool:
        """One alternation: weights and multipliers, then the slack, then the multiplier of the residual."""
        import torch

        sigma = self.options.sigma(self.done)
        target = self.slack - self.price / sigma
        for group, rate in zip(self.optimizer.param_groups, self.bases, strict=True):
            group["lr"] = rate * self.options.fall(self.done)
        for _ in range(self.options.inner_steps):
            loss = self._loss()
            self.optimizer.zero_grad()
            (loss + 0.5 * sigma * self._blocks().distance(target)).backward()
            self.optimizer.step()
        with torch.no_grad():
            M = self._blocks().matrix()
            self.loss = float(loss)
            if not (math.isfinite(self.loss) and bool(torch.isfinite(M).all())):
                return False
            w, V = torch.linalg.eigh(M + self.price / sigma)
            self.slack = (V * w.clamp_min(0.0)) @ V.T
            self.price += self.options.dual_rate * sigma * (M - self.slack)
            self.residual = float(torch.linalg.norm(M - self.slack))
        return True

    def _loss(self) -> torch.Tensor:
        import torch
        from torch.nn.functional import softplus

        positive, negative = self.draw(self.options.batch_size, self.rng)
        W, b, c, c0 = self.theta
        values = (torch.as_tensor(np.vstack([positive, negative])) @ W.T + b).clamp_min(0.0) @ c + c0
        logits = self.options.logit_scale * values
        return softplus(-logits[: len(positive)]).mean() + softplus(logits[len(positive) :]).mean()

    def _evaluate(self) -> bool:
        """Prove the bound of the weights as they are, keep the better ones; whether to stop."""
        W, b, c, c0 = (part.detach().numpy().copy() for part in self.theta)
        weights = UnitWeights(W, b, c, float(c0))
        found, values = weights.majorants(self.kind), weights(self.judged)
        plain, shifted = float(np.mean(values > 0.0)), float(np.mean(values > found.bound))
        row = {"step": float(self.done), "seconds": time.perf_counter() - self.began, "loss": self.loss}
        row |= {"residual": self.residual, "bound": found.bound, "accuracy": shifted, "unshifted_accuracy": plain}
        self.history.append(row)
        merit = shifted if self.options.shift or found.bound >= 0 else 1.0 + plain
        if math.isfinite(found.bound) and merit >= self.best[0]:
            self.best = merit, weights, found
        ready = found.bound < 0 and plain > self.options.stop_accuracy
        return ready or (self.options.callback is not None and bool(self.options.callback(row)))
