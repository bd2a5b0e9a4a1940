r"""A global lower bound from one conic program: multipliers and a proof that bounds their kappa, both at once.

``max -nu'y - sum_k nu_k^2 / (4 om_k)`` over nu and, for both signs of F, separable quadratic majorants on the unit ball
that keep it below ``2 lam``. Subadditivity, ``relu(x_i'w) <= t relu(x_j'w) + relu((x_i - t x_j)'w)``, adds directions
in which close rows of opposite multipliers cancel. The solver's value is not used: the bound is recomputed from nu and
the majorants. Source: docs/theory/global_gap.md, Proposition 4.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import sparse

from convexnn.global_gap.kappa import KappaBracket
from convexnn.global_gap.l2_bound import DualBound, GlobalBound, centred, homogeneous
from convexnn.global_gap.signs_majorants import Majorant, Piece, majorant_bound
from convexnn.inputs import whole_number
from convexnn.memory import require_memory
from convexnn.restrictions.base import positive
from convexnn.restrictions.rows import DistinctRows, distinct_rows
from convexnn.rigorous import UNIT, row_norms_up, sum_up
from convexnn.values import ByValue

Array = NDArray[np.float64]
IntArray = NDArray[np.intp]

#: What a program too large for this machine is told.
SMALLER = "Use l2_global_bound with a trained network, which solves no program, or neighbours=0"


@dataclass(frozen=True, eq=False)
class Cuts(ByValue):
    """Inequalities ``relu(x_i'w) <= t relu(x_j'w) + relu((x_i - t x_j)'w)``, one for each pair (i, j).

    Parameters
    ----------
    i, j : array of int, shape (e,)
    t : array, shape (e,)
        Nonnegative.
    """

    i: IntArray
    j: IntArray
    t: Array

    @staticmethod
    def nearest(X: Array, neighbours: int) -> Cuts:
        """Pairs of every row with its nearest rows by angle, t such that the difference is orthogonal."""
        size = np.maximum(np.linalg.norm(X, axis=1), np.finfo(float).tiny)
        cosine = (X / size[:, None]) @ (X / size[:, None]).T
        np.fill_diagonal(cosine, -np.inf)
        count = min(neighbours, len(X) - 1)
        j = np.argsort(-cosine, axis=1, kind="stable")[:, :count].ravel()
        i = np.repeat(np.arange(len(X)), count)
        t = np.maximum(cosine[i, j] * size[i] / size[j], 0.0)
        return Cuts(i[t > 0], j[t > 0], t[t > 0])

    def rows(self, X: Array) -> Array:
        """All directions: the rows, then the differences, shape (n + e, d)."""
        return np.vstack([X, X[self.i] - self.t[:, None] * X[self.j]])

    def coefficients(self, n: int) -> Any:
        """Sparse matrix (n + e, e): what one unit of each cut adds to the coefficients."""
        e = np.arange(len(self.t))
        values = np.concatenate([-np.ones(len(e)), self.t, np.ones(len(e))])
        index = np.concatenate([self.i, self.j, n + e])
        return sparse.csr_array((values, (index, np.tile(e, 3))), shape=(n + len(e), len(e)))


@dataclass(frozen=True, eq=False)
class BallProof(ByValue):
    """Why ``F_c(w) <= bound`` on the unit ball: weights of the cuts and a majorant of what they make of F.

    Parameters
    ----------
    pairs : array, shape (e,)
        Weights of the cuts; negative ones are clipped.
    quadratic, linear : array, shape (n + e,)
    """

    pairs: Array
    quadratic: Array
    linear: Array


def proved_kappa(X: Array, nu: Array, cuts: Cuts, proofs: tuple[BallProof, BallProof]) -> float:
    """Upper bound on kappa(nu) from any numbers in the two proofs (for F and for -F).

    Implements: docs/theory/global_gap.md, Proposition 4.
    """
    rows = cuts.rows(X)
    size = np.nextafter(row_norms_up(rows), np.inf)
    piece = Piece(np.zeros(len(rows)), -size, size)
    return max(_proved(X, sign * nu, cuts, proof, piece, rows) for sign, proof in zip((1.0, -1.0), proofs, strict=True))


def _proved(X: Array, c: Array, cuts: Cuts, proof: BallProof, piece: Piece, rows: Array) -> float:
    if not all(np.isfinite(part).all() for part in (c, proof.pairs, proof.quadratic, proof.linear)):
        return math.inf
    pairs = np.maximum(proof.pairs, 0.0)
    whole = np.concatenate([c, np.zeros(len(pairs))]) + cuts.coefficients(len(X)) @ pairs
    bound = majorant_bound(rows, whole, piece, Majorant(proof.quadratic, proof.linear, np.zeros((0, 0))))
    length = row_norms_up(X)
    reach = length[cuts.i] + cuts.t * length[cuts.j]
    absolute = np.concatenate([np.abs(c), np.zeros(len(pairs))]) + abs(cuts.coefficients(len(X))) @ pairs
    rounding = 16.0 * (len(X) + 8) * UNIT * (float(absolute @ row_norms_up(rows)) + float(pairs @ reach))
    return sum_up([bound, rounding])


def best_dual_point(
    X: ArrayLike,
    y: ArrayLike,
    lam: float,
    *,
    sample_weight: ArrayLike | None = None,
    neighbours: int = 4,
) -> GlobalBound:
    """Global lower bound on weight decay training from one small conic program, for every rank and width.

    Implements: docs/theory/global_gap.md, Proposition 4.

    Parameters
    ----------
    X : array-like, shape (n, d)
    y : array-like, shape (n,)
    lam : float
    sample_weight : array-like, shape (n,), optional
    neighbours : int
        Subadditivity cuts a row; 0 for none. More of them prove more and cost more.

    Returns
    -------
    GlobalBound
        Recomputed from the multipliers that the solver found; the trivial bound when it failed.

    Raises
    ------
    SolverError
        When this machine could not hold the program.
    """
    cuts = whole_number(neighbours, "neighbours", 0)
    return relaxed_bound(distinct_rows(X, y, sample_weight), positive(lam, "lam"), cuts)


def relaxed_bound(rows: DistinctRows, lam: float, neighbours: int = 4) -> GlobalBound:
    """:func:`best_dual_point` on distinct rows."""
    X = homogeneous(rows)
    cuts = Cuts.nearest(X, neighbours)
    found = _solve(X, rows, lam, cuts)
    if found is None:
        nu, upper = np.zeros(len(X)), math.inf
    else:
        nu = centred(rows, found[0])
        upper = proved_kappa(X, nu, cuts, found[1])
    lower = DualBound.of(rows, lam, nu).lower(upper)
    kappa = KappaBracket(upper, 0.0, np.zeros((0, X.shape[1])), np.zeros(0), 1, "relaxed")
    return GlobalBound(lower, kappa, nu)


def _solve(X: Array, rows: DistinctRows, lam: float, cuts: Cuts) -> tuple[Array, tuple[BallProof, BallProof]] | None:
    """The conic program in units of the data; None when the solver fails."""
    import cvxpy as cp

    y = rows.y - rows.weight @ rows.y
    width, height = float(np.linalg.norm(X, axis=1).max()), float(np.abs(y).max())
    if height == 0:
        return None
    basis = np.linalg.svd(X, full_matrices=False)[2]
    Y = cuts.rows(X) @ basis.T / width
    nu = cp.Variable(len(X))
    limit = 2 * lam / (width * height)
    blocks = [_Ball(Y, sign * nu, cuts.coefficients(len(X)), limit) for sign in (1.0, -1.0)]
    value = nu @ (y / height) + 0.25 * cp.sum(cp.multiply(1 / rows.weight, cp.square(nu)))
    constraints = [cp.sum(nu) == 0, *blocks[0].constraints, *blocks[1].constraints]
    problem = cp.Problem(cp.Minimize(value), constraints)
    require_memory(problem, "clarabel", SMALLER)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # an inaccurate solution proves less, and says so by its bound
            problem.solve(solver=cp.CLARABEL)
    except cp.error.SolverError:
        return None
    if nu.value is None or blocks[0].al.value is None:
        return None
    # quadratic terms act on x'w / width, F is in units of width * height
    proofs = [block.proof(height / width, height) for block in blocks]
    return height * np.asarray(nu.value), (proofs[0], proofs[1])


class _Ball:
    """Constraints that keep ``sum c_i relu(y_i'w) <= limit`` on the unit ball."""

    def __init__(self, Y: Array, c: Any, coefficients: Any, limit: float) -> None:
        import cvxpy as cp

        N, d = Y.shape
        e = coefficients.shape[1]
        size = np.linalg.norm(Y, axis=1)
        self.al, self.be, de, rho = cp.Variable(N), cp.Variable(N), cp.Variable(N), cp.Variable()
        low, high = cp.Variable(N, nonneg=True), cp.Variable(N, nonneg=True)
        self.pairs = cp.Variable(e, nonneg=True) if e else None
        whole = cp.hstack([c, np.zeros(e)]) if e else c
        if self.pairs is not None:
            whole = whole + coefficients @ self.pairs
        up = self.be - whole - cp.multiply(size, high)
        down = self.be + cp.multiply(size, low)
        squares = sparse.csr_array(np.einsum("ij,ik->jki", Y, Y).reshape(d * d, N))
        K = rho * np.eye(d) - cp.reshape(squares @ self.al, (d, d), order="C")
        g = cp.reshape(Y.T @ self.be, (d, 1), order="C")
        corner = cp.reshape(limit - cp.sum(de) - rho, (1, 1), order="C")
        self.constraints = [
            cp.SOC(self.al + high + de, cp.vstack([up, self.al + high - de]), axis=0),
            cp.SOC(self.al + low + de, cp.vstack([down, self.al + low - de]), axis=0),
            cp.bmat([[K, -0.5 * g], [-0.5 * g.T, corner]]) >> 0,
        ]

    def proof(self, quadratic: float, linear: float) -> BallProof:
        """The solver's multipliers in the data's units."""
        pairs = np.zeros(0) if self.pairs is None else linear * np.asarray(self.pairs.value)
        return BallProof(pairs, quadratic * np.asarray(self.al.value), linear * np.asarray(self.be.value))
