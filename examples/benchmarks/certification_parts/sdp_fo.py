"""SDP-FO, the first-order dual of Dathathri et al. (2020), arXiv 2010.11645, as a peer: one curve of bounds a question.

All units are variables, inputs too, as published. With duals (lam free, mu, nu >= 0) of the rows of the semidefinite
relaxation the Lagrangian over the box ``x = centre + radius z`` is ``c + g'z + z'H z / 2``, and for every kappa >= 0

    bound = c + sum_b w_b (kappa_b - min(lambda_min(diag(kappa) - [[0, g'], [g, H]]), 0)) / 2.

Adam as the authors ship it (three stages, steps ten times smaller each), with the exact smallest eigenvalue. The
shipped step sizes diverge on networks this small; those below were found best among those tried (``TUNED``). Gradients
are written out and LAPACK is asked for one eigenpair: less than half the time of the published implementation a step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from scipy.linalg.lapack import dsyevr

from convexnn.propagation import Query
from convexnn.propagation.layer_bounds import crown_bounds

Array = np.ndarray
#: Steps of the three stages in the proportions of the authors (10,000, 4,000, 1,000), and what steps shrink by.
STEPS, STAGES, SHRINK = 3000, (10 / 15, 14 / 15), 0.1
#: Step size of Adam, and what it is multiplied by for kappa of the constant.
TUNED = (3e-2, 100.0)
DECAY = (0.9, 0.999, 1e-8)


@dataclass(frozen=True)
class Curve:
    """Best bound after each step and the CPU seconds until then, set-up included."""

    bounds: Array
    seconds: Array

    def first_within(self, level: float) -> int | None:
        """The first step at which the bound is at most ``level``."""
        below = np.flatnonzero(self.bounds <= level)
        return int(below[0]) if len(below) else None


@dataclass
class _Layer:
    """``after = relu(W before + b)``: places of both in z, midpoints and half widths."""

    W: Array
    before: slice
    after: slice
    start: Array
    middle: Array


class Dual:
    """The function of all duals, one flat vector: kappa, then nu of every box, then lam, mu of z >= s, mu of z >= 0."""

    def __init__(self, query: Query) -> None:
        bounds, network = crown_bounds(query), query.network
        low, high = query.inputs.bounding_box()
        boxes = [(low, high)] + [
            (np.maximum(lower, 0.0), np.maximum(upper, 0.0))
            for lower, upper in zip(bounds.lower, bounds.upper, strict=True)
        ]
        middles, halves = [0.5 * (a + b) for a, b in boxes], [0.5 * (b - a) for a, b in boxes]
        self.ball = query.inputs.has_ball
        if self.ball:  # the unit ball is one block with one kappa, and needs no nu
            middles[0], halves[0] = query.inputs.centre, np.full(len(low), query.inputs.radius)
        starts = np.cumsum([0, *(len(half) for half in halves)])
        places = [slice(int(a), int(b)) for a, b in zip(starts[:-1], starts[1:], strict=True)]
        self.layers = [
            _Layer(W, places[i], places[i + 1], W @ middles[i] + b, middles[i + 1])
            for i, (W, b) in enumerate(network.layers[:-1])
        ]
        self.half, self.n, d = np.concatenate(halves), int(starts[-1]), len(low)
        self.blocks = np.concatenate([[0], np.ones(d, int), 1 + np.arange(1, 1 + self.n - d)]) if self.ball else None
        self.boxed = slice(d if self.ball else 0, self.n)
        W, b = network.layers[-1]
        self.goal = np.zeros(self.n)
        self.goal[places[-1]] = query.weights[0] @ W
        self.constant = float(self.goal[places[-1]] @ middles[-1] + query.weights[0] @ b + query.offset[0])
        n_kappa = 2 + self.n - d if self.ball else 1 + self.n
        n_nu, hidden = self.boxed.stop - self.boxed.start, self.n - d
        ends = np.cumsum([0, n_kappa, n_nu, hidden, hidden, hidden])
        self.kappa, self.nu, self.lam, self.mu, self.floor = (
            slice(*pair) for pair in zip(ends[:-1], ends[1:], strict=True)
        )
        self.first, self.size, self.weight = d, int(ends[-1]), float(n_kappa)
        self.M = np.zeros((1 + self.n, 1 + self.n))

    def start(self) -> Array:
        """No duals and kappa = |g|: the interval bound."""
        v = np.zeros(self.size)
        g = np.abs(self.goal * self.half)
        kappa = np.append(g.sum(), g)
        v[self.kappa] = kappa if self.blocks is None else np.bincount(self.blocks, kappa)
        return v

    def __call__(self, v: Array) -> tuple[float, Array]:
        """Bound and a subgradient."""
        kappa, lam, mu, floor = v[self.kappa], v[self.lam], v[self.mu], v[self.floor]
        constant, g, M = self.constant, self.goal.copy(), self.M
        M[:] = 0.0
        curvature = np.zeros(self.n)
        half = self.half[self.boxed]
        constant += v[self.nu] @ (half * half)
        curvature[self.boxed] = 2.0 * v[self.nu]
        for layer in self.layers:
            own = slice(layer.after.start - self.first, layer.after.stop - self.first)
            gap, middle = layer.start - layer.middle, layer.middle
            g[layer.after] += lam[own] * (gap - middle) + mu[own] + floor[own]
            g[layer.before] += (lam[own] * middle - mu[own]) @ layer.W
            constant += lam[own] @ (middle * gap) - mu[own] @ gap + floor[own] @ middle
            curvature[layer.after] += 2.0 * lam[own]
            block = (lam[own] * self.half[layer.after])[:, None] * layer.W * self.half[layer.before]
            M[1 + layer.after.start : 1 + layer.after.stop, 1 + layer.before.start : 1 + layer.before.stop] = -block
        M[1:, 0] = -g * self.half
        M.flat[:: self.n + 2] = kappa if self.blocks is None else kappa[self.blocks]
        M.flat[self.n + 2 :: self.n + 2] += curvature * self.half * self.half
        values, vectors, *_ = dsyevr(M, range="I", il=1, iu=1, lower=1)
        smallest, e = min(float(values[0]), 0.0), vectors[:, 0]
        total = constant + 0.5 * (self._weighted(kappa) - self.weight * smallest)
        return total, self._slope(e, self.weight if smallest < 0 else 0.0)

    def _weighted(self, kappa: Array) -> float:
        return float(kappa.sum())

    def _slope(self, e: Array, s: float) -> Array:
        """Values of all rows at the moments ``s e e'``."""
        found = np.empty(self.size)
        square = e * e if self.blocks is None else np.bincount(self.blocks, e * e)
        found[self.kappa] = 0.5 - 0.5 * s * square
        E, e0 = e[1:] * self.half, e[0]
        half, inner = self.half[self.boxed], E[self.boxed]
        found[self.nu] = half * half - s * inner * inner
        for layer in self.layers:
            own = slice(layer.after.start - self.first, layer.after.stop - self.first)
            gap, middle, after, pushed = (
                layer.start - layer.middle,
                layer.middle,
                E[layer.after],
                layer.W @ E[layer.before],
            )
            rate = e0 * ((gap - middle) * after + middle * pushed) + after * (pushed - after)
            found[self.lam][own] = middle * gap + s * rate
            found[self.mu][own] = -gap + s * e0 * (after - pushed)
            found[self.floor][own] = middle + s * e0 * after
        return found


def sdp_fo(query: Query, steps: int = STEPS, tuned: tuple[float, float] = TUNED) -> Curve:
    """Adam on the dual of the first row; every step is a bound, and the curve keeps the smallest."""
    began = time.process_time()
    dual = Dual(query)
    v = dual.start()
    rate = np.full(dual.size, tuned[0])
    rate[0] *= tuned[1]
    least = np.zeros(dual.size)
    least[dual.lam] = -np.inf
    one, two, tiny = DECAY
    first, second = np.zeros(dual.size), np.zeros(dual.size)
    bounds, seconds, best = np.empty(steps), np.empty(steps), np.inf
    for k in range(steps):
        value, slope = dual(v)
        best = min(best, value)
        bounds[k], seconds[k] = best, time.process_time() - began
        first += (1.0 - one) * (slope - first)
        second += (1.0 - two) * (slope * slope - second)
        step = rate * SHRINK ** sum(k >= share * steps for share in STAGES)
        v -= step * (first / (1.0 - one ** (k + 1))) / (np.sqrt(second / (1.0 - two ** (k + 1))) + tiny)
        np.maximum(v, least, out=v)
    return Curve(bounds, seconds)
