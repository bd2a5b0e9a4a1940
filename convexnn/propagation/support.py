"""Support functions of boxes and balls with outward rounding, and how far a clipped ray stays in a ball."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.rigorous import gamma, row_norms_up

Array = NDArray[np.float64]

TINY = float(np.finfo(float).tiny)
#: Newton steps (safeguarded by bisection) to the level of :func:`fill`; about five are needed.
NEWTON_STEPS = 60
#: Stands for infinity there.
FAR = 1e250


def over_box(A: Array, b: Array, low: Array, high: Array) -> Array:
    """Upper bounds on ``max A x + b`` for ``low <= x <= high``, finite corners (d,), rounded up, shape (q,); maybe nan.

    They also hold for every matrix whose entries differ from A by ``2**-53 |A|``.
    """
    middle = np.clip(low + 0.5 * (high - low), low, high)
    half = np.where(high > low, np.nextafter(np.maximum(high - middle, middle - low), np.inf), 0.0)
    sums = np.abs(A) @ np.stack([half, np.maximum(np.abs(low), np.abs(high))], axis=1)
    error = 4.0 * gamma(A.shape[1] + 8) * (sums[:, 1] + np.abs(b)) + TINY * (1.0 + A.shape[1])
    return np.asarray(A @ middle + sums[:, 0] + b + error)


def over_ball(A: Array, b: Array, centre: Array, radius: float) -> Array:
    """Upper bounds on ``max A x + b`` for ``|x - centre|_2 <= radius``, rounded up, shape (q,); maybe nan."""
    reach = radius * norms_up(A)
    size = np.abs(A) @ np.abs(centre) + np.abs(b) + reach
    return np.asarray(A @ centre + b + reach + 2.0 * gamma(A.shape[1] + 8) * size + TINY * (1.0 + A.shape[1]))


def norms_up(A: Array) -> Array:
    """Upper bounds on the norms of the rows; one pass where the squares are far from over- and underflow."""
    squares = np.einsum("ij,ij->i", A, A)
    found = np.sqrt(squares) * (1.0 + 2.0 * gamma(A.shape[1] + 4))
    hard = ~((squares > 1e-200) & (squares < 1e200))
    if hard.any():
        rows = A[hard]
        found[hard] = np.where(np.isfinite(rows).all(axis=1), row_norms_up(np.nan_to_num(rows)), np.inf)
    return np.asarray(found)


def fill(rates: Array, floor: Array, cap: Array) -> Array:
    """The s >= 0 with ``sum clip(s rates, floor, cap) = 1``, shape (q,); ``inf`` where all reach their cap below 1.

    The sum is piecewise linear in s, and concave without floors: Newton's method from below ends after a few steps.
    With floors, steps that leave the bracket are bisected.

    Parameters
    ----------
    rates, cap : array, shape (q, d)
        Nonnegative.
    floor : array, shape (d,)
        Nonnegative, at most the cap.
    """
    below, above = np.zeros(len(rates)), np.full(len(rates), FAR)
    s = np.minimum(1.0 / np.maximum(rates.sum(axis=1), TINY), FAR)
    raised, ends = bool(floor.any()), np.full(len(rates), FAR)
    for _ in range(NEWTON_STEPS):
        moved = s[:, None] * rates
        free = moved < cap
        if raised:
            waiting = moved < floor
            ends = np.min(np.where(waiting, 1.01 * floor / np.maximum(rates, TINY), FAR), axis=1, initial=FAR)
            free &= ~waiting
            np.maximum(moved, floor, out=moved)
        value = np.minimum(moved, cap, out=moved).sum(axis=1)
        slope = np.multiply(rates, free, out=moved).sum(axis=1)
        below, above = np.where(value <= 1.0, s, below), np.where(value >= 1.0, s, above)
        flat = np.where(value < 1.0, ends, np.where(value > 1.0, -1.0, s))  # on a flat piece: onward, or bisect
        target = np.where(slope > 0, s + (1.0 - value) / np.where(slope > 0, slope, 1.0), flat)
        middle = np.where(above > 4.0 * below, np.sqrt(np.maximum(below, TINY)) * np.sqrt(above), 0.5 * (below + above))
        following = np.where((target >= below) & (target <= above), target, middle)
        if not (np.abs(following - s) > 1e-15 * s).any():
            break
        s = following
    return np.where(s >= FAR, np.inf, s)
