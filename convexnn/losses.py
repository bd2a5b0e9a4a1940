"""Convex losses: value, gradient, conjugate and cvxpy form, per sample.

Predictions are ``(n,)`` or, for :class:`MultiMargin`, ``(n, k)``. Binary targets are -1 / +1.
The conjugate is taken in the prediction: ``l*(nu; y) = sup_f nu f - l(f; y)``, ``inf`` outside its domain.
Every loss here is nonnegative, and all but the multi-class one know their curvature and their best constant.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import as_number
from convexnn.monotone import increasing_root

Array = NDArray[np.float64]

#: Margin at which a loss that has no minimum counts as minimized: ``exp(-100)`` is 4e-44.
FAR = 100.0


@dataclass(frozen=True)
class Loss:
    """Base of the losses.

    ``binary`` says that targets are -1 / +1; the loss then depends on ``y f`` alone, the others on ``f - y``.
    """

    name: ClassVar[str] = ""
    binary: ClassVar[bool] = False

    def value(self, f: Array, y: Array) -> Array:
        """Loss of each sample, shape (n,)."""
        raise NotImplementedError

    def gradient(self, f: Array, y: Array) -> Array:
        """Subgradient in the prediction, same shape as ``f``."""
        raise NotImplementedError

    def conjugate(self, nu: Array, y: Array) -> Array:
        """Convex conjugate of each sample, shape (n,)."""
        raise NotImplementedError

    def cvxpy(self, f: Any, y: Array) -> Any:
        """Cvxpy expression of the loss of each sample, shape (n,)."""
        raise NotImplementedError

    def curvature(self, f: Array, y: Array) -> Array:
        """Second derivative in the prediction (one of them where there are two), shape (n,)."""
        raise NotImplementedError

    def slopes(self, y: Array) -> tuple[Array, Array]:
        """Ends of the interval of slopes, the closed domain of the conjugate, each of shape (n,)."""
        return np.full(len(y), -math.inf), np.full(len(y), math.inf)

    def best_constant(self, f: Array, y: Array, weight: Array) -> float:
        """``argmin_c sum_k weight_k l(f_k + c; y_k)`` to machine accuracy; a finite number where only infinity is best.

        Predictions ``f``, targets and positive weights have shape (n,).
        """

        def slope(c: float) -> tuple[float, float]:
            return float(weight @ self.gradient(f + c, y)), float(weight @ self.curvature(f + c, y))

        return increasing_root(slope, *self._bracket(f, y, weight))

    def _bracket(self, f: Array, y: Array, weight: Array) -> tuple[float, float]:  # noqa: ARG002
        """Interval that holds a best constant."""
        gaps = y - f
        return float(gaps.min()), float(gaps.max())


@dataclass(frozen=True)
class Squared(Loss):
    """``(f - y)^2``."""

    name: ClassVar[str] = "squared"

    def value(self, f: Array, y: Array) -> Array:
        """``(f - y)^2``."""
        return (f - y) ** 2

    def gradient(self, f: Array, y: Array) -> Array:
        """``2 (f - y)``."""
        return 2 * (f - y)

    def conjugate(self, nu: Array, y: Array) -> Array:
        """``nu y + nu^2 / 4``."""
        return nu * y + nu**2 / 4

    def cvxpy(self, f: Any, y: Array) -> Any:
        """``square(f - y)``."""
        import cvxpy as cp

        return cp.square(f - y)

    def curvature(self, f: Array, y: Array) -> Array:  # noqa: ARG002
        """2."""
        return np.full(len(f), 2.0)

    def best_constant(self, f: Array, y: Array, weight: Array) -> float:
        """Weighted mean of ``y - f``."""
        return float(np.average(y - f, weights=weight))


@dataclass(frozen=True)
class Huber(Loss):
    """``(f - y)^2`` up to ``|f - y| = delta`` and its tangents beyond: ``2 delta |f - y| - delta^2``.

    Parameters
    ----------
    delta : float
        Positive, in the units of the targets. The squared loss is the limit of large values.

    Raises
    ------
    InvalidInputError
        For a ``delta`` that is not a positive finite number.
    """

    name: ClassVar[str] = "huber"
    delta: float = 1.0

    def __post_init__(self) -> None:
        """Refuse a threshold that is no positive finite number."""
        if not 0 < as_number(self.delta, "delta") < math.inf:
            raise InvalidInputError(f"delta={self.delta!r} was given; expected a finite number > 0")

    def value(self, f: Array, y: Array) -> Array:
        """``r^2`` or ``delta (2 |r| - delta)``, ``r = f - y``."""
        size = np.abs(f - y)
        near = np.minimum(size, self.delta)
        return near * (near + 2 * (size - near))

    def gradient(self, f: Array, y: Array) -> Array:
        """``2 (f - y)`` clipped at ``2 delta``."""
        return np.asarray(2 * np.clip(f - y, -self.delta, self.delta))

    def conjugate(self, nu: Array, y: Array) -> Array:
        """``nu y + nu^2 / 4`` for ``|nu| <= 2 delta``."""
        return np.where(np.abs(nu) <= 2 * self.delta, nu * y + nu**2 / 4, np.inf)

    def cvxpy(self, f: Any, y: Array) -> Any:
        """``huber(f - y, delta)``."""
        import cvxpy as cp

        return cp.huber(f - y, self.delta)

    def curvature(self, f: Array, y: Array) -> Array:
        """2 up to ``delta``, 0 beyond."""
        return np.where(np.abs(f - y) <= self.delta, 2.0, 0.0)

    def slopes(self, y: Array) -> tuple[Array, Array]:
        """``[-2 delta, 2 delta]``."""
        return np.full(len(y), -2 * self.delta), np.full(len(y), 2 * self.delta)


@dataclass(frozen=True)
class MarginLoss(Loss):
    """Base of the losses of the margin ``y f`` for targets -1 / +1, zero or decreasing to zero for large margins."""

    binary: ClassVar[bool] = True
    #: Steepest slope in the margin.
    steepest: ClassVar[float] = math.inf

    def slopes(self, y: Array) -> tuple[Array, Array]:
        """``-y [0, steepest]``."""
        return np.where(y > 0, -self.steepest, 0.0), np.where(y > 0, 0.0, self.steepest)

    def _bracket(self, f: Array, y: Array, weight: Array) -> tuple[float, float]:  # noqa: ARG002
        return float((-1 - f).min()), float((1 - f).max())  # beyond, one class has no loss


@dataclass(frozen=True)
class Hinge(MarginLoss):
    """``max(0, 1 - y f)`` for targets -1 / +1."""

    name: ClassVar[str] = "hinge"
    steepest: ClassVar[float] = 1.0

    def value(self, f: Array, y: Array) -> Array:
        """``max(0, 1 - y f)``."""
        return np.maximum(0.0, 1 - y * f)

    def gradient(self, f: Array, y: Array) -> Array:
        """``-y`` where the margin is below one."""
        return np.where(y * f < 1, -y, 0.0)

    def conjugate(self, nu: Array, y: Array) -> Array:
        """``nu y`` for ``-1 <= nu y <= 0``."""
        m = nu * y
        return np.where((m >= -1) & (m <= 0), m, np.inf)

    def cvxpy(self, f: Any, y: Array) -> Any:
        """``pos(1 - y f)``."""
        import cvxpy as cp

        return cp.pos(1 - cp.multiply(y, f))

    def curvature(self, f: Array, y: Array) -> Array:  # noqa: ARG002
        """Zero: the loss is piecewise linear."""
        return np.zeros(len(f))

    def best_constant(self, f: Array, y: Array, weight: Array) -> float:
        """Weighted quantile of the constants ``y - f`` at which single samples have margin one."""
        steps = y - f  # the slope starts at minus the weight of the class +1 and jumps by weight_k there
        order = np.argsort(steps)
        passed = np.cumsum(weight[order])
        wanted = float(weight[y > 0].sum())
        if wanted <= 0:
            return float(steps.min())
        position = int(np.searchsorted(passed, wanted * (1 - 1e-14)))
        return float(steps[order[min(position, len(steps) - 1)]])


@dataclass(frozen=True)
class SquaredHinge(MarginLoss):
    """``max(0, 1 - y f)^2`` for targets -1 / +1."""

    name: ClassVar[str] = "squared_hinge"

    def value(self, f: Array, y: Array) -> Array:
        """``max(0, 1 - y f)^2``."""
        return np.maximum(0.0, 1 - y * f) ** 2

    def gradient(self, f: Array, y: Array) -> Array:
        """``-2 y max(0, 1 - y f)``."""
        return -2 * y * np.maximum(0.0, 1 - y * f)

    def conjugate(self, nu: Array, y: Array) -> Array:
        """``nu y + nu^2 / 4`` for ``nu y <= 0``."""
        m = nu * y
        return np.where(m <= 0, m + m**2 / 4, np.inf)

    def cvxpy(self, f: Any, y: Array) -> Any:
        """``square(pos(1 - y f))``."""
        import cvxpy as cp

        return cp.square(cp.pos(1 - cp.multiply(y, f)))

    def curvature(self, f: Array, y: Array) -> Array:
        """2 below margin one, 0 above."""
        return np.where(y * f <= 1, 2.0, 0.0)


@dataclass(frozen=True)
class Logistic(MarginLoss):
    """``log(1 + exp(-y f))`` for targets -1 / +1."""

    name: ClassVar[str] = "logistic"
    steepest: ClassVar[float] = 1.0

    def value(self, f: Array, y: Array) -> Array:
        """``log(1 + exp(-y f))`` without overflow."""
        return np.logaddexp(0.0, -y * f)

    def gradient(self, f: Array, y: Array) -> Array:
        """``-y / (1 + exp(y f))``, without overflow or cancellation."""
        return -y * np.exp(-np.logaddexp(0.0, y * f))

    def conjugate(self, nu: Array, y: Array) -> Array:
        """Negative entropy of ``p = -nu y`` in [0, 1]."""
        p = -nu * y
        inside = (p >= 0) & (p <= 1)
        q = np.clip(p, 0.0, 1.0)
        entropy = q * np.log(np.where(q > 0, q, 1.0)) + (1 - q) * np.log1p(-np.where(q < 1, q, 0.0))
        return np.where(inside, entropy, np.inf)

    def cvxpy(self, f: Any, y: Array) -> Any:
        """``logistic(-y f)``."""
        import cvxpy as cp

        return cp.logistic(-cp.multiply(y, f))

    def curvature(self, f: Array, y: Array) -> Array:
        """``p (1 - p)`` with ``p = 1 / (1 + exp(y f))``, without cancellation."""
        return np.exp(-np.logaddexp(0.0, y * f) - np.logaddexp(0.0, -y * f))

    def _bracket(self, f: Array, y: Array, weight: Array) -> tuple[float, float]:
        positive, negative = float(weight[y > 0].sum()), float(weight[y < 0].sum())
        if positive == 0:  # no minimum: the loss falls forever
            return -FAR - float(f.max()), -FAR - float(f.max())
        if negative == 0:
            return FAR - float(f.min()), FAR - float(f.min())
        odds = math.log(positive) - math.log(negative)
        return odds - float(f.max()), odds - float(f.min())


@dataclass(frozen=True)
class MultiMargin(Loss):
    """``max(0, 1 - (f_y - max_{t != y} f_t))`` for class indices ``y`` and scores ``(n, k)``."""

    name: ClassVar[str] = "multi_margin"

    @staticmethod
    def _rival(f: Array, y: Array) -> NDArray[np.intp]:
        others = np.array(f, dtype=float)
        others[np.arange(len(f)), y.astype(int)] = -np.inf
        return others.argmax(axis=1)

    def value(self, f: Array, y: Array) -> Array:
        """``max(0, 1 + f_rival - f_y)``."""
        rows = np.arange(len(f))
        return np.maximum(0.0, 1 + f[rows, self._rival(f, y)] - f[rows, y.astype(int)])

    def gradient(self, f: Array, y: Array) -> Array:
        """+1 at the rival and -1 at the true class where the loss is positive, shape (n, k)."""
        rows, rival = np.arange(len(f)), self._rival(f, y)
        gradient = np.zeros_like(f)
        active = (self.value(f, y) > 0).astype(float)
        gradient[rows, rival] += active
        gradient[rows, y.astype(int)] -= active
        return gradient

    def conjugate(self, nu: Array, y: Array) -> Array:
        """``nu_y`` when ``nu`` sums to 0, is nonnegative off the true class and ``nu_y`` lies in [-1, 0].

        Rows that sum to zero up to 1e-12 are taken as summing to zero.
        """
        rows = np.arange(len(nu))
        own = nu[rows, y.astype(int)]
        others = np.array(nu)
        others[rows, y.astype(int)] = 0.0
        inside = (np.abs(nu.sum(axis=1)) <= 1e-12) & (others >= 0).all(axis=1) & (own >= -1) & (own <= 0)
        return np.where(inside, own, np.inf)

    def cvxpy(self, f: Any, y: Array) -> Any:
        """``max_t f_t + 1[t != y] - f_y``."""
        import cvxpy as cp

        onehot = np.eye(f.shape[1])[y.astype(int)]
        return cp.max(f + (1 - onehot), axis=1) - cp.sum(cp.multiply(onehot, f), axis=1)


KINDS = (Squared, Huber, Hinge, SquaredHinge, Logistic, MultiMargin)
LOSSES: dict[str, type[Loss]] = {kind.name: kind for kind in KINDS}


def get_loss(loss: str | Loss) -> Loss:
    """Loss of a name, or the loss itself."""
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise InvalidInputError(f"Unknown loss {loss!r}; expected one of {sorted(LOSSES)}.")
    return LOSSES[loss]()
