"""One unknown: where an increasing function changes sign, where a concave one is largest."""

from __future__ import annotations

import math
from collections.abc import Callable

#: Golden section of an interval.
GOLDEN = (math.sqrt(5) - 1) / 2


def increasing_root(function: Callable[[float], tuple[float, float]], low: float, high: float) -> float:
    """Point of ``[low, high]`` where an increasing function changes sign, to machine accuracy.

    Newton's method where it stays in the bracket and the steps shrink, bisection elsewhere: at most a few hundred
    evaluations whatever the function, and two or three for a piecewise linear one near its root.

    Parameters
    ----------
    function : callable
        Point to value and slope; the slope only speeds up.
    low, high : float
        An end where the function has not changed sign yet (or has already) is returned as it is.

    Returns
    -------
    float
    """
    if function(low)[0] >= 0:
        return low
    if function(high)[0] <= 0:
        return high
    x, last = 0.5 * (low + high), high - low
    for _ in range(300):
        value, slope = function(x)
        if value == 0:
            return x
        low, high = (low, x) if value > 0 else (x, high)
        newton = x - value / slope if slope > 0 else math.nan
        if abs(newton - x) <= 2e-16 * abs(x):  # no digit is left to gain
            break
        inside = low < newton < high and abs(newton - x) <= 0.5 * last
        following = newton if inside else 0.5 * (low + high)
        last = abs(following - x)
        if following in (low, high) or last <= 1e-16 * abs(x):
            break
        x = following
    return x


def concave_maximum(function: Callable[[float], float], limit: float) -> float:
    """Largest value found of a concave function on ``[0, limit]``, the ends included.

    Golden section after the interval was doubled, from 1, as far as the function grows. Never below the values at 0, at
    ``min(1, limit)`` and, where the interval reaches it, at ``limit``; values of nan count as ``-inf``.

    Parameters
    ----------
    function : callable
    limit : float
        Positive, infinite when the function falls somewhere.

    Returns
    -------
    float
    """

    def safe(x: float) -> float:
        value = function(x)
        return -math.inf if math.isnan(value) else value

    high = min(1.0, limit)
    best = max(safe(0.0), safe(high))
    while high < limit:
        following = min(2 * high, limit)
        value = safe(following)
        high, grew = following, value > best
        best = max(best, value)
        if not grew or high > 1e150:
            break
    low, left, right = 0.0, high - GOLDEN * high, GOLDEN * high
    at_left, at_right = safe(left), safe(right)
    for _ in range(60):
        best = max(best, at_left, at_right)
        if at_left < at_right:
            low, left, at_left = left, right, at_right
            right = low + GOLDEN * (high - low)
            at_right = safe(right)
        else:
            high, right, at_right = right, left, at_left
            left = high - GOLDEN * (high - low)
            at_left = safe(left)
        if high - low <= 1e-10 * high:
            break
    return max(best, at_left, at_right)
