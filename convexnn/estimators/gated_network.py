"""Gated networks: linear functions switched by fixed gates, and ReLU networks that agree with them on rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.utils import check_array

from convexnn.exceptions import InvalidInputError
from convexnn.network import Network
from convexnn.patterns import ActivationPatterns
from convexnn.patterns.rows import distinct
from convexnn.restrictions.cones import least_distance
from convexnn.restrictions.units import balanced

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class GatedNetwork:
    """``f(x) = c + sum_i 1[w_i'x + b_i >= 0] (x, 1)'u_i``: gates ``(w_i, b_i)``, not tied to the weights ``u_i``.

    Attributes
    ----------
    W : array, shape (p, d)
    b : array, shape (p,)
        Gates, raw input units.
    U : array, shape (outputs, p, d + 1)
        Weights of the gated inputs, the last column is the bias.
    c : array, shape (outputs,)
    scalar : bool
        Whether outputs have shape (n,); there is one then.
    """

    W: Array
    b: Array
    U: Array
    c: Array
    scalar: bool

    def patterns(self, X: ArrayLike) -> ActivationPatterns:
        """Patterns of the gates on rows X (n, d); repeated rows have the same."""
        rows, inverse = distinct(self._inputs(X))
        return ActivationPatterns((rows @ self.W.T + self.b >= 0)[inverse])

    def __call__(self, X: ArrayLike) -> Array:
        """Outputs, shape (n,) or (n, outputs)."""
        inputs = self._inputs(X)
        units = np.einsum("nd,kpd->nkp", _with_ones(inputs), self.U)
        values = np.einsum("nkp,np->nk", units, self.patterns(inputs).D) + self.c
        return np.asarray(values[:, 0] if self.scalar else values)

    def outside(self, X: ArrayLike) -> NDArray[np.bool_]:
        """Which weights are in neither cone of their gate on the rows X, shape (outputs, p).

        The cone of gate i holds the u with ``(2 D_ki - 1) (x_k, 1)'u >= 0`` on all rows: ``D_i X u`` is then
        ``relu(X u)``, and ``-relu(-X u)`` for u in its negative.
        """
        slack = self._slack(self._inputs(X))
        return np.asarray(~((slack >= 0).all(axis=0) | (slack <= 0).all(axis=0)))

    def to_relu(self, X: ArrayLike) -> Network:
        """ReLU network with the same outputs on the rows of X, up to rounding.

        A weight in the cone of its gate (or its negative) becomes one unit, any other the difference ``a - b`` of two
        weights in the cone, with the shortest possible b. Between and beyond the rows the two networks differ.

        Implements: Mishkin et al. (2022), cone decomposition.

        Parameters
        ----------
        X : array-like, shape (n, d)

        Returns
        -------
        Network
            One hidden layer; a unit speaks to one output.

        Raises
        ------
        InvalidInputError
            When a weight cannot be split because no gate has exactly its pattern in the interior of a cone.
        """
        inputs = np.unique(self._inputs(X), axis=0)
        rows, signs = _with_ones(inputs), 2.0 * self.patterns(inputs).D - 1.0
        units, speaks, weights = [], [], []
        for k, i in np.argwhere(self.U.any(axis=2)):
            for part, sign in _parts(rows * signs[:, i, None], self.U[k, i], int(i)):
                units.append(sign * part)
                speaks.append(k)
                weights.append(sign)
        return self._network(units, speaks, weights)

    def _network(self, units: list[Array], speaks: list[int], weights: list[float]) -> Network:
        if not units:
            units, speaks, weights = [np.zeros(self.U.shape[2])], [0], [1.0]  # a network has a unit
        merged, v = balanced(np.array(units), np.array(weights))
        outer = np.zeros((len(self.c), len(v)))
        outer[speaks, np.arange(len(v))] = v
        return Network([(merged[:, :-1], merged[:, -1]), (outer, self.c)])

    def _slack(self, X: Array) -> Array:
        """``(2 D_ki - 1) (x_k, 1)'u_i``, shape (n, outputs, p)."""
        signs = 2.0 * self.patterns(X).D - 1.0
        return np.asarray(np.einsum("nd,kpd,np->nkp", _with_ones(X), self.U, signs))

    def _inputs(self, X: ArrayLike) -> Array:
        inputs: Array = check_array(X, dtype=np.float64)
        if inputs.shape[1] != self.W.shape[1]:
            raise InvalidInputError(f"X has {inputs.shape[1]} features; this network takes {self.W.shape[1]}.")
        return inputs


def gated_network_of(model: Any, W: Array, b: Array, bias: bool) -> GatedNetwork:
    """The gated network that a linear model on gated inputs is.

    Parameters
    ----------
    model : fitted linear model
        With ``coef_``, shape (p (d + 1),) or (outputs, p (d + 1)), gate by gate, and ``intercept_``.
    W, b : arrays, shape (p, d) and (p,)
        The gates.
    bias : bool
        Whether every gate has a feature of its own, its 0/1 pattern.
    """
    coefficients = getattr(model, "coef_", None)
    if coefficients is None or not hasattr(model, "intercept_"):
        raise InvalidInputError(f"A fitted linear model with coef_ and intercept_ is needed, got {model!r}.")
    coefficients = np.asarray(coefficients, dtype=np.float64)
    (p, d), outputs = W.shape, coefficients.reshape(-1, coefficients.shape[-1])
    if outputs.shape[1] != p * (d + bias):
        raise InvalidInputError(
            f"The model has {outputs.shape[1]} coefficients an output; {p} gates of {d} inputs make {p * (d + bias)}."
        )
    U = np.zeros((len(outputs), p, d + 1))
    U[:, :, : d + bias] = outputs.reshape(len(outputs), p, d + bias)
    c = np.broadcast_to(np.asarray(model.intercept_, dtype=np.float64).ravel(), len(outputs)).copy()
    scalar = coefficients.ndim == 1 or (len(outputs) == 1 and hasattr(model, "classes_"))
    return GatedNetwork(W, b, U, c, bool(scalar))


def _with_ones(X: Array) -> Array:
    return np.hstack([X, np.ones((len(X), 1))])


def _parts(G: Array, u: Array, gate: int) -> list[tuple[Array, float]]:
    """Weights (a, +1) and (b, -1) in the cone ``{G u >= 0}`` with ``a - b = u``; one where that is enough."""
    slack = G @ u
    if slack.min() >= 0:
        return [(u, 1.0)]
    if slack.max() <= 0:
        return [(-u, -1.0)]
    second = least_distance(G, np.maximum(-slack, 0.0))
    if second is None:
        raise InvalidInputError(
            f"The weight of gate {gate} cannot be split into ReLU units on these rows: a row touches the gate. Leave "
            "the network gated (gated_network), or drop that gate."
        )
    return [(u + second, 1.0), (second, -1.0)]
