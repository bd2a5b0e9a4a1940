"""LipSDP with several hidden layers: its multipliers by a barrier method on one small matrix.

With weights W_0, ..., W_H, slopes in [lo, hi] and t_k >= 0 for the units of hidden layer k (docs/theory/deep.md),

    M(s, t) = s I_0 + 2 sum_k sym (E_k - lo E_{k-1} W_{k-1}') diag(t_k) (E_k - hi E_{k-1} W_{k-1}')' - E_H W_H' W_H E_H'

positive semidefinite proves that s is an upper bound on the square of the Lipschitz constant (l2).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from convexnn.threads import one_thread

Array = NDArray[np.float64]

UNREAD, UNREACHED = 2.0**-80, 2.0**150  # multipliers of units that nobody reads, and of units that are constant
SMALL = 500  # order up to which matrices are small for BLAS
INTERIOR = 1e-2  # relative gap of the centre from which a nearby problem starts
REGULARIZED = 1e-9  # share of the bound that multipliers may pay, so that flat directions do not run away


@dataclass(frozen=True)
class DeepLipSDP:
    """Multipliers of LipSDP for a network with several hidden layers, in the scaling of `normalized_layers`.

    Attributes
    ----------
    t : array, shape (sum of units,)
        Positive, one for each hidden unit, layer after layer.
    lower : float
        Square root of the value of LipSDP minus the gap of the central path, in that scaling; an estimate.
    iterations : int
        Newton steps.
    """

    t: Array
    lower: float
    iterations: int


def normalized_layers(weights: Sequence[Array]) -> tuple[list[Array], int]:
    """Layers divided by powers of two, so that no entry exceeds one, and the sum of the exponents.

    The Lipschitz constant is that of the result times two to the exponent, exactly: slopes do not change when inputs
    and outputs of an activation are scaled together.
    """
    exponents = [math.frexp(float(np.max(np.abs(W), initial=0.0)))[1] for W in weights]
    return [np.ldexp(W, -e) for W, e in zip(weights, exponents, strict=True)], sum(exponents)


def maximize_deep(
    weights: Sequence[Array], slopes: tuple[float, float] = (0.0, 1.0), tol: float = 1e-8, max_iter: int = 150
) -> DeepLipSDP:
    """Multipliers that make the bound of `convexnn.lipsdp.deep_bound.upper_bound_deep` small.

    Newton's method on ``s - mu log det M(s, t)`` along decreasing mu; one iteration costs a few products of matrices of
    the order of inputs and hidden units together. It starts from multipliers that give the product of the norms.

    Implements: Fazlyab et al. (2019), LipSDP-Neuron with several hidden layers, by a barrier method.

    Parameters
    ----------
    weights : sequence of arrays
        W_0 (h_1, d), ..., W_H (k, h_H), each with entries of at most one.
    slopes : pair of float, default (0, 1)
        Interval of the slopes of the activation.
    tol : float, default 1e-8
        Gap of the path, relative to the bound on the square.
    max_iter : int, default 150
        Newton steps.

    Returns
    -------
    DeepLipSDP
        Never trusted: every t >= 0 gives a valid bound.
    """
    reached = _reached(weights)
    depth = np.concatenate([np.full(len(W), k) for k, W in enumerate(weights[:-1])])
    t = np.where(np.concatenate(reached[1:-1]), UNREAD, UNREACHED * 2.0 ** (-20.0 * depth))
    alive = paths_of_weights(weights)
    if alive is None or slopes[1] <= 0.0:
        return DeepLipSDP(t, 0.0, 0)
    kept = [W[np.ix_(rows, columns)] for W, rows, columns in zip(weights, alive[1:], alive[:-1], strict=True)]
    norms = [float(np.linalg.norm(W, 2)) for W in kept]
    path = Path([W / norm for W, norm in zip(kept, norms, strict=True)], slopes)
    with one_thread(path.order <= SMALL):
        path.follow(tol, max_iter)
    after = np.cumprod(np.square(norms)[::-1])[::-1]  # products of the squared norms of layer k and all later ones
    t[np.concatenate(alive[1:-1])] = path.t * np.repeat(after[1:], [len(W) for W in kept[:-1]])
    return DeepLipSDP(t, math.sqrt(max(path.lower, 0.0)) * float(np.prod(norms)), path.iterations)


def paths_of_weights(weights: Sequence[Array]) -> list[NDArray[np.bool_]] | None:
    """Inputs, units and outputs on a path of nonzero weights from an input to an output; None where there is none."""
    reached, read = _reached(weights), _reached([W.T for W in weights[::-1]])[::-1]
    alive = [a & b for a, b in zip(reached, read, strict=True)]
    return alive if all(mask.any() for mask in alive) else None


def _reached(weights: Sequence[Array]) -> list[NDArray[np.bool_]]:
    """Inputs, units and outputs to which a path of nonzero weights leads from the inputs."""
    masks = [np.any(weights[0] != 0.0, axis=0)]
    for W in weights:
        masks.append(np.any(W[:, masks[-1]] != 0.0, axis=1))
    return masks


class Path:
    """The central path of ``min s`` subject to M(s, t) >= 0, layers of norm one."""

    def __init__(self, weights: list[Array], slopes: tuple[float, float]) -> None:
        first = weights[0]
        if first.shape[1] > len(first):  # inputs enter through the row space of the first layer only
            first = np.linalg.qr(first.T)[1].T
        layers = [first, *weights[1:]]
        self.d, sizes = first.shape[1], [len(W) for W in layers[:-1]]
        self.units, self.order = sum(sizes), self.d + sum(sizes)
        low, high = slopes
        self.P, self.Q = (self._ends(layers, slope) for slope in (low, high))
        self.constant = np.zeros((self.order, self.order))
        self.constant[-sizes[-1] :, -sizes[-1] :] = -layers[-1].T @ layers[-1]
        self.s, self.t = self._start(sizes, low, high)
        self.unit = self.s
        self.price = REGULARIZED * self.s / (self.units * self.t)
        self.iterations, self.lower, self.mu = 0, 0.0, self.s / self.order
        self.interior: Array | None = None
        self.closed = False

    def _ends(self, layers: list[Array], slope: float) -> Array:
        """Columns ``e_i - slope w_i``, shape (order, units)."""
        ends = np.zeros((self.order, self.units))
        ends[self.d :] = np.eye(self.units)
        row, column = 0, 0
        for W in layers[:-1]:
            ends[row : row + W.shape[1], column : column + len(W)] -= slope * W.T
            row, column = row + W.shape[1], column + len(W)
        return ends

    def _start(self, sizes: list[int], low: float, high: float) -> tuple[float, Array]:
        """Multipliers ``tau I`` of every layer that prove the product of the norms, made strict."""
        ratio = min((low + high) / max(high - low, 1e-3 * abs(high)), 1e3)
        tau, bound, found = 0.5 * (ratio + 1.0) * 1.05, 1.0, []
        for size in reversed(sizes):
            found.append(np.full(size, tau * bound))
            bound *= tau**2 * (low + high) ** 2 / (2.0 * tau - 1.0) - 2.0 * tau * low * high
            bound *= 1.05
        return 1.05 * bound, np.concatenate(found[::-1])

    def matrix(self, s: float, t: Array) -> Array:
        """M(s, t) in the coordinates of the path."""
        half = (self.P * t) @ self.Q.T
        M = self.constant + half + half.T
        M[np.diag_indices(self.d)] += s
        return M

    def merit(self, s: float, t: Array, mu: float) -> float:
        """``(s + price't) / mu - log det M``; infinite outside."""
        try:
            factor = np.linalg.cholesky(self.matrix(s, t))
        except np.linalg.LinAlgError:
            return math.inf
        return (s + float(self.price @ t)) / mu - 2.0 * float(np.sum(np.log(np.diagonal(factor))))

    def newton(self, mu: float) -> float:
        """One damped Newton step; the squared decrement before it, or -1 where no step helped."""
        G = cho_solve(cho_factor(self.matrix(self.s, self.t)), np.eye(self.order))
        GP, GQ = G @ self.P, G @ self.Q
        C = self.P.T @ GQ
        own = G[: self.d, : self.d]
        gradient = np.append(self.price / mu - 2.0 * np.diagonal(C), 1.0 / mu - np.trace(own))
        H = np.empty((self.units + 1, self.units + 1))
        H[:-1, :-1] = 2.0 * (C * C.T + (self.P.T @ GP) * (self.Q.T @ GQ))
        H[-1, :-1] = H[:-1, -1] = 2.0 * np.sum(GP[: self.d] * GQ[: self.d], axis=0)
        H[-1, -1] = np.sum(own**2)
        scale = 1.0 / np.sqrt(np.diagonal(H))
        H *= scale[:, None] * scale
        H[np.diag_indices_from(H)] += 1e-13
        step = -scale * cho_solve(cho_factor(H), scale * gradient)
        decrement = -float(gradient @ step)
        here, length = self.merit(self.s, self.t, mu), 1.0
        while length > 1e-6:
            s, t = self.s + length * step[-1], self.t + length * step[:-1]
            if t.min() > 0.0 and self.merit(s, t, mu) <= here - 0.01 * length * decrement + 1e-12 * abs(here):
                self.s, self.t = s, t
                return decrement
            length *= 0.5
        return -1.0

    def restart(self, t: Array) -> None:
        """Begin at multipliers of a nearby problem where they are strictly feasible for some s.

        A tenth of the way goes back to the start without them (the cone is convex): Newton's method hardly leaves the
        boundary, and the multipliers may lie near to it.
        """
        M = self.matrix(0.0, t)
        own, cross, hidden = M[: self.d, : self.d], M[self.d :, : self.d], M[self.d :, self.d :]
        try:
            E = np.linalg.solve(np.linalg.cholesky(hidden), cross)
        except np.linalg.LinAlgError:
            return
        s = 1.1 * float(np.linalg.eigvalsh(E.T @ E - own)[-1])
        if not 0.0 < s < self.s:
            return
        s, t = 0.9 * s + 0.1 * self.s, 0.9 * t + 0.1 * self.t
        if math.isfinite(self.merit(s, t, 1.0)):
            self.s, self.t, self.mu = s, t, 0.1 * s / self.order

    def centre(self, tol: float, max_iter: int = 12) -> None:
        """Newton's method at the mu of a relative gap ``tol`` until it cannot come nearer to the centre."""
        self.mu = tol * self.s / self.order
        for _ in range(max_iter):
            try:
                decrement = self.newton(self.mu)
            except np.linalg.LinAlgError:
                return
            self.iterations += 1
            if decrement < 1e-9:
                return

    def dual(self) -> Array:
        """Multiplier ``Y = mu M(s, t)^{-1}`` of the matrix inequality at a centre, scaled so that ``tr Y_00 = 1``."""
        Y = cho_solve(cho_factor(self.matrix(self.s, self.t)), np.eye(self.order))
        return Y / float(np.trace(Y[: self.d, : self.d]))

    def follow(self, tol: float, max_iter: int) -> None:
        """Decrease mu until ``mu order <= tol s``; `closed` says whether it came there.

        `interior` are the multipliers of the first centre with a relative gap of at most INTERIOR: a nearby problem
        starts from these and not from those of the end, which lie on the boundary.
        """
        mu = self.mu
        while self.iterations < max_iter:
            try:
                decrement = self.newton(mu)
            except np.linalg.LinAlgError:
                break
            self.iterations += 1
            if decrement < 0.0:
                break
            if decrement < 0.25:
                self.lower = max(self.lower, self.s - 2.0 * mu * self.order)
                if self.interior is None and mu * self.order <= INTERIOR * self.s:
                    self.interior = self.t
                if mu * self.order <= tol * self.s:
                    self.closed = True
                    break
                mu = max(0.1 * mu, 0.5 * tol * self.s / self.order)
