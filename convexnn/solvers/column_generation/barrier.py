"""A barrier method on the matrices of all scores: few inputs, any conditioning.

    min  loss(M) + lam sum_c (Z_c[d, d] + Z'_c[d, d]) - tau sum log det Z,    <J, Z> = 0,    M = Z - Z'

by Newton's method, with the smoothed worst cases and a barrier on the slopes, whose weights fall together with tau.
Newton's method does not see the units of the inputs nor the size of lam, where descent on neurons stalls; it costs the
cube of ``C (d + 1) (d + 2) / 2`` a step. Dual slacks ``Y`` scale the steps (``W Y W = Z``), and enter nothing else.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.losses import Hinge
from convexnn.solvers.column_generation.barrier_curvature import Entries, second_derivative
from convexnn.solvers.column_generation.barrier_losses import barrier_loss
from convexnn.solvers.column_generation.term_losses import Bent
from convexnn.solvers.column_generation.worst_cases import WorstCases

Array = NDArray[np.float64]

#: Largest number of entries of all score matrices, and of their product with the number of terms.
MOST_ENTRIES, MOST_NUMBERS = 1_000, 4_000_000
#: Entries up to which it comes first.
FEW_ENTRIES = 150
#: Part of the way to the boundary that a step may go.
INSIDE = 0.95
#: Factor of the intended gap at first and its range; it follows the number of steps that centring took.
FIRST, FACTORS, FEW, MANY = 0.15, (0.02, 0.7), 1, 4
#: Decrement, in units of tau and of the eigenvalues, up to which a step counts as centred.
CENTRED = 1.0
HALVINGS, SUFFICIENT = 30, 1e-4
STEPS, FAILURES = 150, 2


@dataclass(frozen=True, eq=False)
class Centre:
    """An evaluation: matrices (2, C, k, k), smoothed objective with the barrier, worst cases' loss and moments."""

    Z: Array
    value: float
    bent: Bent
    G: Array


@dataclass(frozen=True, eq=False)
class Move:
    """A Newton step: change of the matrices, slacks at its end, slope of the objective along it (negative)."""

    dZ: Array
    Y: Array
    slope: float


def is_small(worst: WorstCases) -> bool:
    """Whether the barrier method is affordable."""
    structure = worst.structure
    size = (structure.n_features + 1) * (structure.n_features + 2) // 2
    return structure.n_classes * size <= MOST_ENTRIES and structure.n_terms * size <= MOST_NUMBERS


def is_easy(worst: WorstCases) -> bool:
    """Whether the barrier method is expected to be the faster one: few inputs, and a loss without kinks."""
    structure = worst.structure
    size = structure.n_classes * (structure.n_features + 1) * (structure.n_features + 2) // 2
    smooth = not isinstance(structure.loss, Hinge) and not (structure.is_regression and structure.radius > 0)
    return smooth and size <= FEW_ENTRIES and is_small(worst)


