"""Upper bounds on linear functions over a polytope, from any multipliers: in float64 and over the rational numbers.

Nothing is solved here: multipliers come from wherever, and whatever they hold, what is returned is true.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.rigorous import TINY, UNIT, gamma

Array = NDArray[np.float64]
Numbers = NDArray[Any]  # of floats or of fractions
Support = Callable[..., Numbers]

STEEPEST = 0.5  # what the multipliers of a box may miss, as a share of its size


def multipliers(values: Array) -> Array:
    """Any array as multipliers: what is negative or not a number becomes zero."""
    return np.where(np.isfinite(values) & (values > 0.0), values, 0.0)


def support_up(rows: tuple[Array, Array], U: Array, lam: Array, box: tuple[Array, Array]) -> Array:
    """Upper bounds on ``u.x`` over ``{x : A x <= b, lower <= x <= upper}``, every rounding added.

        ``u.x <= b.lam + sum_j max(r_j lower_j, r_j upper_j)``, ``r = u - A'lam``, for every ``lam >= 0``

    Implements: convexnn, Proposition 3 of theory/region_facets.md, ranges over a polytope by any multipliers.

    Parameters
    ----------
    rows : (array (m, d), array (m,))
        A and b.
    U : array, shape (n, d)
    lam : array, shape (n, m)
        Any numbers; negative ones count as zero.
    box : (array (d,), array (d,))
        Lower and upper ends.

    Returns
    -------
    array, shape (n,)
        ``inf`` where numbers overflow.
    """
    (A, b), (lower, upper) = rows, box
    m, d = A.shape
    lam = multipliers(lam)
    reach = np.maximum(np.abs(lower), np.abs(upper))
    with np.errstate(all="ignore"):
        R = U - lam @ A
        missed = 2.0 * gamma(m + 8) * (np.abs(U) + lam @ np.abs(A)) + (m + 1) * TINY
        found = lam @ b + np.maximum(R * lower, R * upper).sum(axis=1)
        sizes = lam @ np.abs(b) + np.abs(R) @ reach
        error = 4.0 * gamma(m + d + 8) * sizes + 2.0 * (missed @ reach) + (m + d + 2) * TINY
        bound = np.nextafter(found + error, np.inf)
    return np.where(np.isfinite(bound), bound, np.inf)


def exact_support(rows: tuple[Array, Array], U: Array, lam: Array, box: tuple[Numbers, Numbers]) -> Numbers:
    """The bounds of :func:`support_up` as rational numbers, shape (n,); the ends of the box may be rational."""
    (A, b), lam = (_rational(part) for part in rows), multipliers(lam)
    ends = [(Fraction(low), Fraction(high)) for low, high in zip(*box, strict=True)]
    tops = []
    for u, weights in zip(_rational(U), lam, strict=True):
        live = np.flatnonzero(weights)
        used = _rational(weights[live])
        rest = u - used @ A[live] if len(live) else u
        top = sum((r * (high if r > 0 else low) for r, (low, high) in zip(rest, ends, strict=True)), Fraction(0))
        tops.append(top + (used @ b[live] if len(live) else 0))
    return np.array(tops, dtype=object)


def _rational(values: Array) -> Numbers:
    flat = [Fraction(float(x)) for x in np.ravel(values)]
    return np.array(flat, dtype=object).reshape(np.shape(values))


def proved_box(
    rows: tuple[Array, Array], proof: Array, support: Support = support_up
) -> tuple[Numbers, Numbers] | None:
    """A box that contains ``{x : A x <= b}``, from multipliers of its 2d sides; None where they prove none.

    With ``t_i = b.lam_i`` and ``e = max_i |A'lam_i - u_i|_1``, u_i plus and minus the i-th unit vector, every point
    has ``|x|_inf <= max(t) + e |x|_inf``, which bounds it where e < 1: rounded multipliers are enough, and nothing has
    to be known before. The cube is then made smaller side by side, twice.

    Implements: convexnn, Proposition 4 of theory/region_facets.md, boxes around polytopes by any multipliers.

    Parameters
    ----------
    rows : (array (m, d), array (m,))
        A and b.
    proof : array, shape (2d, m)
        First for the upper ends, then for the lower ones.
    support : callable
        :func:`support_up` or :func:`exact_support`.

    Returns
    -------
    (array (d,), array (d,)) or None
    """
    A, b = rows
    d = A.shape[1]
    U, none, one = np.vstack([np.eye(d), -np.eye(d)]), np.zeros(d), np.ones(d)
    steep = max(support((A, np.zeros_like(b)), U, proof, (-one, one)))
    top = max(support(rows, U, proof, (none, none)))
    if not (steep <= STEEPEST and top < math.inf):
        return None
    size = max(top, 0 * top) / (1 - steep)
    size = size if isinstance(size, Fraction) else size * (1.0 + 8.0 * UNIT) + TINY
    lower, upper = np.full(d, -size), np.full(d, size)
    for _ in range(2):
        ends = support(rows, U, proof, (lower, upper))
        lower, upper = np.maximum(lower, -ends[d:]), np.minimum(upper, ends[:d])
        if (lower > upper).any():  # no point at all: any box will do, and the first one is a box
            return np.full(d, -size), np.full(d, size)
    return (lower, upper) if support is exact_support or np.isfinite([*lower, *upper]).all() else None
