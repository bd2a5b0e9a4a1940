r"""The moment relaxation behind the majorants, solved in ``d (d + 3) / 2`` variables by a barrier method.

Replace w by the moments ``(mu, Z)`` of a distribution on the piece, ``m_i = x_i'mu``, ``e_i = x_i'Z x_i``::

    max sum_{c_i > 0} c_i up(m_i, e_i) - sum_{c_i < 0} |c_i| max(0, m_i, (e_i - l_i m_i) / (u_i - l_i))
    s.t. [[1, mu'], [mu, Z]] >= 0,  tr Z <= 1,  e_i <= (l_i + u_i) m_i - l_i u_i,  s_i s_j x_i'Z x_j >= 0 (fixed i, j)

``up`` is the largest mean of relu(a) for these two moments on [l, u] and has a closed form; the smallest is the maximum
of three lines. Units of one sign are linear. The derivatives at the solution are the coefficients of the best majorant.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from convexnn.global_gap.signs_majorants import Majorant, Piece, majorant_bound

Array = NDArray[np.float64]

#: Newton steps at most, and how the weight of the objective grows.
STEPS, GROWTH = 80, 12.0
#: Share of what a bound lies above the target that is not worth more steps.
EXCESS = 0.1


@dataclass(frozen=True, eq=False)
class Relaxed:
    """Bound of a piece, mean of the relaxation, what every unit adds to the gap (n,), majorant, and central moments.

    The moments are those of an early stage: a good start for smaller pieces.
    """

    bound: float
    mean: Array
    gaps: Array
    majorant: Majorant
    centre: Array


class Moments:
    """Rows as linear forms of the moments ``(mu, upper triangle of Z)``, shared by all pieces.

    Parameters
    ----------
    X : array, shape (n, d)
    """

    def __init__(self, X: Array) -> None:
        self.X = X
        n, d = X.shape
        self.i, self.j = np.triu_indices(d)
        self.twice = np.where(self.i == self.j, 1.0, 2.0)
        zeros = np.zeros((n, d))
        self.first = np.hstack([X, np.zeros((n, len(self.i)))])
        self.second = np.hstack([zeros, self.products(X, X)])
        self.row = np.concatenate([np.zeros(d, dtype=int), self.i + 1])  # entry of the moment matrix of every variable
        self.column = np.concatenate([np.arange(d) + 1, self.j + 1])
        self.weight = np.where(self.row == self.column, 0.5, 1.0)
        self.trace = np.concatenate([np.zeros(d), (self.i == self.j).astype(float)])

    def products(self, U: Array, V: Array) -> Array:
        """``u'Zv`` as linear forms of the upper triangle, shape (k, d (d + 1) / 2)."""
        forms: Array = 0.5 * (U[:, self.i] * V[:, self.j] + U[:, self.j] * V[:, self.i]) * self.twice
        return forms

    def matrix(self, p: Array) -> Array:
        """Moment matrix (d + 1, d + 1)."""
        M = np.zeros((self.X.shape[1] + 1,) * 2)
        M[self.row, self.column] = p
        M[self.column, self.row] = p
        M[0, 0] = 1.0
        return M


def relax(
    moments: Moments,
    c: Array,
    piece: Piece,
    inside: Array,
    accuracy: float,
    target: float,
    warm: Array | None = None,
) -> Relaxed:
    """Bound of a piece by the moment relaxation.

    Parameters
    ----------
    moments : Moments
    c : array, shape (n,)
    piece : Piece
    inside : array, shape (d,)
        A point of the open unit ball with ``s_i x_i'w > 0`` for the fixed units.
    accuracy : float
        Absolute accuracy that is enough.
    target : float
        Stop as soon as the bound is at most this.
    warm : array, optional
        ``centre`` of a larger piece.

    Returns
    -------
    Relaxed
        ``bound`` is recomputed by :func:`majorant_bound`, whatever the barrier method did.
    """
    barrier = _Barrier(moments, c, piece)
    scale, best, centre = max(target, 30 * accuracy), None, None
    p, z = barrier.start(inside)
    t = 0.05 * barrier.count / scale
    if warm is not None:
        p, z = barrier.blended(warm, p, z)
    steps = 0
    while steps < STEPS:
        for _ in range(12):
            moved = barrier.step(p, z, t)
            steps += 1
            if moved is None:
                break
            p, z, decrement = moved
            if decrement < 0.3:
                break
        if t * scale > barrier.count or steps >= STEPS:
            majorant = barrier.majorant(p, z, t)
            centre = p if centre is None else centre
            bound = majorant_bound(moments.X, c, piece, majorant)
            if best is None or bound < best[0]:
                best = bound, majorant
            if best[0] <= target or barrier.count < t * max(accuracy, EXCESS * (best[0] - target)):
                break
        t *= GROWTH
    if best is None:
        majorant = barrier.majorant(p, z, t)
        best = majorant_bound(moments.X, c, piece, majorant), majorant
    return Relaxed(best[0], p[: moments.X.shape[1]], barrier.gaps(p), best[1], p if centre is None else centre)


