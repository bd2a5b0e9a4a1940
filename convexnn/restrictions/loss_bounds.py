"""What a loss contributes to a program: the check of its targets, and its part of the lower bound."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.losses import Loss, MultiMargin, get_loss
from convexnn.monotone import concave_maximum, increasing_root
from convexnn.restrictions.multipliers import SMALLEST, best_scaling
from convexnn.structure import ConeStructure

Array = NDArray[np.float64]


def scalar_loss(loss: str | Loss) -> Loss:
    """Loss of a program with one output.

    Raises
    ------
    InvalidInputError
        For an unknown name or a loss of several outputs.
    """
    chosen = get_loss(loss)
    if isinstance(chosen, MultiMargin):
        raise InvalidInputError("the loss 'multi_margin' needs several outputs; a program here has one: use 'hinge'")
    return chosen


def check_loss_targets(loss: Loss, y: Array) -> None:
    """Refuse targets that the loss does not take.

    Raises
    ------
    InvalidInputError
        For targets other than -1 / +1 with a classification loss.
    """
    if loss.binary and not np.isin(y, (-1.0, 1.0)).all():
        strange = float(y[~np.isin(y, (-1.0, 1.0))][0])
        raise InvalidInputError(
            f"loss={loss.name!r} needs targets -1 and +1, got {strange:g}; use 2 * (y == label) - 1"
        )


def admissible(structure: ConeStructure, residual: Array) -> Array:
    """Nearest residual multiplier that can prove anything: sum zero, and slopes that the loss takes.

    ``p_k = om_k clip(residual_k / om_k - mu, slopes of l)`` with ``mu`` such that the sum is zero, the projection in
    the norm ``sum_k p_k^2 / om_k``; for the squared loss ``residual - om sum(residual)``. There always is such a mu,
    since the slopes of every loss here enclose zero.

    Implements: docs/theory/losses.md, Lemma 2.

    Parameters
    ----------
    structure : ConeStructure
    residual : array, shape (n,)
        Finite.

    Returns
    -------
    array, shape (n,)
    """
    weight = structure.weight
    if structure.is_squared:
        centred: Array = residual - weight * residual.sum()
        return centred
    low, high = structure.sample_loss.slopes(structure.y)
    ratio = residual / weight

    def excess(mu: float) -> tuple[float, float]:
        shifted = ratio - mu
        return -float(weight @ np.clip(shifted, low, high)), float(weight @ ((shifted > low) & (shifted < high)))

    mu = increasing_root(excess, float(ratio.min()), float(ratio.max()))
    return _balanced(weight * np.clip(ratio - mu, low, high))


def _balanced(p: Array) -> Array:
    """``p`` with its positive or its negative entries scaled down so that the sum is zero.

    Residuals so large that ``ratio - mu`` has no digits left leave a sum, and a sum proves too much.
    """
    up, down = float(p.sum(where=p > 0)), -float(p.sum(where=p < 0))
    shrunk: Array = p * np.where(p > 0, down / up if up > down else 1.0, up / down if down > up else 1.0)
    return shrunk


def loss_bound(structure: ConeStructure, p: Array, rest: float, limit: float) -> float:
    """``max_theta -sum_k om_k l*(theta p_k / om_k; y_k) - theta^2 rest`` over ``0 <= theta <= limit``.

    Any theta in the domain of the conjugate is valid; at zero the value is zero.

    Implements: docs/theory/losses.md, Proposition 3.

    Parameters
    ----------
    structure : ConeStructure
    p : array, shape (n,)
        From :func:`admissible`.
    rest : float
        Nonnegative.
    limit : float
        Nonnegative, may be infinite.

    Returns
    -------
    float
        Nonnegative; zero also when nothing finite can be proved, or underflow has taken the digits.
    """
    weight, y = structure.weight, structure.targets
    if structure.is_squared:
        return best_scaling(-float(p @ y), 0.25 * float(p @ (p / weight)) + rest, limit)
    return sampled_bound(structure.sample_loss, y, weight, p, rest, limit)


def sampled_bound(loss: Loss, y: Array, weight: Array, p: Array, rest: float, limit: float) -> float:
    """The bound of :func:`loss_bound` for a loss that is not the squared one.

    Parameters
    ----------
    loss : Loss
    y, weight, p : array, shape (n,)
        Targets, positive weights, and multipliers from :func:`admissible`.
    rest, limit : float
    """
    if not np.isfinite(rest) or not limit > 0 or not np.abs(p).max() > SMALLEST:
        return 0.0
    low, high = loss.slopes(y)
    ratio = np.clip(p / weight, low, high)
    steepest = float(np.max(ratio / np.where(ratio < 0, low, high), initial=0.0, where=ratio != 0))
    if steepest > 0:
        limit = min(limit, 1 / steepest)

    def value(theta: float) -> float:
        conjugate = loss.conjugate(np.clip(theta * ratio, low, high), y)
        return -float(weight @ conjugate) - theta * theta * rest

    return max(0.0, concave_maximum(value, limit))
