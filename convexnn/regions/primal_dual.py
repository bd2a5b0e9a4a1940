"""A primal-dual interior point method for the reduced dual (directions of Helmberg, Kojima and Monteiro)."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError
from scipy.linalg.lapack import dpotrf, dpotri, dpotrs, dsygst

from convexnn.regions.program import Blocks, Program, Unknowns

Array = NDArray[np.float64]

SHORTEST = 1e-5
FEASIBLE = 1e-7  # relative residual of the moments below which their value is a lower bound worth naming


@dataclass(frozen=True, eq=False)
class Outcome:
    """The best unknowns, the moments beside them, and how far apart their values are (in the unit of the program)."""

    unknowns: Unknowns
    moments: Blocks
    gap: float
    iterations: int
    status: str


@dataclass(eq=False)
class _Point:
    """A strictly feasible point: unknowns y, their slacks S with inverses, moments X, factors of both big matrices."""

    y: Unknowns
    S: Blocks
    X: Blocks
    factor: Array
    inverse: Blocks
    factor_x: Array


@dataclass(frozen=True)
class Limits:
    """When to stop: relative gap, steps, ``time.monotonic()``, a value that is good enough, an absolute gap."""

    tol: float = 1e-7
    max_iter: int = 100
    deadline: float = np.inf
    stop_below: float = -np.inf
    accuracy: float = 0.0


def minimize(program: Program, start: Unknowns, limits: Limits, floor: float = 0.0) -> Outcome:
    """Follow the central path from a strictly feasible point until the values differ little for their size.

    The unknowns stay strictly feasible; only the moments have a residual, which is counted into the gap.

    Parameters
    ----------
    program : Program
    start : Unknowns
    limits : Limits
    floor : float
        Size below which values count as zero.
    """
    point = _opened(program, start)
    constants, best = program.constants(), (np.inf, point.X)
    status, step = "max_iter", 0
    for step in range(limits.max_iter + 1):
        gap = _gap(program, point, constants)
        if gap <= best[0]:
            best = (gap, point.X)
        value = program.value(point.y)
        if gap < max(limits.tol * max(abs(value), floor), limits.accuracy):
            status = "optimal"
            break
        if value < limits.stop_below:
            status = "below"
            break
        if step == limits.max_iter or time.monotonic() >= limits.deadline:
            status = "max_iter" if step == limits.max_iter else "time_limit"
            break
        try:
            moved = _iterate(program, point)
        except (LinAlgError, ValueError, FloatingPointError):
            moved = None
        if moved is None:
            status = "stalled"
            break
        point = moved
    return Outcome(point.y, best[1], best[0], step, status)


def _opened(program: Program, start: Unknowns) -> _Point:
    """Moments on the central path of the start, at the level that gives them mass one."""
    S = program.slacks(start)
    factor, inverse = _inverse(program, S)
    level = 1.0 / float(inverse.big[0, 0])
    X = Blocks(level * inverse.big, level * inverse.small, level * inverse.n, level * inverse.rho)
    return _Point(start, S, X, factor, inverse, lower_factor(X.big))


def _gap(program: Program, point: _Point, constants: Blocks) -> float:
    """Value minus the lower bound of the moments; a residual counts with the size of the unknowns, doubled."""
    residual = program.cost.plus(program.adjoint(point.X), -1.0)
    lower = -constants.dot(point.X) - 2.0 * residual.size(point.y)
    return program.value(point.y) - lower


def _inverse(program: Program, S: Blocks) -> tuple[Array, Blocks]:
    factor = lower_factor(S.big)
    inverse = dpotri(factor, lower=1)[0]
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    a, b, c = S.small
    small = np.stack([b, a, -c]) / (a * b - c * c) * program.cones.exists
    return factor, Blocks(inverse, small, program.cones.bounded / S.n, 1.0 / S.rho)


def lower_factor(A: Array) -> Array:
    """The Cholesky factor of a symmetric matrix."""
    factor, info = dpotrf(A, lower=1, clean=1)
    if info:
        raise LinAlgError
    return np.asarray(factor)


def _iterate(program: Program, point: _Point) -> _Point | None:
    """One step of Mehrotra's predictor and corrector; None where numbers break down or steps end."""
    system = _System(program, point)
    level = point.X.dot(point.S) / program.degree
    dy, dS, dX = system.direction(0.0, None)
    px, ps = _longest_x(point, dX), _longest_s(point, dS)
    aimed = point.X.plus(dX, px).dot(point.S.plus(dS, ps)) / program.degree
    centring = min(1.0, max(aimed / level, 0.0) ** 2) if min(px, ps) > 0.1 else 0.5
    dy, dS, dX = system.direction(max(centring, 1e-4) * level, (dX, dS))
    px, ps = _longest_x(point, dX), _longest_s(point, dS)
    damping = 0.9 + 0.09 * min(px, ps)
    px, ps = min(1.0, damping * px), min(1.0, damping * ps)
    if max(px, ps) < SHORTEST:
        return None
    for _ in range(8):
        y = point.y.plus(dy, ps)
        S = program.slacks(y)
        try:
            factor, inverse = _inverse(program, S)
        except LinAlgError:
            ps *= 0.8
            continue
        if (inverse.small[:2] >= 0).all() and (S.n > 0).all() and (S.rho > 0).all():
            X = point.X.plus(dX, px)
            return _Point(y, S, X, factor, inverse, lower_factor(X.big))
        ps *= 0.8
    return None


