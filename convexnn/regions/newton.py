"""The best separable majorants of a network on a unit ball or box, by a barrier method with few unknowns.

Two numbers a group (curvature and slope of its quadratic) and the multipliers of the region are coupled; offsets and
the multipliers of the pieces are eliminated group by group. No semidefinite variable, one (2G + r) system a step.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import LinAlgError, cho_factor, cho_solve, cholesky, eigvalsh

from convexnn.activations import Activation, ReLU
from convexnn.regions.check import proved_bound
from convexnn.regions.cones import Cones
from convexnn.regions.region import BALL
from convexnn.regions.ridges import Ridges, Units, as_units, ridges
from convexnn.values import ByValue

Array = NDArray[np.float64]

NEGLIGIBLE = 1e-11  # share of all groups' variation below which a group is not optimized
GROWTH = 6.0  # of the weight of the value against the barrier
CENTRED = 1.0


@dataclass(frozen=True, eq=False)
class Majorants(ByValue):
    """Majorants of every group and what they prove.

    Attributes
    ----------
    curvature, slope : array, shape (G,)
        al and be of the quadratics ``al a^2 + be a + de``, a = v_g'e with the weights of the group's first unit.
    rho : array, shape (r,)
        Multipliers of the region; all equal for a ball.
    bound : float
        Proved upper bound of the network, rounding included.
    value : float
        What the solver reached, without proof; the bound is a rounding above it.
    point : array, shape (r,)
        Mean of the relaxed maximizer: a start for attacks, not always in the region's surface.
    iterations : int
    status : str
        "optimal", "max_iter", "time_limit", "stalled" or "linear".
    """

    curvature: Array = field(repr=False)
    slope: Array = field(repr=False)
    rho: Array = field(repr=False)
    bound: float
    value: float
    point: Array = field(repr=False)
    iterations: int = 0
    status: str = "optimal"


@dataclass(eq=False)
class _State:
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

    def moved(self, step: _State, length: float) -> _State:
        names = ("al", "be", "de", "n", "rho")
        al, be, de, n, rho = (getattr(self, name) + length * getattr(step, name) for name in names)
        return _State(al, be, de, n, rho, self.tau + length * step.tau)


class _Barrier:
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

    def start(self, curvature: Array | None = None, slope: Array | None = None) -> _State:
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
        state = self.evaluate(_State(al, be, de, n, rho, 2.0 * inverse + spare))
        assert state is not None
        return state

    def evaluate(self, s: _State) -> _State | None:
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

    def step(self, s: _State, t: float) -> tuple[_State, float] | None:
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

    def _solve(self, s: _State, t: float, H: Array, g: Array, q: Array) -> tuple[_State, float] | None:
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
        return _State(al, be, inner[:, 0], inner[:, 1:], y[2 * G :], tau), -slope + (t * s.room - 1.0) ** 2


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


def _optimized(parts: Ridges) -> tuple[NDArray[np.intp], float]:
    """Groups worth optimizing, and the size of the values."""
    exists = parts.exists
    high, low = (np.where(exists, s * parts.slopes, -np.inf).max(axis=1) for s in (1.0, -1.0))
    variation = np.where(exists.any(axis=1), (high + low) * parts.reach, 0.0)
    bent = np.abs(np.where(exists, parts.curves, 0.0)).max(axis=1) * parts.reach**2
    steep = np.where(exists, np.abs(parts.slopes), 0.0).max(axis=1) * parts.reach
    size = float(steep.sum() + bent.sum())
    rows = np.flatnonzero(parts.kinked & (variation > NEGLIGIBLE * size / max(len(variation), 1)))
    return rows, size if size > 0 else 1.0


def best_majorants(
    parts: Ridges,
    *,
    tol: float = 1e-7,
    max_iter: int = 300,
    deadline: float = np.inf,
    start: tuple[Array, Array] | None = None,
) -> Majorants:
    """The majorants that minimize :func:`~convexnn.regions.check.proved_bound`, to a relative gap of ``tol``.

    Implements: convexnn, Proposition 3 of theory/region_bounds.md, the reduced dual.

    Parameters
    ----------
    parts : Ridges
    tol : float
        On the size of the gap of the barrier over the size of the value.
    max_iter : int
        Newton steps.
    deadline : float
        ``time.monotonic()`` after which the best so far is returned.
    start : (curvature, slope), optional
        Arrays (G,): known majorants; the result proves no more than they do.
    """
    rows, size = _optimized(parts)
    G, r = parts.directions.shape
    al, be = fixed_majorants(parts, np.arange(G))
    chosen, status, steps = None, "linear", 0
    with np.errstate(all="ignore"):
        if len(rows) or parts.kind != BALL:
            barrier = _Barrier(parts, rows, size)
            known = (
                None
                if start is None
                else (start[0][rows] * barrier.reach**2 / size, start[1][rows] * barrier.reach / size)
            )
            chosen, status, steps = _minimize(barrier, tol, max_iter, deadline, known)
            al[rows], be[rows] = chosen.al * size / barrier.reach**2, chosen.be * size / barrier.reach
    rho = np.zeros(r) if chosen is None else np.broadcast_to(chosen.rho * size, (r,)).copy()
    value = np.nan if chosen is None else chosen.value * size + parts.offset
    point = np.zeros(r) if chosen is None else 0.5 * chosen.u
    options = [(al, be)] if start is None else [(al, be), start]
    bounds = [proved_bound(parts, *option, rho) for option in options]
    al, be = options[int(np.argmin(bounds))]
    bound = min(bounds)
    return Majorants(al, be, rho, bound, bound if np.isnan(value) else value, point, steps, status)


def _minimize(
    problem: _Barrier, tol: float, max_iter: int, deadline: float, known: tuple[Array, Array] | None
) -> tuple[_State, str, int]:
    s = problem.start() if known is None else problem.start(*known)
    t, steps = problem.parameter / (2.0 * abs(s.value) + 1e-3), 0
    while True:
        for _ in range(40):
            found = problem.step(s, t)
            steps += 1
            if found is None:
                return s, "stalled", steps
            moved = _search(problem, s, *found, t)
            if moved is None:
                break
            s = _freed(moved, t)
            if found[1] < CENTRED or steps >= max_iter or time.monotonic() >= deadline:
                break
        if problem.parameter / t < tol * max(abs(s.value), 1e-3):
            return s, "optimal", steps
        if steps >= max_iter or time.monotonic() >= deadline:
            return s, "max_iter" if steps >= max_iter else "time_limit", steps
        t *= GROWTH


def _freed(s: _State, t: float) -> _State:
    """With the best tau for the rest: next to its bound it would keep everything else from moving."""
    if s.room * t < 1.0:
        room = 1.0 / t
        s.tau, s.value, s.barrier = (
            s.tau + room - s.room,
            s.value + room - s.room,
            s.barrier + float(np.log(s.room * t)),
        )
        s.room = room
    return s


def _search(problem: _Barrier, s: _State, step: _State, decrement: float, t: float) -> _State | None:
    """The best of a row of shrinking steps: the longest feasible one often ends next to the boundary, a bad place."""
    before, length = t * s.value + s.barrier, 1.0
    best, least = None, before
    for _ in range(60):
        trial = problem.evaluate(s.moved(step, length))
        merit = np.inf if trial is None else t * trial.value + trial.barrier
        if merit < least:
            best, least = trial, merit
        elif best is not None:
            return best
        if best is not None and length == 1.0 and decrement < 1.0:
            return best
        if length * decrement < 1e-10 * abs(before):
            break
        length *= 0.6
    return best


def solve_majorants(
    weights: ArrayLike,
    biases: ArrayLike,
    outer: ArrayLike,
    offset: float,
    kind: str,
    *,
    groups: NDArray[np.intp] | None = None,
    activation: Activation | None = None,
    tight: bool = True,
    tol: float = 1e-7,
    max_iter: int = 300,
    start: tuple[Array, Array] | None = None,
) -> Majorants:
    """The best majorants of a shallow network ``sum_i outer_i act(weights_i'e + biases_i) + offset``.

    Parameters
    ----------
    weights : array, shape (h, r)
        In the unit variable e of the region.
    biases, outer : array, shape (h,)
    offset : float
    kind : {"ball", "box"}
    groups : array of int, shape (h,), optional
        Units that share one majorant (see `regions.paired.parallel_groups`); by default each has its own.
    activation : ReLU (default), LeakyReLU, Polynomial or Identity
    tight : bool
        Majorants need only hold on the interval that a group can reach; False gives the paper's semidefinite program.
    tol, max_iter, start
        See :func:`best_majorants`.
    """
    units = _units(weights, biases, outer, offset, kind, groups, activation)
    return best_majorants(ridges(units, tight=tight), tol=tol, max_iter=max_iter, start=start)


def majorant_bound(
    weights: ArrayLike,
    biases: ArrayLike,
    outer: ArrayLike,
    offset: float,
    curvature: ArrayLike,
    slope: ArrayLike,
    kind: str,
    *,
    groups: NDArray[np.intp] | None = None,
    activation: Activation | None = None,
    tight: bool = True,
    rho: ArrayLike | None = None,
) -> float:
    """Proved upper bound of a shallow network on the unit ball or box from any majorants, one a group.

    Arguments as in :func:`solve_majorants`; ``curvature`` and ``slope`` have shape (G,), ``rho`` (r,) only matters for
    boxes. The rounding of the computation is included; the network is the one of these float64 numbers.
    """
    units = _units(weights, biases, outer, offset, kind, groups, activation)
    return proved_bound(ridges(units, tight=tight), curvature, slope, rho)


def _units(
    weights: ArrayLike, biases: ArrayLike, outer: ArrayLike, offset: float, kind: str,
    groups: NDArray[np.intp] | None, activation: Activation | None,
) -> Units:  # fmt: skip
    others = {} if groups is None else {"groups": groups}
    return as_units(weights, biases, outer, offset, kind, activation=activation or ReLU(), **others)
