"""Crossing the boundaries on which a solved network lies, where its multipliers say that it pays."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.restrictions.cones import least_distance
from convexnn.restrictions.units import relative_slack
from convexnn.search.task import Cells, SearchPoint

Array = NDArray[np.float64]
Bool = NDArray[np.bool_]

#: Relative size of a pre-activation that counts as zero, and of a gain that counts as one.
TIE, GAIN = 1e-6, 1e-7
#: How far a flipped unit is moved into its new cell, relative to its size.
INSIDE = 1e-7
#: Rows of one unit that are flipped one by one when they cannot be flipped together.
MOST = 20


def flip_gains(point: SearchPoint) -> Array:
    r"""``L_ki - s_i p_k``: first-order gain of moving unit i over the boundary of row k, shape (n, p).

    At a solution with multipliers L of the rows and p of the predictions, the program with row k of unit i flipped
    is solved by the same point when ``s_i p_k - L_ki >= 0``, which then is the multiplier there. So with
    ``0 <= L_ki <= s_i p_k`` on every row that a unit touches the network is a local minimum of the training
    objective over merged units; where that fails, flipping can go down.

    Implements: docs/theory/pattern_search.md, Proposition 1.

    Returns
    -------
    array, shape (n, p)
        Zero on rows that the unit does not touch; zero without multipliers.
    """
    cells, dual, s = point.cells, point.solution.dual, point.structure
    if dual is None:
        return np.zeros(cells.D.shape)
    touched = (np.abs(relative_slack(s.X, s.S, cells.U)) <= TIE) & point.alive & (s.S != 0)
    gains: Array = np.where(touched, dual.rows - cells.s * point.slopes[:, None], 0.0)
    return gains


def flipped(point: SearchPoint) -> tuple[Cells, int]:
    """Living units in the neighbouring cells that pay, and the number of rows flipped.

    Only cells with an interior are proposed: where the rows that pay cannot be flipped together, they are flipped one
    by one, the largest gain first, as long as a unit with that pattern exists. The units are moved a little into
    their cells, so the point is feasible there up to 1e-7.
    """
    cells, s = point.cells.select(point.alive), point.structure
    gains = flip_gains(point)[:, point.alive]
    slack = np.abs(relative_slack(s.X, np.ones(cells.D.shape), cells.U))
    touched, paying = slack <= TIE, gains > GAIN * np.abs(point.slopes).max(initial=0.0)
    unit_rows = s.X / np.linalg.norm(s.X, axis=1)[:, None]
    D, U, count = cells.D.copy(), cells.U.copy(), 0
    for i in np.flatnonzero(touched.any(axis=0)):
        rows = np.flatnonzero(touched[:, i])
        order = rows[np.argsort(-gains[rows, i], kind="stable")]
        column, direction = _crossed(unit_rows, rows, D[:, i], order[paying[order, i]])
        if direction is not None:
            count += int((column != D[:, i]).sum())
            D[:, i] = column
            length = INSIDE * float(np.linalg.norm(U[i])) / max(float(np.linalg.norm(direction)), 1e-300)
            U[i] += cells.s[i] * length * direction
    return Cells(D, cells.s, U), count


def _crossed(X: Array, rows: NDArray[np.intp], column: Bool, wanted: NDArray[np.intp]) -> tuple[Bool, Array | None]:
    """Pattern with as many wanted rows flipped as one cell allows, and a direction into that cell (None: no cell)."""
    trial = column.copy()
    trial[wanted] = ~trial[wanted]
    direction = _inward(X, rows, trial)
    if direction is not None:
        return trial, direction
    direction = _inward(X, rows, column)
    for k in wanted[:MOST]:
        trial = column.copy()
        trial[k] = not trial[k]
        found = _inward(X, rows, trial)
        if found is not None:
            column, direction = trial, found
    return column, direction


def _inward(X: Array, rows: NDArray[np.intp], column: Bool) -> Array | None:
    """Direction w with ``(2 D_k - 1) x_k'w > 0`` on the touched rows, or None when no unit has these sides."""
    signs = np.where(column[rows], 1.0, -1.0)
    return least_distance(signs[:, None] * X[rows], np.ones(len(rows)))