def _longest_s(point: _Point, dS: Blocks) -> float:
    """Largest feasible step up to one of the slacks."""
    return min(1.0, big_step(point.factor, dS.big), _plane_step(point.S, dS))


def _longest_x(point: _Point, dX: Blocks) -> float:
    """The same for the moments."""
    return min(1.0, big_step(point.factor_x, dX.big), _plane_step(point.X, dX))


def big_step(factor: Array, change: Array) -> float:
    """Largest step from ``factor factor'`` along a symmetric matrix that stays positive semidefinite."""
    scaled, info = dsygst(change, factor, lower=1)  # in its lower half
    if info:
        raise LinAlgError
    least = float(np.linalg.eigvalsh(scaled)[0])
    return -1.0 / least if least < 0 else np.inf


def _plane_step(P: Blocks, change: Blocks) -> float:
    """Of the 2 x 2 matrices and the signs."""
    longest = np.inf
    for own, moved in ((P.n, change.n), (P.rho, change.rho)):
        if own.size:
            longest = min(longest, float(np.min(np.where(moved < 0, -own / np.where(moved < 0, moved, -1.0), np.inf))))
    (a, b, c), (da, db, dc) = P.small, change.small
    det = a * b - c * c
    live = a > 0
    det = np.where(live, det, 1.0)
    half, product = 0.5 * (a * db + b * da - 2.0 * c * dc) / det, (da * db - dc * dc) / det
    root = np.sqrt(np.maximum(half * half - product, 0.0))
    least = np.where(half > 0, product / np.where(half > 0, half + root, 1.0), half - root)
    steps = np.where(live & (least < 0), -1.0 / np.where(least < 0, least, -1.0), np.inf)
    return min(longest, float(steps.min(initial=np.inf)))


class _System:
    """The equations ``sum_j <F_i, X F_j S^-1> dy_j = right side`` of one point, factored."""

    def __init__(self, program: Program, point: _Point) -> None:
        self.program, self.point = program, point
        G = program.G
        H = _coupled(program, point)
        B = _local(program, point)
        self.unit = 1.0 / np.sqrt(np.einsum("gii->gi", B))[:, 2:]
        R = B[:, 2:, 2:] * self.unit[:, :, None] * self.unit[:, None]
        self.inner = np.linalg.inv(R) * self.unit[:, :, None] * self.unit[:, None]
        self.cross = B[:, 2:, :2]
        self.solved = self.inner @ self.cross
        schur = B[:, :2, :2] - self.cross.transpose(0, 2, 1) @ self.solved
        place = np.arange(G)
        for i in range(2):
            for j in range(2):
                H[i * G + place, j * G + place] += schur[:, i, j]
        self.H = H
        self.scale = 1.0 / np.sqrt(np.diag(H))
        scaled = H * self.scale[:, None] * self.scale
        self.factor = _ridged(scaled)

    def direction(self, level: float, second: tuple[Blocks, Blocks] | None) -> tuple[Unknowns, Blocks, Blocks]:
        """Direction toward ``X S = level``, with the products of a first direction as a correction."""
        program, point, inverse = self.program, self.point, self.point.inverse
        target = Blocks(level * inverse.big, level * inverse.small, level * inverse.n, level * inverse.rho)
        if second is not None:
            target = target.plus(_product(*second, inverse), -1.0)
        right = program.adjoint(target).plus(program.cost, -1.0)
        dy = self._solve(right)
        dS = program.slacks(dy, change=True)
        dX = target.plus(point.X, -1.0).plus(_product(point.X, dS, inverse), -1.0)
        return dy, dS, dX

    def _solve(self, right: Unknowns) -> Unknowns:
        G = self.program.G
        local = np.concatenate([right.de[:, None], right.n], axis=1)
        inner = np.einsum("gij,gj->gi", self.inner, local)
        moved = np.einsum("gij,gi->gj", self.cross, inner)
        b = np.concatenate([right.al - moved[:, 0], right.be - moved[:, 1], right.rho, right.tau])
        y = self.scale * dpotrs(self.factor, self.scale * b, lower=1)[0]
        y += self.scale * dpotrs(self.factor, self.scale * (b - self.H @ y), lower=1)[0]
        if not np.isfinite(y).all():
            raise FloatingPointError
        al, be = y[:G], y[G : 2 * G]
        inner -= np.einsum("gij,gj->gi", self.solved, np.stack([al, be], axis=1))
        return Unknowns(al, be, inner[:, 0], inner[:, 1:] * self.program.cones.bounded, y[2 * G : -1], y[-1:])


