"""Distance to a quadratic decision boundary as a semidefinite program: what the fast form is held against."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.memory import require_memory
from convexnn.quadratic.form import QuadraticForm

Array = NDArray[np.float64]


def distance_program(form: QuadraticForm, x: ArrayLike, sign: float) -> Any:
    """The program ``max t`` whose value is the squared distance of x to ``s f <= 0``, in cvxpy.

        max t   s.t.  gamma >= 0,  [[I + gamma s Q, gamma g], [gamma g', gamma s f(x) - t]] >= 0,   g = s (Q x + q)

    This is the program of the paper after moving the origin to x, a congruence of the matrix.

    Implements: Kuelbs, Lall and Pilanci (2024), Appendix C.

    Parameters
    ----------
    form : QuadraticForm
    x : array, shape (d,)
        Classified right: ``s f(x) > 0``.
    sign : float
        -1 or +1.

    Returns
    -------
    cvxpy.Problem
        Unbounded where there is no boundary.
    """
    import cvxpy as cp

    point = np.asarray(x, dtype=float)
    slope = sign * (form.Q @ point + form.q)
    t, gamma = cp.Variable(), cp.Variable(nonneg=True)
    corner = cp.reshape(gamma * (sign * form.values(point[None])[0]) - t, (1, 1), order="C")
    side = cp.reshape(gamma * slope, (len(point), 1), order="C")
    lower = cp.bmat([[np.eye(len(point)) + gamma * sign * form.Q, side], [side.T, corner]])
    return cp.Problem(cp.Maximize(t), [lower >> 0])


def distance_by_sdp(form: QuadraticForm, X: ArrayLike, signs: ArrayLike) -> Array:
    """Distances (n,) of samples to ``s f <= 0``, one semidefinite program each; slow, the reference of tests.

    Samples that are not classified right have distance 0.
    """
    points = np.asarray(X, dtype=float)
    s = np.broadcast_to(np.asarray(signs, dtype=float), len(points))
    return np.array([_one(form, x, sign) for x, sign in zip(points, s, strict=True)])


def _one(form: QuadraticForm, x: Array, sign: float) -> float:
    margin, slope = sign * float(form.values(x[None])[0]), sign * (form.Q @ x + form.q)
    if margin <= 0:
        return 0.0
    unit = margin / max(float(np.linalg.norm(slope)), 1e-3)  # in these units margin and slope are one: well conditioned
    scaled = QuadraticForm(form.Q * unit**2 / margin, sign * slope * unit / margin, sign)
    program = distance_program(scaled, np.zeros(len(x)), sign)
    require_memory(program, "clarabel", "Use distance_to_boundary, which is exact without a semidefinite program")
    program.solve(solver="CLARABEL", tol_gap_abs=1e-9, tol_gap_rel=1e-9, tol_feas=1e-9)
    return unit * float(np.sqrt(max(program.value, 0.0)))
