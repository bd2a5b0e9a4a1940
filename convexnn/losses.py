"""Convex losses: value, gradient, conjugate and cvxpy form, per sample.

Predictions are ``(n,)`` or, for :class:`MultiMargin`, ``(n, k)``. Binary targets are -1 / +1.
The conjugate is taken in the prediction: ``l*(nu; y) = sup_f nu f - l(f; y)``, ``inf`` outside its domain.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Loss:
    """Base of the losses."""

    name: ClassVar[str] = ""

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


@dataclass(frozen=True)
class Hinge(Loss):
    """``max(0, 1 - y f)`` for targets -1 / +1."""

    name: ClassVar[str] = "hinge"

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


@dataclass(frozen=True)
class SquaredHinge(Loss):
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


@dataclass(frozen=True)
class Logistic(Loss):
    """``log(1 + exp(-y f))`` for targets -1 / +1."""

    name: ClassVar[str] = "logistic"

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
        entropy = q * np.log(np.where(q > 0, q, 1.0)) + (1 - q) * np.log(np.where(q < 1, 1 - q, 1.0))
        return np.where(inside, entropy, np.inf)

    def cvxpy(self, f: Any, y: Array) -> Any:
        """``logistic(-y f)``."""
        import cvxpy as cp

        return cp.logistic(-cp.multiply(y, f))


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


LOSSES: dict[str, type[Loss]] = {kind.name: kind for kind in (Squared, Hinge, SquaredHinge, Logistic, MultiMargin)}


def get_loss(loss: str | Loss) -> Loss:
    """Loss of a name, or the loss itself."""
    if isinstance(loss, Loss):
        return loss
    if not isinstance(loss, str) or loss not in LOSSES:
        raise InvalidInputError(f"Unknown loss {loss!r}; expected one of {sorted(LOSSES)}.")
    return LOSSES[loss]()
