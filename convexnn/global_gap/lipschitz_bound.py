r"""A lower bound on training with ``lam LipSDP^2`` over networks of every width, from any multipliers.

For every nu of sum zero, every vector h and every nonsingular R, with

    phi(e, b) = sum_k nu_k relu(x_k'Re + b) + h'e   and   c = max(|h|, max_{|e| <= 1, b} |phi(e, b)|),

the mean loss + lam LipSDP^2 of every network is at least

    constant + max_theta  theta (-nu'y) - theta^2 (sum_k nu_k^2 / (4 om_k) + c^2 |R^-1|_F^2 / lam).

The multipliers of the joint program of any patterns propose nu, h, R; at a global optimum the bound is tight.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.global_gap.lipschitz_boxes import RampBracket, ramp_upper
from convexnn.global_gap.lipschitz_pricing import RampProblem, Ramps, ramp_problem
from convexnn.inputs import real_array
from convexnn.program import Dual
from convexnn.restrictions.base import positive
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from convexnn.rigorous import UNIT, gamma, norm_up, product_up, row_norms_up, spectral_norm_up, sum_up
from convexnn.values import ByValue

Array = NDArray[np.float64]


HUGE = 1e120  # far below the root of the largest float, above everything that proves anything


@dataclass(frozen=True, eq=False)
class LipschitzMultipliers(ByValue):
    """Multipliers of :func:`lipschitz_global_bound`, on the distinct rows of X; any numbers give a valid bound.

    Parameters
    ----------
    nu : array, shape (n,)
        Multiplier of the predictions, ``2 om (f - y)`` at an optimum; centred before use.
    linear : array, shape (d,)
        h, multiplier of the sum of all units, in the coordinates of ``root``.
    root : array, shape (d, d)
        R, with ``(R R')^-1`` proportional to the matrix Z of LipSDP.
    """

    nu: Array
    linear: Array
    root: Array

    @classmethod
    def from_dual(cls, dual: Dual, n_inputs: int, share: float = 1e-9) -> LipschitzMultipliers:
        """Read from the multipliers of a joint Lipschitz program; ``share`` of the trace keeps R well conditioned."""
        d = n_inputs
        M = np.eye(d) if dual.matrix is None else 0.5 * (dual.matrix[:d, :d] + dual.matrix[:d, :d].T)
        first = np.zeros(d) if dual.matrix is None else -0.5 * (dual.matrix[d, :d] + dual.matrix[:d, d])
        values, vectors = np.linalg.eigh(M)
        values = np.maximum(values, 0.0)
        total = values.sum()
        values = values / total + share if total > 0 else np.ones(d)
        root = vectors / np.sqrt(values)
        return cls(dual.residual, root.T @ first, root)


@dataclass(frozen=True, eq=False)
class LipschitzBound(ByValue):
    """What multipliers prove about all networks.

    Attributes
    ----------
    lower : float
        Lower bound on ``mean loss + lam LipSDP^2``.
    ratio : float
        Upper bound on the pricing maximum over ``c`` as the multipliers propose it, ``|h|``; one at a global optimum
        with ``|h| = c``, informative only.
    pricing : RampBracket
        The search behind it.
    problem : RampProblem
        What was searched.
    """

    lower: float
    ratio: float
    pricing: RampBracket
    problem: RampProblem


def lipschitz_global_bound(
    X: ArrayLike,
    y: ArrayLike,
    lam: float,
    multipliers: LipschitzMultipliers,
    *,
    sample_weight: ArrayLike | None = None,
    wanted: float = math.inf,
    tol: float = 1e-6,
    time_limit: float | None = None,
) -> LipschitzBound:
    """Lower bound on ``mean((f(x_i) - y_i)^2) + lam LipSDP(f)^2`` over ReLU networks f of one hidden layer, any width.

    Implements: docs/theory/global_lipschitz.md, Theorem 2.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    lam : float
        Positive.
    multipliers : LipschitzMultipliers
        Any numbers; wrong ones loosen the bound and never make it false.
    sample_weight : array-like, shape (n,), optional
    wanted : float
        The search for the pricing maximum stops when this lower bound is proved.
    tol : float
        Relative accuracy of the pricing maximum.
    time_limit : float, optional
        Wall-clock seconds; the bound so far is valid.

    Returns
    -------
    LipschitzBound

    Raises
    ------
    InvalidInputError
        For data or options that cannot be used or multipliers of another shape.
    """
    rows = distinct_rows(X, y, sample_weight)
    multipliers = LipschitzMultipliers(
        real_array(multipliers.nu, "nu"), real_array(multipliers.linear, "linear"), real_array(multipliers.root, "root")
    )
    _check_shapes(rows, multipliers)
    limit = math.inf if time_limit is None else positive(time_limit, "time_limit")
    return bound_on_rows(
        rows, positive(lam, "lam"), multipliers, wanted=wanted, tol=positive(tol, "tol"), time_limit=limit
    )


def bound_on_rows(
    rows: DistinctRows,
    lam: float,
    multipliers: LipschitzMultipliers,
    *,
    wanted: float = math.inf,
    tol: float = 1e-6,
    time_limit: float = math.inf,
    seeds: Ramps | None = None,
    give_up: bool = False,
) -> LipschitzBound:
    """:func:`lipschitz_global_bound` on data whose repeated rows are merged.

    With ``give_up`` the search ends as well once a point shows that ``wanted`` cannot be proved.
    """
    multipliers = _usable(rows, multipliers)
    problem = pricing_problem(rows, multipliers)
    bound = DualBound.of(rows, lam, multipliers)
    target = max(bound.kappa_for(wanted), bound.floor)
    goal = problem.target(target)
    above = goal if give_up else math.inf
    pricing = ramp_upper(problem, goal, tol=tol, time_limit=time_limit, seeds=seeds, above=above)
    kappa = problem.upper(pricing.upper)
    return LipschitzBound(bound.lower(kappa), kappa / max(bound.floor, 1e-300), pricing, problem)


def _usable(rows: DistinctRows, multipliers: LipschitzMultipliers) -> LipschitzMultipliers:
    """The multipliers; zeros, which prove nothing, where they are not finite or their products would overflow."""
    arrays = (multipliers.nu, multipliers.linear, multipliers.root)
    reach = max(float(np.abs(rows.X).max(initial=0.0)), 1.0)
    largest = max(float(np.abs(part).max(initial=0.0)) for part in arrays)
    if all(np.isfinite(part).all() for part in arrays) and reach * largest <= HUGE:
        return multipliers
    return LipschitzMultipliers(*(np.zeros(part.shape) for part in arrays))


def pricing_problem(rows: DistinctRows, multipliers: LipschitzMultipliers) -> RampProblem:
    """The ramp problem of multipliers, with the rounding of ``R'x`` in its slack."""
    points = rows.X @ multipliers.root
    size = 2 * gamma(rows.X.shape[1] + 2) * norm_up(multipliers.root)
    return ramp_problem(points, multipliers.nu, multipliers.linear, size * row_norms_up(rows.X))


@dataclass(frozen=True)
class DualBound:
    """The bound as a function of a proved pricing maximum kappa: ``constant + linear^2 / (4 (loss + price c^2))``.

    ``c = max(kappa, floor)`` with ``floor = |h|``; ``price = |R^-1|_F^2 / lam`` is infinite for a singular R.
    """

    constant: float
    linear: float
    loss: float
    price: float
    floor: float

    @classmethod
    def of(cls, rows: DistinctRows, lam: float, multipliers: LipschitzMultipliers) -> DualBound:
        """Everything but kappa, rounded to the safe side."""
        n = len(rows.y)
        nu = multipliers.nu - multipliers.nu.mean()
        shifted = rows.y - rows.y[0]  # rounded relative to itself, which may be far more than what is left of it
        y = shifted - rows.weight @ shifted
        residue = abs(math.fsum(nu.tolist())) * float(np.abs(y).max())
        rounding = float(np.abs(nu) @ (4 * gamma(n + 8) * np.abs(y) + 4 * UNIT * np.abs(shifted)))
        rounding += 2 * float(np.abs(nu) @ rows.mean_error)
        loss = sum_up(np.nextafter(nu * nu / (4 * rows.weight), np.inf)) * (1 + 64 * UNIT)
        price = product_up(_inverse_norm(multipliers.root), _inverse_norm(multipliers.root), 1 / lam) * (1 + 4 * UNIT)
        linear = -float(nu @ y) - rounding - residue
        return cls(rows.proved_constant, linear, loss, price, norm_up(multipliers.linear))

    def lower(self, kappa: float) -> float:
        """The bound for a proved ``kappa``."""
        c = max(kappa, self.floor)
        total = self.loss + (self.price * c * c if c > 0 else 0.0)
        if not (self.linear > 0 and 0 < total < math.inf):
            return self.constant
        return self.constant + self.linear / total * self.linear / 4 * (1 - 16 * UNIT)

    def kappa_for(self, wanted: float) -> float:
        """Largest kappa that proves ``wanted``; zero when none does."""
        above = wanted - self.constant
        if not (above > 0 and self.linear > 0 and 0 < self.price < math.inf):
            return 0.0
        room = self.linear / above * self.linear / 4 - self.loss
        return math.sqrt(room / self.price) * (1 - 1e-12) if room > 0 else 0.0


def _inverse_norm(root: Array) -> float:
    """Upper bound on the Frobenius norm of the inverse; infinite where none can be proved."""
    with np.errstate(all="ignore"):
        try:
            inverse = np.linalg.inv(root)
        except np.linalg.LinAlgError:
            return math.inf
        if not np.isfinite(inverse).all():
            return math.inf
        rest = spectral_norm_up(np.eye(len(root)) - root @ inverse)
        rest += 4 * gamma(len(root) + 2) * norm_up(root) * norm_up(inverse)
    return norm_up(inverse) / (1 - rest) * (1 + 4 * UNIT) if rest < 1 else math.inf


def _check_shapes(rows: DistinctRows, multipliers: LipschitzMultipliers) -> None:
    n, d = rows.X.shape
    shapes = (multipliers.nu.shape, multipliers.linear.shape, multipliers.root.shape)
    if shapes != ((n,), (d,), (d, d)):
        raise InvalidInputError(
            f"multipliers have shapes {shapes}; expected {((n,), (d,), (d, d))} for {n} distinct rows of {d} inputs"
        )