class _Barrier:
    """Value, gradient and Hessian of ``-t objective + barrier`` in the moments, the epigraph variables eliminated."""

    def __init__(self, moments: Moments, c: Array, piece: Piece) -> None:
        self.m, self.c, self.piece = moments, c, piece
        loose = piece.loose
        self.up = np.flatnonzero(loose & (c > 0))
        self.down = np.flatnonzero(loose & (c < 0))
        self.active = np.where(~loose & (piece.high > 0), c, 0.0)
        self.linear = moments.first.T @ self.active
        self.ranged = np.flatnonzero(loose | (piece.signs != 0))
        self.fixed = np.flatnonzero(piece.signs)
        self.k, self.l = np.triu_indices(len(self.fixed), 1)
        signed = piece.signs[self.fixed, None] * moments.X[self.fixed]
        zeros = np.zeros((len(self.k), moments.X.shape[1]))
        self.pair = np.hstack([zeros, moments.products(signed[self.k], signed[self.l])])
        # e <= (low + high) m - low high
        r = self.ranged
        self.range = (piece.low + piece.high)[r, None] * moments.first[r] - moments.second[r]
        self.range_constant = -(piece.low * piece.high)[r]
        width = (piece.high - piece.low)[self.down, None]
        self.chord = (moments.second[self.down] - piece.low[self.down, None] * moments.first[self.down]) / width
        self.count = float(moments.X.shape[1] + 2 + len(r) + len(self.k) + 3 * len(self.down))

    def start(self, inside: Array) -> tuple[Array, Array]:
        """Moments of a small ball around a point of the piece, shrunk until they are strictly feasible."""
        d = len(inside)
        spread = 0.5 * (1 - float(inside @ inside)) / d
        for _ in range(200):
            Z = np.outer(inside, inside) + spread * np.eye(d)
            p = np.concatenate([inside, Z[self.m.i, self.m.j]])
            z = self._epigraph(p)
            if np.isfinite(self.value(p, z, 0.0)):
                break
            spread *= 0.5
        return p, z

    def blended(self, warm: Array, p: Array, z: Array) -> tuple[Array, Array]:
        """A point between a good one and a strictly feasible one, as near to the good one as it is feasible."""
        for share in (0.05, 0.1, 0.2, 0.4, 0.7):
            q = (1 - share) * warm + share * p
            epigraph = self._epigraph(q)
            if np.isfinite(self.value(q, epigraph, 0.0)):
                return q, epigraph
        return p, z

    def _epigraph(self, p: Array) -> Array:
        least = np.maximum(np.maximum(self.m.first[self.down] @ p, self.chord @ p), 0.0)
        return least + 0.1 * (self.piece.high - self.piece.low)[self.down]

    def value(self, p: Array, z: Array, t: float) -> float:
        """Barrier function, infinite outside."""
        try:
            logdet = 2 * float(np.log(np.diag(np.linalg.cholesky(self.m.matrix(p)))).sum())
        except np.linalg.LinAlgError:
            return float(np.inf)
        m, chord = self.m.first[self.down] @ p, self.chord @ p
        slacks = [np.array([1 - self.m.trace @ p]), self.range @ p + self.range_constant, self.pair @ p]
        slacks += [z, z - m, z - chord]
        if any((part <= 0).any() for part in slacks):
            return float(np.inf)
        up, _, _ = self._up(p)
        gain = self.linear @ p + self.c[self.up] @ up + self.c[self.down] @ z
        return float(-t * gain - logdet - sum(np.log(part).sum() for part in slacks))

    def _up(self, p: Array) -> tuple[Array, tuple[Array, Array], tuple[Array, Array]]:
        """Largest mean of relu for the moments, with derivatives."""
        m, e = self.m.first[self.up] @ p, self.m.second[self.up] @ p
        return largest_mean(m, e, self.piece.low[self.up], self.piece.high[self.up])

    def step(self, p: Array, z: Array, t: float) -> tuple[Array, Array, float] | None:
        """One Newton step with backtracking; None when it fails."""
        K = len(p)
        G = np.linalg.inv(self.m.matrix(p))
        i, j, w = self.m.row, self.m.column, self.m.weight
        gradient = -2 * w * G[i, j] - t * self.linear
        H = 2 * np.outer(w, w) * (G[np.ix_(i, i)] * G[np.ix_(j, j)] + G[np.ix_(i, j)] * G[np.ix_(j, i)])
        rest = 1 - self.m.trace @ p
        rows = np.vstack([-self.m.trace[None], self.range, self.pair])
        slack = np.concatenate([[rest], self.range @ p + self.range_constant, self.pair @ p])
        scaled = rows / slack[:, None]
        gradient -= scaled.sum(axis=0)
        _, (um, ue), (bend_m, bend_e) = self._up(p)
        first, second, weight = self.m.first[self.up], self.m.second[self.up], t * self.c[self.up]
        gradient -= first.T @ (weight * um) + second.T @ (weight * ue)
        curved = np.sqrt(weight)[:, None] * (bend_m[:, None] * first + bend_e[:, None] * second)
        F = self.m.first[self.down]
        a, b, z0 = 1 / (z - F @ p), 1 / (z - self.chord @ p), 1 / z
        gz = -t * self.c[self.down] - a - b - z0
        gradient += F.T @ a + self.chord.T @ b
        hz = a * a + b * b + z0 * z0
        C = (a * a)[:, None] * F + (b * b)[:, None] * self.chord  # minus the mixed derivative
        root = 1 / np.sqrt(hz)  # z eliminated, written as squares: nothing cancels
        terms = [(a * b, F - self.chord), (a * z0, F), (b * z0, self.chord)]
        J = np.vstack([scaled, curved, *((size * root)[:, None] * rows for size, rows in terms)])
        H += J.T @ J
        try:
            D = 1 / np.sqrt(np.maximum(np.diag(H), 1e-300))
            factor = cho_factor(H * np.outer(D, D) + 1e-13 * np.eye(K))
            dp = -D * cho_solve(factor, D * (gradient + C.T @ (gz / hz)))
        except (np.linalg.LinAlgError, ValueError):
            return None
        dz = (-gz + C @ dp) / hz
        decrement = -float(gradient @ dp + gz @ dz)
        return self._search(p, z, t, dp, dz, decrement)

    def _search(
        self, p: Array, z: Array, t: float, dp: Array, dz: Array, decrement: float
    ) -> tuple[Array, Array, float] | None:
        if not np.isfinite(decrement):
            return None
        before, length = self.value(p, z, t), min(1.0, 3.0 / (1.0 + np.sqrt(max(decrement, 0.0))))
        while length > 1e-8:
            after = self.value(p + length * dp, z + length * dz, t)
            if after <= before - 0.05 * length * decrement + 1e-12 * abs(before):
                return p + length * dp, z + length * dz, decrement
            length *= 0.5
        return None

    def majorant(self, p: Array, z: Array, t: float) -> Majorant:
        """Coefficients from the derivatives and the barrier's multipliers."""
        n, piece = len(self.c), self.piece
        al, be = np.zeros(n), self.active.copy()
        _, (um, ue), _ = self._up(p)
        al[self.up] = self.c[self.up] * ue
        be[self.up] = self.c[self.up] * um
        a = 1 / (t * (z - self.m.first[self.down] @ p))
        b = 1 / (t * (z - self.chord @ p)) / (piece.high - piece.low)[self.down]
        al[self.down] = -b
        be[self.down] = b * piece.low[self.down] - a
        lam = 1 / (t * (self.range @ p + self.range_constant))
        al[self.ranged] -= lam
        be[self.ranged] += lam * (piece.low + piece.high)[self.ranged]
        pairs = np.zeros((len(self.fixed),) * 2)
        pairs[self.k, self.l] = 1 / (t * (self.pair @ p)) if len(self.k) else 0.0
        return Majorant(al, be, pairs)

    def gaps(self, p: Array) -> Array:
        """By how much each unit exceeds its value at the mean, shape (n,)."""
        gaps = np.zeros(len(self.c))
        mean = self.m.first[self.up] @ p
        gaps[self.up] = self.c[self.up] * (self._up(p)[0] - np.maximum(mean, 0.0))
        return gaps