def _ridged(scaled: Array) -> Array:
    for ridge in (0.0, 1e-15, 1e-13, 1e-11, 1e-9):
        trial = scaled.copy()
        trial[np.diag_indices(len(trial))] += ridge
        try:
            return lower_factor(trial)
        except LinAlgError:
            continue
    raise LinAlgError


def _coupled(program: Program, point: _Point) -> Array:
    """The part of the big matrix and of rho, in al, be, rho and tau."""
    V, G, k = program.V, program.G, len(point.y.rho)
    X, T = point.X.big, point.inverse.big
    Xi, x, x0, Ti, t, t0 = X[1:, 1:], X[1:, 0], X[0, 0], T[1:, 1:], T[1:, 0], T[0, 0]
    VX, VT = V @ Xi, V @ Ti
    A, B, a, b = VX @ V.T, VT @ V.T, V @ x, V @ t
    H = np.zeros((2 * G + k + 1, 2 * G + k + 1))
    H[:G, :G] = A * B
    H[G : 2 * G, :G] = 0.5 * (a * B + b * A)
    outer = np.multiply.outer(a, b)
    H[G : 2 * G, G : 2 * G] = 0.25 * (outer + outer.T + t0 * A + x0 * B)
    if program.ball:
        H[2 * G, :G] = -(VX * VT).sum(axis=1)
        H[2 * G, G : 2 * G] = -0.5 * (VT @ x + VX @ t)
        H[2 * G, 2 * G] = (Xi * Ti).sum()
        H[-1, 2 * G] = x @ t
    else:
        H[2 * G : -1, :G] = -(VX * VT).T
        H[2 * G : -1, G : 2 * G] = -0.5 * (VT * x + VX * t).T
        H[2 * G : -1, 2 * G : -1] = Xi * Ti
        H[-1, 2 * G : -1] = x * t
    place = 2 * G + np.arange(k)
    H[place, place] += point.X.rho * point.inverse.rho
    H[-1, :G], H[-1, G : 2 * G], H[-1, -1] = -a * b, -0.5 * (x0 * b + t0 * a), x0 * t0
    lower = np.tril(H)
    return np.asarray(lower + np.tril(H, -1).T)


def _local(program: Program, point: _Point) -> Array:
    """The part of the pieces, in al, be, de and n of each group, shape (G, 3 + P, 3 + P)."""
    cones = program.cones
    (a, b, c), (p, q, s) = point.X.small, point.inverse.small
    G, P = a.shape
    h = np.empty((3, 3, G, P))  # in the entries X, Y, Z of the 2 x 2 matrices [[X, Z/2], [Z/2, Y]]
    h[0, 0], h[1, 1], h[0, 1], h[2, 2] = a * p, b * q, c * s, 0.25 * (b * p + a * q + 2.0 * c * s)
    h[0, 2], h[1, 2] = 0.5 * (a * s + c * p), 0.5 * (b * s + c * q)
    h[1, 0], h[2, 0], h[2, 1] = h[0, 1], h[0, 2], h[1, 2]
    shape = np.stack([cones.x, cones.y, cones.z])
    mixed = np.einsum("ijgp,jgp->igp", h, shape)
    full = np.zeros((G, 3 + P, 3 + P))
    order = [0, 2, 1]  # al moves X, be moves Z, de moves Y
    full[:, :3, :3] = h[order][:, order].sum(axis=3).transpose(2, 0, 1)
    full[:, :3, 3:] = mixed[order].transpose(1, 0, 2)
    full[:, 3:, :3] = full[:, :3, 3:].transpose(0, 2, 1)
    own = (shape * mixed).sum(axis=0) + point.X.n * point.inverse.n
    piece = np.arange(P)
    full[:, 3 + piece, 3 + piece] = np.where(cones.bounded, own, 1.0)
    return full


def _product(A: Blocks, B: Blocks, inverse: Blocks) -> Blocks:
    """The symmetric part of ``A B S^-1``."""
    big = A.big @ B.big @ inverse.big
    (a, b, c), (d, e, f), (p, q, s) = A.small, B.small, inverse.small
    m11, m12, m21, m22 = a * d + c * f, a * f + c * e, c * d + b * f, c * f + b * e
    small = np.stack([m11 * p + m12 * s, m21 * s + m22 * q, 0.5 * (m11 * s + m12 * q + m21 * p + m22 * s)])
    return Blocks(0.5 * (big + big.T), small, A.n * B.n * inverse.n, A.rho * B.rho * inverse.rho)
