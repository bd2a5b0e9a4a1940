"""Linear programs over a polytope (HiGHS): they propose multipliers and points, and prove nothing."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog
from scipy.sparse import block_diag

Array = NDArray[np.float64]

TOGETHER = 400  # rows of programs that are solved at once
OPTIMAL, INFEASIBLE = 0, 2


def highest(rows: tuple[Array, Array], U: Array, box: tuple[Array, Array] | None) -> tuple[Array, Array, int]:
    """Multipliers (n, m) and points (n, d) of ``max u.x`` over ``{x : A x <= b}``, within a box if there is one.

    Programs are stacked, because a call costs more than a small program.

    Returns
    -------
    lam : array, shape (n, m)
        Zero where no optimum was found.
    X : array, shape (n, d)
        NaN where no optimum was found.
    status : int
        Of scipy's ``linprog``: 0 all optimal, 2 infeasible, 3 unbounded; the worst.
    """
    A, b = rows
    m, d = A.shape
    lam, X, status = np.zeros((len(U), m)), np.full((len(U), d), np.nan), OPTIMAL
    step = max(TOGETHER // max(m, 1), 1)
    for start in range(0, len(U), step):
        part = U[start : start + step]
        k = len(part)
        scale = np.maximum(np.abs(part).max(axis=1), np.finfo(float).tiny)
        ends: Any = (None, None) if box is None else np.tile(np.stack(box, axis=1), (k, 1))
        stacked: Any = block_diag([A] * k, format="csc")
        cost = -(part / scale[:, None]).ravel()
        found = linprog(cost, A_ub=stacked, b_ub=np.tile(b, k), bounds=ends, method="highs-ds")
        status = max(status, int(found.status))
        if found.status == OPTIMAL and found.x is not None:
            lam[start : start + k] = np.maximum(-np.reshape(found.ineqlin.marginals, (k, m)), 0.0) * scale[:, None]
            X[start : start + k] = found.x.reshape(k, d)
    return lam, X, status


def inner_point(rows: tuple[Array, Array], box: tuple[Array, Array]) -> Array | None:
    """Center of the largest ball inside of a polytope, shape (d,); None where there is no point."""
    A, b = rows
    d = A.shape[1]
    sides, ends = np.vstack([A, np.eye(d), -np.eye(d)]), np.concatenate([b, box[1], -box[0]])
    lengths = np.linalg.norm(sides, axis=1)
    found = linprog(
        np.r_[np.zeros(d), -1.0], A_ub=np.column_stack([sides, lengths]), b_ub=ends,
        bounds=[(None, None)] * d + [(0.0, None)], method="highs-ds",
    )  # fmt: skip
    return None if found.x is None or found.status != OPTIMAL else np.asarray(found.x[:d])