def largest_mean(m: Array, e: Array, low: Array, high: Array) -> tuple[Array, tuple[Array, Array], tuple[Array, Array]]:
    """Largest mean of relu(a) over distributions on [low, high] with moments (m, e), with two derivatives.

    It is concave, and its Hessian in (m, e) has rank one.

    Implements: docs/theory/sign_branching.md, Lemma 2.

    Returns
    -------
    value, (d/dm, d/de), (p, q)
        The Hessian is ``-[p, q]'[p, q]``.
    """
    u = np.where(high <= -low, high, -low)
    flip = high > -low  # relu(a) = a + relu(-a): the nearer end is always the upper one
    m_ = np.where(flip, -m, m)
    root = np.sqrt(np.maximum(e, 1e-300))
    far = root > u
    D = np.maximum(e - 2 * u * m_ + u * u, 1e-300)
    h = (u - m_) * (e - u * m_)
    value = np.where(far, u * (e - m_ * m_) / D, 0.5 * (m_ + root))
    dm = np.where(far, 2 * u * h / D**2, 0.5)
    de = np.where(far, u * (u - m_) ** 2 / D**2, 0.25 / root)
    p = np.where(far, -np.sqrt(2 * u / D) * (u * u - e) / D, 0.0)
    q = np.where(far, np.sqrt(2 * u / D) * np.abs(u - m_) / D, np.sqrt(0.125 / root**3))
    return np.where(flip, m + value, value), (np.where(flip, 1 - dm, dm), de), (np.where(flip, -p, p), q)
