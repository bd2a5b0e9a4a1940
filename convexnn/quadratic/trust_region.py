"""Quadratics with a diagonal curvature over balls and spheres, exactly, many at once: one row a problem.

Every row is scaled to the unit ball and to numbers of size one by powers of two, so nothing over- or underflows on the
way whatever the units are. The unknown is the distance of the multiplier from its bound, not the multiplier: near the
hard case, where the gradient has almost no part in the lowest eigenspace, all its digits count.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]
Exponents = NDArray[np.int32]

NEGLIGIBLE = 2.0**-900  # of the scale of a row
SMALLEST = 1e-300  # stands for a vanishing denominator; its numerator is zero
CLOSE = 4.0 * float(np.finfo(float).eps)
STEPS = 100
NO_EXPONENT = -9999  # of zero


@dataclass(frozen=True, eq=False)
class TrustRegion:
    """Minimizers over balls or spheres, one a row.

    Attributes
    ----------
    steps : array, shape (n, d)
        Minimizers; in the hard case one of two.
    values : array, shape (n,)
        Values of the steps: the minima up to the rounding of one evaluation.
    multipliers : array, shape (n,)
        Of the constraint ``|e|^2 <= radius^2``: ``steps = -linear / (curvature + multiplier)`` but in the hard case;
        at least ``-min(curvature)``, nonnegative over balls.
    excesses : array, shape (n,)
        ``multipliers + min(curvature)`` >= 0 with all its digits, also where the difference cancels.
    """

    steps: Array = field(repr=False)
    values: Array = field(repr=False)
    multipliers: Array = field(repr=False)
    excesses: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class SmoothedTrustRegion:
    """Barrier-smoothed minima over balls, one a row: a random step of the given mean and variances.

    Attributes
    ----------
    steps : array, shape (n, d)
        Mean of the step, ``-linear / (curvature + multiplier)``.
    variances : array, shape (n, d)
        ``smoothing / (curvature + multiplier)``; ``|steps|^2 + sum(variances) <= radius^2`` up to rounding.
    values : array, shape (n,)
        The smoothed minima, see :func:`smoothed_over_ball`.
    multipliers : array, shape (n,)
        Above ``max(0, -min(curvature))``.
    """

    steps: Array = field(repr=False)
    variances: Array = field(repr=False)
    values: Array = field(repr=False)
    multipliers: Array = field(repr=False)


@dataclass(frozen=True, eq=False)
class _Rows:
    """Problems on the unit ball: ``curvature radius^2 / 2^unit``, ``linear radius / 2^unit``, entries at most one."""

    curvature: Array
    linear: Array
    smoothing: Array  # (n,) over 2^unit
    lowest: Array  # (n,)
    unit: Exponents  # (n,)
    mantissa: Array  # (n,) of the radius, 0 or in [0.5, 1)
    exponent: Exponents  # (n,) of the radius

    @classmethod
    def of(cls, curvature: Array, linear: Array, radius: Array, smoothing: Array) -> _Rows:
        mantissa, power = np.frexp(radius)
        steep = _exponents(np.abs(curvature).max(axis=-1)) + 2 * power
        unit = np.maximum(steep, _exponents(np.abs(linear).max(axis=1)) + power)
        unit = np.maximum(unit, _exponents(smoothing))
        unit = np.where(unit < NO_EXPONENT // 2, 0, unit)
        scaled = _times(curvature, mantissa * mantissa, 2 * power - unit)
        slope = _times(linear, mantissa, power - unit)
        slope[np.abs(slope) < NEGLIGIBLE] = 0.0
        return cls(scaled, slope, np.ldexp(smoothing, -unit), scaled.min(axis=1), unit, mantissa, power)

    def as_multipliers(self, scaled: Array) -> Array:
        """Multipliers in the units of the curvature; zero where the radius is."""
        size = np.where(self.mantissa > 0, self.mantissa, 1.0)
        with np.errstate(over="ignore"):
            return np.where(self.mantissa > 0, np.ldexp(scaled / size**2, self.unit - 2 * self.exponent), 0.0)


def minimize_over_ball(
    curvature: ArrayLike, linear: ArrayLike, radius: ArrayLike, *, sphere: bool = False
) -> TrustRegion:
    """Exact minima of ``sum_k curvature_k e_k^2 + 2 linear_k e_k`` over ``|e|_2 <= radius``, one problem a row.

    The optimality conditions are ``(L + mu) e = -g``, ``L + mu >= 0``, ``mu (radius^2 - |e|^2) = 0``. Newton's method
    on ``1 / |e(mu)| = 1 / radius``, concave in ``mu``, rises monotonically to the root; where no multiplier fills the
    ball (the hard case), a step along the lowest eigenvector does. O(n d) a Newton step, about five of them.

    Implements: convexnn, Proposition 2 of docs/theory/quadratic_worst_cases.md, for diagonal matrices.

    Parameters
    ----------
    curvature : array, shape (n, d) or (d,)
        Of any sign; one row for all problems or one for each.
    linear : array, shape (n, d)
        Half of the gradient at zero.
    radius : float or array, shape (n,)
        Nonnegative, l2; zero gives zero steps.
    sphere : bool, default False
        Minimize over ``|e|_2 = radius``.

    Returns
    -------
    TrustRegion

    Raises
    ------
    InvalidInputError
        For NaN or infinite numbers, shapes that do not fit, a negative radius.
    """
    L, g, r = _checked(curvature, linear, radius)
    rows = _Rows.of(L, g, r, np.zeros(len(g)))
    bound = np.zeros(len(g)) if sphere else np.maximum(rows.lowest, 0.0)
    excess = _boundary_root(rows, bound)
    steps = -rows.linear / np.maximum(rows.curvature - rows.lowest[:, None] + excess[:, None], SMALLEST)
    _fill(steps, rows, sphere | (excess > rows.lowest))
    values = (rows.curvature * steps * steps + 2.0 * rows.linear * steps).sum(axis=1)
    with np.errstate(over="ignore"):
        values = np.ldexp(values, rows.unit)
    excesses = rows.as_multipliers(excess)
    lowest = L.min(axis=-1) if sphere else np.minimum(L.min(axis=-1), 0.0)
    multipliers = np.where(r > 0, rows.as_multipliers(excess - rows.lowest), -lowest)
    excesses = np.where(r > 0, excesses, multipliers + L.min(axis=-1))
    return TrustRegion(steps * r[:, None], values, multipliers, excesses)


def smoothed_over_ball(
    curvature: ArrayLike, linear: ArrayLike, radius: ArrayLike, smoothing: ArrayLike
) -> SmoothedTrustRegion:
    """Smooth minima of quadratics over balls: the dual of :func:`minimize_over_ball` with a logarithmic barrier.

        max over mu > max(0, -min L) of  -sum g^2 / (L + mu) - mu radius^2 + nu sum log(L + mu) + nu log(mu)

    The maximizer makes ``e = -g / (L + mu)`` with variances ``nu / (L + mu)`` a random step of expected square at most
    ``radius^2``: its expected value is not below the exact minimum, and exceeds it by at most ``nu (d + 1)``. The value
    is differentiable in L and g, with derivatives ``e^2 + nu / (L + mu)`` and ``2 e``.

    Implements: convexnn, Proposition 4 of docs/theory/quadratic_worst_cases.md.

    Parameters
    ----------
    curvature : array, shape (n, d) or (d,)
    linear : array, shape (n, d)
        Half of the gradient at zero.
    radius : float or array, shape (n,)
        Nonnegative, l2; zero gives zero steps, variances and values.
    smoothing : float or array, shape (n,)
        The weight nu of the barrier, positive, in the units of the values.

    Returns
    -------
    SmoothedTrustRegion

    Raises
    ------
    InvalidInputError
        For NaN or infinite numbers, shapes that do not fit, a negative radius, a weight that is not positive.
    """
    L, g, r = _checked(curvature, linear, radius)
    nu = np.array(np.broadcast_to(np.asarray(smoothing, dtype=float), len(g)))
    if not ((nu > 0) & (nu < np.inf)).all():
        raise InvalidInputError(f"The smoothing must be positive and finite, got {smoothing!r}.")
    rows = _Rows.of(L, g, r, nu)
    base = np.maximum(0.0, -rows.lowest)
    above = np.maximum(rows.curvature + base[:, None], 0.0)
    offset = _barrier_root(rows.linear, above, base, rows.smoothing)
    inverse = 1.0 / (above + offset[:, None])
    steps = -rows.linear * inverse
    fit = -(rows.linear * rows.linear * inverse).sum(axis=1) - (base + offset)
    barrier = np.log(base + offset) - np.log(inverse).sum(axis=1)
    positive, size = r > 0, np.where(r > 0, rows.mantissa, 1.0)
    shift = (g.shape[1] + 1) * ((rows.unit - 2 * rows.exponent) * np.log(2.0) - 2.0 * np.log(size))
    with np.errstate(over="ignore"):
        values = np.where(positive, np.ldexp(fit, rows.unit) + nu * (barrier + shift), 0.0)
    variances = rows.smoothing[:, None] * inverse * (r * r)[:, None]
    multipliers = np.where(positive, rows.as_multipliers(base + offset), np.maximum(0.0, -L.min(axis=-1)))
    return SmoothedTrustRegion(steps * r[:, None], variances, values, multipliers)


def _boundary_root(rows: _Rows, bound: Array) -> Array:
    """Smallest ``mu >= bound`` with ``|g / (L - min L + mu)| <= 1``, shape (n,); Newton from the left."""
    above, size = rows.curvature - rows.lowest[:, None], np.abs(rows.linear)
    length = np.sqrt((size * size).sum(axis=1))
    mu = np.maximum(np.maximum(bound, (size - above).max(axis=1)), length - above.max(axis=1))
    found, left = mu.copy(), np.arange(len(mu))
    for _ in range(STEPS):
        shifted = np.maximum(above + mu[:, None], SMALLEST)
        ratio = size / shifted
        square = np.einsum("ij,ij->i", ratio, ratio)
        norm = np.sqrt(square)
        falling = np.einsum("ij,ij->i", ratio, ratio / shifted)
        rise = np.where(norm > 1.0 + CLOSE, square / np.maximum(falling, SMALLEST) * (norm - 1.0), 0.0)
        found[left] = mu = mu + rise
        going = rise > CLOSE * mu / 8.0
        if not going.any():
            break
        if 4 * np.count_nonzero(going) < 3 * len(going):
            left, mu, above, size = left[going], mu[going], above[going], size[going]
    return found


def _fill(steps: Array, rows: _Rows, binding: NDArray[np.bool_]) -> None:
    """Bring steps to length one in place: along the lowest eigenvector where they fall short, else by scaling."""
    square = np.einsum("ij,ij->i", steps, steps)
    short = np.flatnonzero(binding & (square < 1.0 - CLOSE))
    lowest = rows.curvature[short].argmin(axis=1)
    own, linear = steps[short, lowest], rows.linear[short, lowest]
    length = np.sqrt(np.maximum(1.0 - square[short] + own * own, 0.0))
    steps[short, lowest] = np.where(linear > 0, -length, length)
    steps /= np.maximum(np.sqrt(np.einsum("ij,ij->i", steps, steps)), 1.0)[:, None]


def _barrier_root(linear: Array, above: Array, base: Array, nu: Array) -> Array:
    """Root of ``sum g^2/D^2 + nu sum 1/D + nu/(base + mu) = 1``, ``D = above + mu``; Newton on ``F^(-1/2)``."""
    squares = linear * linear
    mu = np.maximum((np.abs(linear) - above).max(axis=1), nu - above.min(axis=1))
    mu = np.maximum(np.maximum(mu, nu - base), SMALLEST)
    for _ in range(STEPS):
        inverse = 1.0 / (above + mu[:, None])
        last = 1.0 / (base + mu)
        fraction = squares * inverse * inverse
        total = fraction.sum(axis=1) + nu * (inverse.sum(axis=1) + last)
        fall = 2.0 * (fraction * inverse).sum(axis=1) + nu * ((inverse * inverse).sum(axis=1) + last * last)
        rise = np.maximum(2.0 * total / fall * (np.sqrt(total) - 1.0), 0.0)
        mu = mu + rise
        if (rise <= CLOSE * mu).all():
            break
    return mu


def _checked(curvature: ArrayLike, linear: ArrayLike, radius: ArrayLike) -> tuple[Array, Array, Array]:
    L, g = np.asarray(curvature, dtype=float), np.asarray(linear, dtype=float)
    if g.ndim != 2 or g.shape[1] == 0 or L.shape not in (g.shape, g.shape[1:]):
        raise InvalidInputError(
            f"linear must be (n, d) and curvature (n, d) or (d,), not empty; got {g.shape} and {L.shape}."
        )
    sizes = np.asarray(radius, dtype=float)
    if sizes.shape not in ((), (len(g),)) or not ((sizes >= 0) & (sizes < np.inf)).all():
        raise InvalidInputError(f"radius must be nonnegative and finite, a number or one a row; got {radius!r}.")
    if not (np.isfinite(L).all() and np.isfinite(g).all()):
        raise InvalidInputError("The quadratics hold NaN or infinite numbers.")
    return L, g, np.array(np.broadcast_to(sizes, len(g)))


def _exponents(sizes: Array) -> Exponents:
    """Binary exponents of nonnegative numbers; very small for zero."""
    return np.where(sizes > 0, np.frexp(sizes)[1], NO_EXPONENT)


def _times(rows: Array, factor: Array, exponent: Exponents) -> Array:
    """``rows * factor * 2^exponent``, in halves where one power of two alone would not be a number."""
    half = exponent // 2
    scaled = rows * (factor * np.ldexp(1.0, half))[:, None]
    scaled *= np.ldexp(1.0, exponent - half)[:, None]
    return scaled
