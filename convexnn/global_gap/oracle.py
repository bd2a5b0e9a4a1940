"""Upper bounds on kappa by whatever method suits the rank of the data."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.global_gap.boxes import kappa_boxes
from convexnn.global_gap.kappa import KappaBracket, ReducedRows, power_of_two, reduce_rows, response
from convexnn.global_gap.signs import kappa_signs
from convexnn.inputs import positive_number, seconds_or_none

Array = NDArray[np.float64]

#: Largest rank for boxes; above, branching on the signs of pre-activations takes over.
BOX_RANK = 8


def kappa_upper(
    X: Array,
    nu: Array,
    *,
    target: float = 0.0,
    tol: float = 1e-3,
    time_limit: float | None = None,
    stop_above: bool = False,
) -> KappaBracket:
    """Bracket of ``max_{|w| <= 1} |sum_i nu_i relu(x_i'w)|``, in the coordinates of X.

    Parameters
    ----------
    X : array, shape (n, d)
        Rows with their bias entry, if any.
    nu : array, shape (n,)
    target, tol, time_limit, stop_above
        As for :func:`convexnn.global_gap.boxes.kappa_boxes`.

    Returns
    -------
    KappaBracket
        ``upper`` is proved whenever the search ends; ``lower`` is the value at the first direction.
    """
    target, tol = positive_number(target, "target", zero=True, infinite=True), positive_number(tol, "tol", zero=True)
    time_limit = seconds_or_none(time_limit)
    a, b = power_of_two(X), power_of_two(nu)
    if (a, b) != (1.0, 1.0):
        options: dict[str, Any] = {"tol": tol, "time_limit": time_limit, "stop_above": stop_above}
        return kappa_upper(X / a, nu / b, target=target / a / b, **options).times(a, b)
    reduced = reduce_rows(X, nu)
    goal = max(reduced.target(target), 0.0)
    found = _bracket(reduced, goal, tol, time_limit, stop_above)
    directions = found.directions @ reduced.basis
    size = np.linalg.norm(directions, axis=1, keepdims=True)
    directions = directions / np.where(size > 0, size, 1.0)
    values = found.signs * response(X, nu, directions)
    order = np.argsort(-values, kind="stable")
    return KappaBracket(
        upper=reduced.upper(found.upper),
        lower=float(values.max(initial=0.0)),
        directions=directions[order],
        signs=found.signs[order],
        nodes=found.nodes,
        status=found.status,
    )


def _bracket(
    reduced: ReducedRows, target: float, tol: float, time_limit: float | None, stop_above: bool
) -> KappaBracket:
    if not np.isfinite(reduced.rows).all() or not math.isfinite(reduced.slack):
        return KappaBracket(math.inf, 0.0, np.zeros((0, reduced.rank)), np.zeros(0), 0, "time_limit")
    method = kappa_boxes if reduced.rank <= BOX_RANK else kappa_signs
    return method(reduced.rows, reduced.nu, target=target, tol=tol, time_limit=time_limit, stop_above=stop_above)
