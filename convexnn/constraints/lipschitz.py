"""The Lipschitz penalty of a constrained program: LipSDP of units and a linear term, as numbers, cones and evidence.

The slope of ``f = sum_i relu-units u_i + a'x`` is ``(b_0 + sum_i e_i u_i) / 2`` with ``b_0 = 2 a + sum_i u_i`` and all
``|e_i| <= 1``: LipSDP of the rows ``b_0, u_1, ..., u_p`` bounds its length. The linear term costs no rows of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from convexnn.constraints.cones import PSD, ROOT, ZERO, Block
from convexnn.constraints.pieces import pieces_of
from convexnn.lipsdp import maximize
from convexnn.network import Network
from convexnn.restrictions.spectral import conjugate

if TYPE_CHECKING:
    import cvxpy

Array = NDArray[np.float64]

#: Weight of the squared biases at the mean of the inputs, a stated part of the objective: nothing else bounds them.
RIDGE = 1e-10
EPS = float(np.finfo(float).eps)


@dataclass(frozen=True)
class Spectral:
    """Multiplier of the penalty: a direction matrix and what multiplies the first row where no linear term fixes it.

    Attributes
    ----------
    matrix : array, shape (d, d), or None
    first : array, shape (d,), or None
    """

    matrix: Any = None
    first: Any = None

    def first_or_zero(self, d: int) -> Array:
        """What was given for the first row, zero where that is not d finite numbers."""
        found = _finite(self.first, (d,))
        return np.zeros(d) if found is None else found


def _finite(given: Any, shape: tuple[int, ...]) -> Array | None:
    """The array as float64 if it has this shape and finite numbers, else None."""
    array = np.asarray(given)
    if array.shape != shape or array.dtype.kind not in "biuf" or not np.isfinite(array.astype(np.float64)).all():
        return None
    return array.astype(np.float64)


def penalty(weights: Array, linear: Array, biases: Array, lam: float) -> float:
    """``lam LipSDP^2 + RIDGE |biases|^2`` of merged units (p, d), a linear term (d,) and any number of biases.

    Implements: docs/theory/shape_constraints.md, Proposition 9.
    """
    bound = maximize(np.vstack([2 * linear + weights.sum(axis=0), weights]), tol=1e-10).upper
    return lam * bound * bound + RIDGE * float(biases @ biases)


def network_penalty(network: Network, lam: float, mean: Array, X: Array) -> float:
    """The same of the unique form of a network: units on one hyperplane count as one, what is affine as that.

    Biases of kinks of one sign that separate the rows X (n, d) in the same way are summed by size before they are
    squared: a program has one unit for them, so that many small units instead of one cost nothing less.
    """
    form = pieces_of(network)
    rows = np.array([[float(jump * entry) for entry in row] for row, jump in form.kinks.items()])
    rows = rows.reshape(-1, network.n_inputs + 1)
    linear = np.array([float(entry) for entry in form.linear])
    sides = rows[:, :-1] @ X.T + rows[:, -1:] > 0
    positive = np.array([jump > 0 for jump in form.kinks.values()], dtype=bool)[:, None]
    cells = np.hstack([positive, sides ^ sides[:, :1]])
    _, cell = np.unique(cells, axis=0, return_inverse=True)
    biases = np.zeros(len(rows))
    np.add.at(biases, cell.ravel(), np.abs(rows[:, :-1] @ mean + rows[:, -1]))
    return penalty(rows[:, :-1], linear, biases, lam)


def conjugate_up(Z: Array, error: Array, first: Array, first_error: Array, lam: float, dual: Spectral) -> float:
    """Number k with ``penalty >= theta <Z, U> + 2 theta first'a - theta^2 k`` for all units, linear terms and theta.

    It holds for all Z and first that differ by at most their errors, whatever the multiplier.

    Parameters
    ----------
    Z, error : array, shape (p, d + 1)
        Biases at the mean in the last column.
    first, first_error : array, shape (d,)
        Half of what multiplies the linear term.
    lam : float
    dual : Spectral
    """
    d = len(first)
    P = np.vstack([first, Z[:, :-1] - first])
    wrong = np.vstack([first_error, error[:, :-1] + first_error]) + 2 * EPS * np.abs(P)
    try:
        value = conjugate(P, _finite(dual.matrix, (d, d)), lam, None, wrong)
    except np.linalg.LinAlgError:
        return np.inf
    bias = np.abs(Z[:, -1]) + error[:, -1]
    found = (value + 0.25 * float(bias @ bias) / RIDGE) * (1 + (len(Z) + 64) * (d + 8) * EPS)
    return found if np.isfinite(found) else np.inf


def stated(units: Any, linear: Any, mean: Array, lam: float) -> tuple[Any, list[cvxpy.Constraint]]:
    """Penalty and its matrix inequality for expressions of all units (p, d + 1) and a linear term.

    Implements: docs/theory/shape_constraints.md, Proposition 9.
    """
    import cvxpy as cp

    d, p = len(mean), units.shape[0]
    q = cp.Variable(p + 1)
    first = cp.reshape(2 * linear + cp.sum(units[:, :d], axis=0), (1, d), order="C")
    B = cp.vstack([first, units[:, :d]])
    lmi = cp.bmat([[np.eye(d), B.T / 2], [B / 2, cp.diag(q)]]) >> 0
    ridge = RIDGE * cp.sum_squares(units @ np.append(mean, 1.0))
    return lam * cp.sum(q) + ridge, [lmi.set_label("lmi")]


def read_stated(multiplier: Any, d: int) -> Spectral:
    """Multiplier of the inequality of :func:`stated`."""
    return Spectral() if multiplier is None else Spectral(multiplier[:d, :d], multiplier[d, :d])


def cones(at: Any, level: float, mean: Array) -> list[Block]:
    """The inequality as one small matrix a row: ``[[Y_i, b_i / 2], [b_i' / 2, q_i]] >= 0``, ``sum_i Y_i <= level I``.

    The matrix of Proposition 9 is an arrow, so it is semidefinite when and only when it is such a sum; with ``level``
    in place of one, q is that of the proposition divided by it. Y by upper triangles, entries off the diagonal times
    the root of two.

    Parameters
    ----------
    at : Columns
        With columns "Y" (p + 1, d (d + 1) / 2), "q" (p + 1,) and "beta" (p,).
    level : float
    mean : array, shape (d,)
    """
    layout, d = at.layout, len(mean)
    rows, half = layout.structure.D.shape[1] + 1, d * (d + 1) // 2
    each, units = sparse.eye_array(rows), sparse.eye_array(layout.units)
    all_units = sparse.vstack([sparse.kron(units, M[:, :d].T) for M in layout.moves])
    total = sparse.kron(np.ones((1, rows - 1)), sparse.eye_array(d)) @ all_units
    half_b = sparse.kron(each, np.vstack([np.zeros((half, d)), 0.5 * ROOT * np.eye(d), np.zeros((1, d))]))
    parts: dict[str, Any] = {
        "Y": sparse.kron(each, np.eye(half + d + 1, half)),
        "q": sparse.kron(each, np.eye(half + d + 1)[:, -1:]),
        "U": half_b @ sparse.vstack([total, all_units]),
    }
    if layout.skip:
        parts["a"] = half_b @ sparse.vstack([2 * sparse.eye_array(d), sparse.csc_array((d * (rows - 1), d))])
    identity = np.eye(d)[np.tril_indices(d)]
    biases = sparse.vstack([sparse.kron(units, (M @ np.append(mean, 1.0))[None]) for M in layout.moves])
    return [
        Block("arrows", PSD, at.rows(**parts), np.zeros(rows * (half + d + 1)), d + 1),
        Block("budget", PSD, at.rows(Y=-sparse.kron(np.ones((1, rows)), np.eye(half))), level * identity, d),
        Block("biases", ZERO, at.rows(U=biases, beta=-sparse.eye_array(rows - 1)), np.zeros(rows - 1)),
    ]
