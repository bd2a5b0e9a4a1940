"""Quadratic functions of inputs and outputs of a network, ``[1, x, f]' M [1, x, f]``, to be bounded over sets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import real_array
from convexnn.network import Network
from convexnn.rigorous import sum_up
from convexnn.values import ByValue

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class QuadraticSpec(ByValue):
    """``q(x) = [1, x, f(x)]' M [1, x, f(x)]`` with M symmetric, of any signs.

    Attributes
    ----------
    matrix : array, shape (1 + d + k, 1 + d + k)
    n_inputs : int
        d; the outputs take the rest.
    """

    matrix: Array
    n_inputs: int

    def __post_init__(self) -> None:
        """Refuse what is no symmetric matrix of finite numbers."""
        M = real_array(self.matrix, "M")
        if M.ndim != 2 or M.shape[0] != M.shape[1] or not 0 < self.n_inputs < len(M) - 1:
            raise InvalidInputError(
                f"M must be (1 + d + k, 1 + d + k) with d, k >= 1, got {M.shape}, d = {self.n_inputs}."
            )
        if not np.isfinite(M).all():
            raise InvalidInputError("M holds NaN or infinite values.")
        if (M != M.T).any():
            raise InvalidInputError("M must be symmetric; take (M + M') / 2, which has the same values.")
        frozen = M.copy()
        frozen.flags.writeable = False
        object.__setattr__(self, "matrix", frozen)

    @property
    def n_outputs(self) -> int:
        """Number of outputs k."""
        return len(self.matrix) - 1 - self.n_inputs

    @classmethod
    def reconstruction(cls, n: int) -> QuadraticSpec:
        """Reconstruction error ``|f(x) - x|_2^2`` of an autoencoder with n inputs and outputs."""
        M = np.zeros((1 + 2 * n, 1 + 2 * n))
        unit = np.eye(n)
        M[1 : 1 + n, 1 : 1 + n] = M[1 + n :, 1 + n :] = unit
        M[1 : 1 + n, 1 + n :] = M[1 + n :, 1 : 1 + n] = -unit
        return cls(M, n)

    @classmethod
    def distance(cls, target: ArrayLike, n_inputs: int) -> QuadraticSpec:
        """Squared distance ``|f(x) - target|_2^2`` of the outputs from a point (k,); its constant is rounded up."""
        y = np.atleast_1d(np.asarray(target, dtype=np.float64))
        M = np.zeros((1 + n_inputs + len(y),) * 2)
        M[0, 0] = sum_up(np.nextafter(y * y, np.inf)) if y.any() else 0.0
        M[0, 1 + n_inputs :] = M[1 + n_inputs :, 0] = -y
        M[1 + n_inputs :, 1 + n_inputs :] = np.eye(len(y))
        return cls(M, n_inputs)

    @classmethod
    def linear(cls, weights: ArrayLike, offset: float, n_inputs: int) -> QuadraticSpec:
        """``weights f(x) + offset``, weights (k,)."""
        w = 0.5 * np.atleast_1d(np.asarray(weights, dtype=np.float64))
        M = np.zeros((1 + n_inputs + len(w),) * 2)
        M[0, 0] = offset
        M[0, 1 + n_inputs :] = M[1 + n_inputs :, 0] = w
        return cls(M, n_inputs)

    @classmethod
    def rank_one(cls, vector: ArrayLike, n_inputs: int) -> QuadraticSpec:
        """``(p'[1, x, f(x)])^2`` for a vector p of 1 + d + k numbers."""
        p = np.asarray(vector, dtype=np.float64)
        return cls(np.outer(p, p), n_inputs)

    @classmethod
    def read(cls, spec: Any, network: Network) -> QuadraticSpec:
        """A spec, or a matrix, that fits a network."""
        found = spec if isinstance(spec, cls) else cls(np.asarray(spec, dtype=np.float64), network.n_inputs)
        if (found.n_inputs, found.n_outputs) != (network.n_inputs, network.n_outputs):
            raise InvalidInputError(
                f"The specification is about {found.n_inputs} inputs and {found.n_outputs} outputs; the network has "
                f"{network.n_inputs} and {network.n_outputs}."
            )
        return found

    def values(self, network: Network, X: Array) -> Array:
        """``q`` in float64 at points (n, d), shape (n,)."""
        states = self._states(network, X)
        return np.asarray(((states @ self.matrix) * states).sum(axis=1))

    def gradients(self, network: Network, X: Array) -> Array:
        """Gradients of ``q`` (ties of units are active), shape (n, d)."""
        slope = 2.0 * self._states(network, X) @ self.matrix
        inner, outer = slope[:, 1 : 1 + self.n_inputs], slope[:, 1 + self.n_inputs :]
        back, pre = outer @ network.layers[-1][0], network.pre_activations(X)
        for (W, _), s in zip(reversed(network.layers[:-1]), reversed(pre), strict=True):
            back = (back * network.activation.derivative(s)) @ W
        return np.asarray(inner + back)

    def _states(self, network: Network, X: Array) -> Array:
        return np.hstack([np.ones((len(X), 1)), X, network(X).reshape(len(X), -1)])
