r"""Pricing of new units for the Lipschitz objective: the ramp problem and its local search.

In the coordinates ``e = root^-1 w`` of a multiplier (see :mod:`convexnn.global_gap.lipschitz_bound`) a new unit
``s relu(w'x + b)`` is worth adding when ``-s phi(e, b) > c |e|`` with::

    phi(e, b) = sum_k nu_k relu(p_k'e + b) + h'e,     sum_k nu_k = 0,     b free.

Along b, phi is piecewise linear with knots ``-p_k'e`` and constant beyond them: for a fixed direction e the maximum
over all b costs one sort. With one input that is everything there is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from convexnn.rigorous import UNIT, gamma, norm_up, product_up, row_norms_up, spectral_norm_up, sum_up
from convexnn.values import ByValue

Array = NDArray[np.float64]

#: Singular values below this share of the largest one are left to the slack.
RANK = 1e-11
#: Directions swept at once.
CHUNK = 512


@dataclass(frozen=True, eq=False)
class RampProblem(ByValue):
    """Maximize ``+-phi(e, b)`` over ``|e| <= 1`` and all b, in a basis of the points' span.

    The value for the data handed over is at most ``stretch`` times the one here plus ``slack``.

    Attributes
    ----------
    points : array, shape (n, r)
        p_k.
    nu : array, shape (n,)
        Sum zero up to rounding; the residue is part of the slack.
    linear : array, shape (r,)
        h.
    basis : array, shape (r, d)
        ``e @ basis`` is a direction of the coordinates handed over.
    middle : array, shape (d,)
        What was subtracted from the points: biases here are ``middle'e`` above those of the data.
    stretch, slack : float
    """

    points: Array
    nu: Array
    linear: Array
    basis: Array
    middle: Array
    stretch: float
    slack: float

    @property
    def rank(self) -> int:
        """Dimension of e."""
        return int(self.points.shape[1])

    @cached_property
    def reach(self) -> float:
        """Upper bound on ``max_k |p_k|``: beyond ``|b| = reach |e|`` nothing changes along b."""
        return float(row_norms_up(self.points).max(initial=0.0))

    @cached_property
    def magnitude(self) -> float:
        """Upper bound on ``sum_k |nu_k| (|p_k| + reach) + |h|``, the unit of rounding errors for ``|e| = 1``."""
        sizes = row_norms_up(self.points) + self.reach
        return sum_up(np.nextafter(np.abs(self.nu) * sizes, np.inf)) + norm_up(self.linear)

    def upper(self, bound: float) -> float:
        """Bound for the data handed over from one on this problem."""
        return math.nextafter(product_up(max(bound, 0.0), self.stretch) + self.slack, math.inf)

    def target(self, wanted: float) -> float:
        """Largest bound here that proves ``wanted`` for the data handed over."""
        return (wanted - self.slack) / self.stretch * (1 - 8 * UNIT)

    def value(self, E: Array, b: Array) -> Array:
        """``phi`` at the directions E (k, r) and biases b (k,)."""
        values: Array = np.maximum(E @ self.points.T + b[:, None], 0.0) @ self.nu + E @ self.linear
        return values


def ramp_problem(points: Array, nu: Array, linear: Array, error: Array) -> RampProblem:
    """Center the points, drop those without multiplier and reduce to the span.

    Implements: docs/theory/global_lipschitz.md, Lemma 3.

    Parameters
    ----------
    points : array, shape (n, d)
    nu : array, shape (n,)
        Its mean is subtracted: only multipliers of sum zero say anything when biases are free.
    linear : array, shape (d,)
    error : array, shape (n,)
        Bounds on the Euclidean errors of the points that the slack has to cover.

    Returns
    -------
    RampProblem
    """
    centred = nu - nu.mean()
    used = centred != 0
    if not used.any():
        used[0] = True
    middle = 0.5 * (points.max(axis=0) + points.min(axis=0))
    kept, chosen = points[used] - middle, centred[used]
    _, size, directions = np.linalg.svd(kept, full_matrices=False)
    basis = directions[size > RANK * max(size[0], np.finfo(float).tiny)]
    if len(basis) in (0, points.shape[1]):
        basis = np.eye(max(len(basis), 1), points.shape[1])
    coordinates, along = kept @ basis.T, basis @ linear
    rounding = 4.0 * gamma(points.shape[1] + len(basis)) * math.sqrt(len(basis))
    lost = row_norms_up(kept - coordinates @ basis) + rounding * row_norms_up(kept)
    lost = lost + error[used] + 2 * UNIT * (row_norms_up(points[used]) + norm_up(middle))
    # the bound is one for multipliers of sum exactly zero: those here minus their mean
    residue = abs(math.fsum(chosen.tolist())) * 2.0 * float(row_norms_up(kept).max())
    turned = norm_up(linear - along @ basis) + rounding * norm_up(linear)
    slack = sum_up([*np.nextafter(np.abs(chosen) * lost, np.inf), turned, residue * (1 + 8 * UNIT)])
    return RampProblem(coordinates, chosen, along, basis, middle, spectral_norm_up(basis), slack)


@dataclass(frozen=True, eq=False)
class Ramps(ByValue):
    """Candidates for new units, best first.

    Attributes
    ----------
    values : array, shape (k,)
        ``sign * phi``.
    E : array, shape (k, r)
        Unit directions.
    b : array, shape (k,)
    signs : array, shape (k,)
        Sign of phi; the unit to add has the opposite sign.
    """

    values: Array
    E: Array
    b: Array
    signs: Array

    def head(self, count: int) -> Ramps:
        """Return the first ``count``."""
        return Ramps(self.values[:count], self.E[:count], self.b[:count], self.signs[:count])

    def joined(self, other: Ramps) -> Ramps:
        """Merge two lists into one, best first."""
        parts = [np.concatenate([getattr(self, name), getattr(other, name)]) for name in ("values", "E", "b", "signs")]
        order = np.argsort(-parts[0], kind="stable")
        return Ramps(*(part[order] for part in parts))


def sweep(problem: RampProblem, E: Array) -> Ramps:
    """Best bias of every unit direction and either sign, exactly over the knots, shape (2 k,); best first."""
    found = [_sweep(problem, E[i : i + CHUNK]) for i in range(0, len(E), CHUNK)]
    values, b = (np.concatenate(part, axis=1) for part in zip(*found, strict=True))
    k = len(E)
    all_ = Ramps(values.ravel(), np.vstack([E, E]), b.ravel(), np.repeat([1.0, -1.0], k))
    order = np.argsort(-all_.values, kind="stable")
    return Ramps(all_.values[order], all_.E[order], all_.b[order], all_.signs[order])


def _sweep(problem: RampProblem, E: Array) -> tuple[Array, Array]:
    a = E @ problem.points.T
    order = np.argsort(-a, axis=1)
    a = np.take_along_axis(a, order, axis=1)
    nu = problem.nu[order]
    before, moment = np.cumsum(nu, axis=1) - nu, np.cumsum(nu * a, axis=1) - nu * a
    phi = moment - a * before + (E @ problem.linear)[:, None]
    rows = np.arange(len(E))
    high, low = phi.argmax(axis=1), phi.argmin(axis=1)
    return np.stack([phi[rows, high], -phi[rows, low]]), np.stack([-a[rows, high], -a[rows, low]])


def climb(problem: RampProblem, start: Ramps, rounds: int = 30) -> Ramps:
    """Ascent of ``sign * max_b phi`` on the sphere from every candidate; each ends no lower than it began."""
    E, values, b, signs = start.E.copy(), start.values.copy(), start.b.copy(), start.signs
    step = np.ones(len(E))
    for _ in range(rounds):
        gradient = signs[:, None] * _gradient(problem, E, b)
        length = np.linalg.norm(gradient, axis=1, keepdims=True)
        trial = (1 - step)[:, None] * E + step[:, None] * gradient / np.maximum(length, 1e-300)
        trial /= np.maximum(np.linalg.norm(trial, axis=1, keepdims=True), 1e-300)
        trial_values, trial_b = _sweep(problem, trial)
        pick = np.where(signs > 0, 0, 1)
        new, new_b = trial_values[pick, np.arange(len(E))], trial_b[pick, np.arange(len(E))]
        better = new > values * (1 + 1e-12)
        E[better], values[better], b[better] = trial[better], new[better], new_b[better]
        step = np.where(better, np.minimum(1.0, 1.5 * step), 0.4 * step)
        if not (step > 1e-7).any():
            break
    order = np.argsort(-values, kind="stable")
    return Ramps(values[order], E[order], b[order], signs[order])


def _gradient(problem: RampProblem, E: Array, b: Array) -> Array:
    """Gradient of phi along the knot: the bias follows the point it is tied to."""
    a = E @ problem.points.T
    tied = np.abs(a + b[:, None]).argmin(axis=1)
    active = (a > a[np.arange(len(E)), tied][:, None]) * problem.nu
    gradient: Array = active @ problem.points - active.sum(axis=1)[:, None] * problem.points[tied] + problem.linear
    return gradient


def local_search(
    problem: RampProblem, rng: np.random.Generator, seeds: Array, count: int = 400, climbed: int = 80
) -> Ramps:
    """Candidates from random directions, differences of points and given ones; the best are climbed.

    Parameters
    ----------
    problem : RampProblem
    rng : Generator
    seeds : array, shape (k, r)
        Further directions, any length.
    count : int
        Random directions.
    climbed : int
        Candidates, the best of a sweep, from which an ascent starts.

    Returns
    -------
    Ramps
        Their best value is a lower bound on the maximum; with r = 1 it is the maximum.
    """
    if problem.rank == 1:
        return sweep(problem, np.array([[1.0], [-1.0]]))
    pairs = rng.integers(len(problem.points), size=(count // 2, 2))
    steps = problem.points[pairs[:, 0]] - problem.points[pairs[:, 1]]
    E = np.vstack(
        [rng.standard_normal((count, problem.rank)), steps, problem.linear[None], -problem.linear[None], seeds]
    )
    length = np.linalg.norm(E, axis=1)
    E = E[length > 0] / length[length > 0, None]
    swept = sweep(problem, E)
    return climb(problem, swept.head(climbed)).joined(swept.head(20))
