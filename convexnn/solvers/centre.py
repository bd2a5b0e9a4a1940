"""Strictly interior points of the units' cones: analytic centres, widest points, and row weights.

The cone of a unit is ``{u : S_k x_k'u >= 0 for all rows k}``. All units are handled at once in batched Newton
steps; only a unit that resists gets a linear program of its own.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linprog

from convexnn.solvers.cone_problem import ConeProblem

Array = NDArray[np.float64]

#: A cone whose widest point has a smaller relative slack counts as having no interior.
THINNEST_CONE = 1e-11
#: Up to so many units go straight to their linear programs.
FEW_UNITS = 8
#: Rows whose inverse Gram matrix, diagonal scaled to one, has larger entries count as collinear.
COLLINEAR = 1e6


def interior_points(problem: ConeProblem, start: Array) -> tuple[Array, NDArray[np.bool_]]:
    """Strictly interior directions of all cones, from a start that may lie on the boundary.

    Parameters
    ----------
    problem : ConeProblem
        Rows and units.
    start : array, shape (d + 1, p)
        Kept, up to length, wherever it is strictly inside.

    Returns
    -------
    points : array, shape (d + 1, p)
        Unit directions, strictly inside their cones where ``found``.
    found : array of bool, shape (p,)
        False for a unit whose cone has no interior.
    """
    points = _directions(problem, start)
    outside = problem.slack(points).min(axis=0) <= 0
    if outside.sum() > FEW_UNITS:
        separated = _directions(problem, _squared_hinge_separator(problem))
        points = np.where(outside, separated, points)
    found = np.ones(problem.p, dtype=bool)
    for i in np.flatnonzero(problem.slack(points).min(axis=0) <= 0):
        widest = _widest_point(problem, int(i))
        found[i] = widest is not None
        if widest is not None:
            points[:, i] = widest
    return points, found


def _directions(problem: ConeProblem, start: Array) -> Array:
    """Unit vectors; a zero column becomes the sum of its cone rows (or of all rows when it has none)."""
    rows = problem.row_adjoint(np.ones((problem.n, problem.p)))
    rows = np.where(np.abs(rows).max(axis=0) > 0, rows, problem.X.mean(axis=0)[:, None] + 1e-3)
    # dividing by the largest entry first keeps the norm of huge and tiny units finite
    largest = np.abs(start).max(axis=0)
    vectors = np.where(largest > 0, start / np.where(largest > 0, largest, 1.0), rows)
    return np.asarray(vectors / np.linalg.norm(vectors, axis=0))


def _squared_hinge_separator(problem: ConeProblem, steps: int = 20, ridge: float = 1e-12) -> Array:
    """Damped Newton on ``sum_k max(0, 1 - S_k x_k'w / |x_k|)^2 + ridge |w|^2``, all units at once.

    Stops once no hinge exceeds 0.9, so that every row has a positive slack.
    """
    scale = 1 / np.maximum(np.linalg.norm(problem.X, axis=1), 1e-300)[:, None]
    w: Array = np.zeros((problem.d1, problem.p))
    margin: Array = np.where(problem.is_row, 1.0, -1.0)
    for _ in range(steps):
        hinge = np.maximum(margin, 0.0)
        if hinge.max(initial=0.0) < 0.9:
            break
        right = problem.row_adjoint(scale * hinge) - ridge * w
        gram = problem.gram((margin > 0) * scale**2) + ridge * np.eye(problem.d1)
        step = np.asarray(np.linalg.solve(gram, right.T[:, :, None])[:, :, 0].T, dtype=float)
        change = scale * problem.row_change(step)
        lengths = 0.5 ** np.arange(6)
        values = [(np.maximum(margin - t * change, 0.0) ** 2).sum(axis=0) for t in lengths]
        best = lengths[np.argmin(values, axis=0)]
        w, margin = w + best * step, margin - best * change
    return w


def _widest_point(problem: ConeProblem, i: int) -> Array | None:
    """Direction with the largest smallest slack per row norm (one small LP); None without interior."""
    problem.pulse()
    rows = problem.is_row[:, i]
    signed = problem.S[rows, i][:, None] * problem.X[rows]
    signed /= np.linalg.norm(signed, axis=1)[:, None]
    cost = np.zeros(problem.d1 + 1)
    cost[-1] = -1.0
    result = linprog(
        cost,
        A_ub=np.hstack([-signed, np.ones((len(signed), 1))]),
        b_ub=np.zeros(len(signed)),
        bounds=[(-1, 1)] * problem.d1 + [(0, 1)],
        method="highs",
    )
    if result.x is None or result.x[-1] <= THINNEST_CONE:
        return None
    point: Array = result.x[:-1]
    inside = problem.S[:, i] * (problem.X @ point)
    return point / np.linalg.norm(point) if inside[rows].min() > 0 else None


def analytic_centres(problem: ConeProblem, points: Array, *, max_iter: int = 200, decrement: float = 0.3) -> Array:
    """Minimizers of ``-sum_k log(S_k x_k'w) + n/2 |w|^2``, all units at once.

    Damped Newton with an exact line search, until every squared Newton decrement is below ``decrement``.

    Parameters
    ----------
    problem : ConeProblem
        Rows and units.
    points : array, shape (d + 1, p)
        Strictly interior directions.

    Returns
    -------
    array, shape (d + 1, p)
        Strictly interior; a unit without rows keeps its direction.
    """
    w, slack = points, problem.slack(points)
    with_rows = problem.is_row.any(axis=0)
    for _ in range(max_iter):
        gradient, step = _newton_step(problem, w, slack)
        step = np.where(with_rows, step, 0.0)
        squared_decrement = -(step * gradient).sum(axis=0)
        length = _line_search(problem, w, step, slack, exact=bool(squared_decrement.max() > 0.5))
        w, slack = _accept(problem, w, length * step, slack)
        if squared_decrement.max() < decrement:
            break
    return w


def _newton_step(problem: ConeProblem, w: Array, slack: Array) -> tuple[Array, Array]:
    n = problem.n
    gradient = n * w - problem.row_adjoint(1 / slack)
    hessian = problem.gram(problem.is_row / slack**2) + n * np.eye(problem.d1)
    scale = np.sqrt(np.einsum("iaa->ia", hessian))
    scaled = hessian / scale[:, :, None] / scale[:, None, :] + 1e-14 * np.eye(problem.d1)
    solution = np.linalg.solve(scaled, (gradient.T / scale)[:, :, None])[:, :, 0]
    return gradient, -(solution / scale).T


def _line_search(problem: ConeProblem, w: Array, step: Array, slack: Array, *, exact: bool) -> Array:
    """Step length of each unit, shape (p,); scalar Newton iterations on the barrier along the step."""
    n = problem.n
    ratio = problem.row_change(step) / slack
    longest = 0.99 / np.maximum(-ratio.min(axis=0), 1e-12)
    length = np.minimum(1.0, 0.9 * longest)
    if not exact:
        return np.asarray(length)
    slope, curvature = n * (w * step).sum(axis=0), n * (step * step).sum(axis=0)
    for _ in range(4):
        q = ratio / (1 + length * ratio)
        second = np.maximum(curvature + (q * q).sum(axis=0), 1e-300)
        change = (slope + curvature * length - q.sum(axis=0)) / second
        length = np.minimum(np.maximum(length - change, 1e-3 * length), longest)
    return np.asarray(length)


def _accept(problem: ConeProblem, w: Array, move: Array, slack: Array) -> tuple[Array, Array]:
    """Move; a unit that left its cone by roundoff stays where it was."""
    new_slack = problem.slack(w + move)
    inside = new_slack.min(axis=0) > 0
    return np.where(inside, w + move, w), np.where(inside, new_slack, slack)


def row_weights(problem: ConeProblem, centre: Array) -> Array:
    """Weights of the cone rows on the central path, shape (n, p), summing to the number of variables.

    Square roots of the leverage scores of the rows at the analytic centre: they make the path nearly straight
    when 10^5 rows stand against one matrix inequality of degree 100.
    """
    slack = problem.slack(centre)
    leverage = _leverage(problem, slack)
    weights = np.sqrt(np.maximum(leverage, 0.1 * problem.d1 / problem.n)) * problem.is_row
    total = weights.sum()
    return np.asarray(weights * (problem.size / total) if total > 0 else weights)


def _leverage(problem: ConeProblem, slack: Array) -> Array:
    """``g_ki'(G_i'G_i)^-1 g_ki`` of the rows ``g_ki = x_k / slack_ki``, shape (n, p)."""
    gram = problem.gram(problem.is_row / slack**2)
    # equilibrated, since feature columns may differ by many orders of magnitude
    diagonal = np.einsum("iaa->ia", gram)
    scale = np.sqrt(np.where(diagonal > 0, diagonal, 1.0))
    shifted = gram / scale[:, :, None] / scale[:, None, :] + 1e-12 * np.eye(problem.d1)
    inverse = np.linalg.inv(shifted)
    collinear = np.einsum("iaa->ia", inverse).max(axis=1) > COLLINEAR
    inverse = inverse / scale[:, :, None] / scale[:, None, :]
    a, b = problem.upper
    quadratic: Array = problem.products @ (inverse[:, a, b] * np.where(a == b, 1, 2)).T
    for i in np.flatnonzero(collinear):
        # the quadratic form cancels to roundoff where the inverse is huge; a sum of squares does not
        values, vectors = np.linalg.eigh(shifted[i])
        whitened = (problem.X / scale[i]) @ (vectors / np.sqrt(np.maximum(values, 1e-12)))
        quadratic[:, i] = np.einsum("ka,ka->k", whitened, whitened)
    return quadratic / slack**2


def moved_inside(problem: ConeProblem, U: Array, centre: Array) -> Array | None:
    """Units outside of their cones moved along their centres, so that no negative slack stays; None when one does.

    A unit moves twice as far as it has to: where a pattern was flipped at a row that nearly touched the boundary, the
    slack of that row changes its sign and keeps its size.
    """
    if U.shape != centre.shape or not np.isfinite(U).all():
        return None
    slack, toward = problem.slack(U), problem.slack(centre)
    missing = np.where(problem.is_row, np.maximum(-slack, 0.0) / toward, 0.0).max(axis=0)
    moved: Array = U + 2 * missing * centre
    return moved if problem.slack(moved).min(initial=1.0) > 0 else None