class BarrierMethod:
    """Newton's method along the central path."""

    def __init__(self, worst: WorstCases) -> None:
        self.worst, self.structure = worst, worst.structure
        self.loss = barrier_loss(worst.structure)
        self.d, self.lam = worst.structure.n_features, worst.structure.lam
        self.entries = Entries.of_size(self.d + 1)
        self.signature = np.diag(np.append(np.ones(self.d), -1.0))
        self.tau = 0.0
        self.smoothing = 0.0
        slopes = self.structure.term_slope(-self.structure.offset)
        self.mass = max(float(self.structure.share @ slopes), 1e-300)
        self.scale = self.structure.loss_value(np.zeros(self.structure.n_terms))

    def run(self, steps: int, accept: Callable[[Centre], bool], out_of_time: Callable[[], bool]) -> str:
        """Steps until ``accept`` says so, which is asked at every point; "solved", "stalled" or "time_limit"."""
        try:
            with np.errstate(all="ignore"):
                return self._run(steps, accept, out_of_time)
        except np.linalg.LinAlgError:
            return "stalled"

    def _run(self, steps: int, accept: Callable[[Centre], bool], out_of_time: Callable[[], bool]) -> str:
        gap, failures, factor, used = self.scale, 0, FIRST, 0
        self._aim(gap, np.ones(self.structure.n_terms))
        Z, Y = self._start()
        at = self.evaluate(Z)
        for _ in range(min(steps, STEPS)):
            if not np.isfinite(at.G).all():
                return "stalled"
            if accept(at):
                return "solved"
            if out_of_time():
                return "time_limit"
            move = self._newton(at, Y)
            following = self._searched(at, move)
            Y = self._towards(Y, move.Y, at.Z)
            used += 1
            failures = failures + 1 if following is None else 0
            if failures > FAILURES:
                return "stalled"
            at = at if following is None else following
            if following is None or -move.slope <= CENTRED * self.tau * Y[..., 0].size:
                factor = float(np.clip(factor * (0.5 if used <= FEW else 1.6 if used > MANY else 1.0), *FACTORS))
                gap, used = factor * gap, 0
                self._aim(gap, at.bent.slopes)
                at = self.evaluate(at.Z)
        return "stalled"

    def evaluate(self, Z: Array) -> Centre:
        """Smoothed objective with the barrier; ``inf`` outside of the cone."""
        w = self.worst.evaluate(Z[0] - Z[1], self.smoothing)
        bent = self.loss.at(w)
        value = bent.value + self.lam * float(Z[..., -1, -1].sum()) - self.tau * log_determinants(Z)
        G = self.worst.moments(self.structure.share * bent.slopes)
        return Centre(Z, value, bent, G)

    def _aim(self, gap: float, slopes: Array) -> None:
        """Weights of the three barriers such that each leaves a third of ``gap``."""
        third, structure = gap / 3.0, self.structure
        self.tau = third / (2.0 * structure.n_classes * (self.d + 1))
        self.loss.beta = third / (2.0 * float(structure.governing_share.sum()))
        mass = float(structure.share @ slopes)
        self.smoothing = third / ((self.d + 1) * max(mass, 1e-8 * self.mass))

    def _start(self) -> tuple[Array, Array]:
        """A point on the central path of the regularizer alone, and its slacks."""
        shape = (2, self.structure.n_classes, self.d + 1, self.d + 1)
        spread = np.append(np.full(self.d, 1.0 / self.d), 1.0)
        size = self.tau * (self.d + 1) / self.lam
        return size * np.broadcast_to(np.diag(spread), shape), self.tau / size * np.broadcast_to(
            np.diag(1.0 / spread), shape
        )

    def _newton(self, at: Centre, Y: Array) -> Move:
        C, entries = self.structure.n_classes, self.entries
        inverse = np.linalg.inv(at.Z)
        signs = np.array([1.0, -1.0])[:, None, None, None]
        pull = self.tau * inverse + signs * at.G
        pull[..., -1, -1] -= self.lam
        W = np.array([[scaling(at.Z[s, c], Y[s, c]) for c in range(C)] for s in range(2)])
        J = self.signature
        bent_J = W @ J @ W
        norms = np.einsum("ij,scij->sc", J, bent_J)

        def metric(direction: Array) -> tuple[Array, Array]:
            moved = W @ direction @ W
            nu = np.einsum("ij,scij->sc", J, moved) / norms
            return moved - nu[..., None, None] * bent_J, nu

        free, _ = metric(pull)
        F = root(second_derivative(self.worst, at.bent, entries))
        KF = np.zeros_like(F)
        size = len(entries.first)
        for c in range(C):
            rows = slice(c * size, (c + 1) * size)
            for s in range(2):
                KF[rows] += entries.congruence(W[s, c]) @ F[rows]
                v = entries.vector(bent_J[s, c])
                KF[rows] -= np.outer(v, v @ F[rows]) / norms[s, c]
        system = F.T @ KF
        system[np.diag_indices(len(system))] += 1.0
        u = _solved(system, F.T @ entries.vector(free[0] - free[1]).ravel())
        S = entries.matrix((F @ u).reshape(C, size))
        dZ, nu = metric(pull - signs * S)
        dZ = 0.5 * (dZ + dZ.swapaxes(-1, -2))
        slack = signs * (S - at.G) + nu[..., None, None] * J
        slack[..., -1, -1] += self.lam
        slope = -float((pull * dZ).sum())
        return Move(dZ, slack, slope)

    def _searched(self, at: Centre, move: Move) -> Centre | None:
        """First of the steps 1, 1/2, ... inside the cone with a sufficient decrease."""
        if not (np.isfinite(move.dZ).all() and move.slope < 0):
            return None
        step = min(1.0, INSIDE * reach(at.Z, move.dZ))
        for _ in range(HALVINGS):
            following = self.evaluate(at.Z + step * move.dZ)
            if following.value <= at.value + SUFFICIENT * step * move.slope + 1e-15 * abs(at.value):
                return following
            step *= 0.5
        self.evaluate(at.Z)
        return None

    def _towards(self, Y: Array, end: Array, Z: Array) -> Array:
        """Slacks most of the way to those of a step, positive definite; those of the barrier where that fails."""
        change = 0.5 * (end + end.swapaxes(-1, -2)) - Y
        if np.isfinite(change).all():
            Y = Y + min(1.0, INSIDE * reach(Y, change)) * change
        return Y if log_determinants(Y) > -np.inf else np.asarray(self.tau * np.linalg.inv(Z), dtype=float)


def log_determinants(Z: Array) -> float:
    """Sum over positive definite matrices (..., k, k); ``-inf`` where one is not."""
    try:
        factors = np.linalg.cholesky(Z)
    except np.linalg.LinAlgError:
        return -np.inf
    return 2.0 * float(np.log(np.diagonal(factors, axis1=-2, axis2=-1)).sum())


def reach(Z: Array, dZ: Array) -> float:
    """Largest step at which ``Z + step dZ`` is positive semidefinite, matrices (..., k, k)."""
    inverse = np.linalg.inv(np.linalg.cholesky(Z))
    lowest = float(np.linalg.eigvalsh(inverse @ dZ @ inverse.swapaxes(-1, -2)).min())
    return np.inf if lowest >= 0 else -1.0 / lowest


def scaling(Z: Array, Y: Array) -> Array:
    """``W`` with ``W Y W = Z``, positive definite (Nesterov and Todd)."""
    L, R = np.linalg.cholesky(Z), np.linalg.cholesky(Y)
    _, values, V = np.linalg.svd(R.T @ L)
    half = (L @ V.T) / np.sqrt(values)
    return np.asarray(half @ half.T)


def root(B: Array) -> Array:
    """``F`` with ``F F' = B`` for a positive semidefinite matrix of entries of any units."""
    units = np.sqrt(np.maximum(np.diagonal(B), 0.0))
    units = np.where(units > 0, units, 1.0)
    values, vectors = np.linalg.eigh(B / units[:, None] / units)
    kept = values > 1e-15 * max(float(values[-1]), 1e-300)
    return np.asarray(units[:, None] * vectors[:, kept] * np.sqrt(values[kept]))


def _solved(system: Array, right: Array) -> Array:
    """Solution for a matrix that is the identity plus a positive semidefinite one, of entries of any units."""
    units = 1.0 / np.sqrt(np.maximum(np.diagonal(system), 1.0))
    solution: Array = units * np.linalg.solve(system * units[:, None] * units, units * right)
    return solution
