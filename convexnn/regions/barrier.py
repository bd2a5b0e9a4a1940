"""The barrier function of the majorants of a network and its Newton step."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, eigvalsh

from convexnn.regions.cones import Cones
from convexnn.regions.region import BALL
from convexnn.regions.ridges import Ridges

Array = NDArray[np.float64]


@dataclass(eq=False)
class State:
    """A strictly feasible point, its value and what the derivatives need."""

    al: Array
    be: Array
    de: Array
    n: Array
    rho: Array
    tau: float
    value: float = 0.0
    room: float = 0.0  # tau - g'K^-1 g / 4
    barrier: float = 0.0
    factor: Array = field(default_factory=lambda: np.zeros((0, 0)))
    u: Array = field(default_factory=lambda: np.zeros(0))  # K^-1 g, twice the relaxed maximizer
    slacks: tuple[Array, Array, Array, Array] | None = None

    def moved(self, step: State, length: float) -> State:
        """The point a multiple of a step away, not evaluated yet."""
        names = ("al", "be", "de", "n", "rho")
        al, be, de, n, rho = (getattr(self, name) + length * getattr(step, name) for name in names)
        return State(al, be, de, n, rho, self.tau + length * step.tau)


class Barrier:
    """``t value + barrier`` over the kinked groups, everything scaled to numbers of size one."""

    def __init__(self, parts: Ridges, rows: NDArray[np.intp], size: float) -> None:
        self.reach = parts.reach[rows]
        self.V = parts.directions[rows] / self.reach[:, None]
        self.ball = parts.kind == BALL
        self.cones = Cones.of(parts, rows, self.reach, size)
        fixed = np.setdiff1d(np.arange(len(parts.reach)), rows)
        al, be = fixed_majorants(parts, fixed)
        W = parts.directions[fixed]
        self.linear = W.T @ be / size
        self.base = (W.T * (al / size)) @ W
        self.G, self.r = self.V.shape
        self.parameter = self.r + (1 if self.ball else self.r) + self.cones.parameter

    def start(self, curvature: Array | None = None, slope: Array | None = None) -> State:
        """A strictly feasible point, with the given majorants (curvatures raised where they must be) or plain ones."""
        k = np.where(self.cones.exists, self.cones.k, np.nan)
        high, low = np.nanmax(k, axis=1, initial=-np.inf), np.nanmin(k, axis=1, initial=np.inf)
        q = np.where(self.cones.exists, self.cones.q, -np.inf).max(axis=1, initial=-np.inf)
        least = np.maximum(q, 0.0) + 0.25 * (high - low) + 1e-12
        al = least if curvature is None else np.maximum(curvature, 1e-3 * least + np.maximum(q, 0.0))
        be = 0.5 * (high + low) if slope is None else slope
        spare = 0.1 / max(self.G, 1)
        de, n = self.cones.start(al, be, spare)
        A = (self.V.T * al) @ self.V + self.base
        g = self.V.T @ be + self.linear
        top = max(float(eigvalsh(A)[-1]), 0.0)
        number = 1 if self.ball else self.r
        rho = np.full(number, 1.2 * top + 0.5 * float(np.linalg.norm(g)) + spare)
        inverse = float(g @ g) / (4.0 * (float(rho[0]) - top))
        state = self.evaluate(State(al, be, de, n, rho, 2.0 * inverse + spare))
        assert state is not None
        return state

    def evaluate(self, s: State) -> State | None:
        """The point with its value; None when it is not strictly feasible."""
        if not (s.rho > 0).all():
            return None
        s.slacks = self.cones.values(s.al, s.be, s.de, s.n)
        if s.slacks is None:
            return None
        K = -(self.V.T * s.al) @ self.V - self.base
        K[np.diag_indices(self.r)] += s.rho
        try:
            s.factor = cholesky(K, lower=True, check_finite=False)
        except LinAlgError:
            return None
        diagonal = np.diag(s.factor)
        if not (np.isfinite(diagonal).all() and (diagonal > 0).all()):
            return None
        g = self.V.T @ s.be + self.linear
        s.u = cho_solve((s.factor, True), g, check_finite=False)
        s.value = float(s.de.sum() + s.rho.sum() + s.tau)
        s.room = s.tau - 0.25 * float(g @ s.u)
        if not s.room > 0:
            return None
        s.barrier = -float(np.log(s.room)) + self.cones.barrier(s.slacks[3], s.n) - 2.0 * float(np.log(diagonal).sum())
        s.barrier -= float(np.log(s.rho).sum())
        return s if np.isfinite(s.value + s.barrier) else None

    def step(self, s: State, t: float) -> tuple[State, float] | None:
        """The Newton step of ``t value + barrier`` and its decrement."""
        G, number = self.G, len(s.rho)
        inverse = cho_solve((s.factor, True), np.eye(self.r), check_finite=False)
        KV = inverse @ self.V.T
        M, a = self.V @ KV, self.V @ s.u
        H, q = np.empty((2 * G + number, 2 * G + number)), np.empty(2 * G + number)
        g = np.zeros(2 * G + number)  # of everything but q = g'K^-1 g / 4
        half = 0.5 / s.room  # tau is eliminated: the gradient has the weight t, the Hessian 1 / room
        H[:G, :G] = M * (half * np.multiply.outer(a, a) + M)
        H[:G, G : 2 * G] = half * a[:, None] * M
        H[G : 2 * G, :G] = H[:G, G : 2 * G].T
        H[G : 2 * G, G : 2 * G] = half * M
        q[:G], q[G : 2 * G], g[:G] = 0.25 * a * a, 0.5 * a, np.diag(M)
        if self.ball:
            w = inverse @ s.u
            H[2 * G, :G], H[2 * G, G : 2 * G] = -half * a * (self.V @ w) - (KV * KV).sum(axis=0), -half * (self.V @ w)
            H[2 * G, 2 * G] = half * s.u @ w + (inverse * inverse).sum() + s.rho[0] ** -2
            q[2 * G], g[2 * G] = -0.25 * s.u @ s.u, t - np.trace(inverse) - 1.0 / s.rho[0]
        else:
            H[2 * G :, :G] = -half * s.u[:, None] * KV * a - KV * KV
            H[2 * G :, G : 2 * G] = -half * s.u[:, None] * KV
            H[2 * G :, 2 * G :] = inverse * (half * np.multiply.outer(s.u, s.u) + inverse) + np.diag(s.rho**-2.0)
            q[2 * G :], g[2 * G :] = -0.25 * s.u * s.u, t - np.diag(inverse) - 1.0 / s.rho
        H[: 2 * G, 2 * G :] = H[2 * G :, : 2 * G].T
        return self._solve(s, t, H, g + t * q, q)

    def _solve(self, s: State, t: float, H: Array, g: Array, q: Array) -> tuple[State, float] | None:
        """Eliminate offsets and multipliers of pieces group by group, solve the rest, substitute back."""
        G = self.G
        assert s.slacks is not None
        local, B = self.cones.derivatives(s.slacks, s.n)
        local[:, 2] += t
        unit = 1.0 / np.sqrt(np.einsum("gii->gi", B))[:, 2:]
        R = B[:, 2:, 2:] * unit[:, :, None] * unit[:, None]
        right = np.concatenate([B[:, 2:, :2], local[:, 2:, None]], axis=2) * unit[:, :, None]
        try:
            solved = np.linalg.solve(R, right) * unit[:, :, None]
        except np.linalg.LinAlgError:
            return None
        schur = B[:, :2, :2] - np.einsum("gij,gjk->gik", B[:, :2, 2:], solved[:, :, :2])
        rest = local[:, :2] - np.einsum("gij,gj->gi", B[:, :2, 2:], solved[:, :, 2])
        place = np.arange(G)
        for i in range(2):
            g[i * G + place] += rest[:, i]
            for j in range(2):
                H[i * G + place, j * G + place] += schur[:, i, j]
        y = _positive_solve(H, -g)
        if y is None:
            return None
        change = float(q @ y)
        al, be = y[:G], y[G : 2 * G]
        inner = -solved[:, :, 2] - solved[:, :, 0] * al[:, None] - solved[:, :, 1] * be[:, None]
        inner[:, 1:] *= self.cones.bounded
        # the global gradient without the eliminated part: what the line search needs is the full slope
        slope = float(g @ y) - float((solved[:, :, 2] * local[:, 2:]).sum())
        tau = change + s.room - t * s.room**2
        return State(al, be, inner[:, 0], inner[:, 1:], y[2 * G :], tau), -slope + (t * s.room - 1.0) ** 2


def _positive_solve(H: Array, b: Array) -> Array | None:
    """Solve a scaled positive definite system, with a growing ridge where rounding makes it indefinite."""
    diagonal = np.diag(H)
    if not (np.isfinite(diagonal).all() and (diagonal > 0).all() and np.isfinite(b).all()):
        return None
    unit = 1.0 / np.sqrt(diagonal)
    scaled = H * unit[:, None] * unit
    for ridge in (0.0, 1e-14, 1e-12, 1e-10, 1e-8):
        trial = scaled.copy()
        trial[np.diag_indices(len(b))] += ridge
        try:
            factor = cho_factor(trial, overwrite_a=True, check_finite=False)
        except LinAlgError:
            continue
        found = cho_solve(factor, unit * b, check_finite=False)
        if np.isfinite(found).all():
            return np.asarray(unit * found)
    return None


def fixed_majorants(parts: Ridges, rows: NDArray[np.intp]) -> tuple[Array, Array]:
    """Curvature and slope of groups that are not optimized: their only piece itself, or the middle slope."""
    exists = parts.exists[rows]
    one = exists.sum(axis=1) == 1
    q, k = (np.where(exists, part[rows], 0.0) for part in (parts.curves, parts.slopes))
    low, high = (
        np.where(exists, k, np.inf).min(axis=1, initial=np.inf),
        np.where(exists, k, -np.inf).max(axis=1, initial=-np.inf),
    )
    return np.where(one, q.sum(axis=1), 0.0), np.where(one, k.sum(axis=1), 0.5 * (low + high))
