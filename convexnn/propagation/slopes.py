"""Value and gradient of backward linear bounds in their slopes and tensions: no rounding, nothing here is believed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import ReLU
from convexnn.propagation.backward import Choice, Layer
from convexnn.propagation.input_set import InputSet
from convexnn.propagation.lines import price
from convexnn.propagation.query import Signs

Array = NDArray[np.float64]
Index = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class SlopeProblem:
    """Bounds on forms ``A h + c`` of the last of the layers as a function of the choice in the backward pass.

    Attributes
    ----------
    layers : sequence of Layer
    inputs : InputSet
    A : array, shape (q, units)
    c : array, shape (q,)
    """

    layers: Sequence[Layer]
    inputs: InputSet
    A: Array
    c: Array

    def without_dead(self, signs: Signs | None) -> tuple[SlopeProblem, list[Index]]:
        """The same problem on the units that matter, and which these are: a dead ReLU has no slope to choose.

        A unit that its sign keeps at zero stays, since it can have a tension.
        """
        live: list[Index] = []
        layers: list[Layer] = []
        for k, layer in enumerate(self.layers):
            dead = isinstance(layer.activation, ReLU) & (layer.upper <= 0.0)
            if signs is not None:
                dead &= (np.asarray(signs[k]) == 0) | (layer.upper < 0.0)
            live.append(np.flatnonzero(~dead))
            layers.append(layer.part(live[k], live[k - 1] if k else None))
        return SlopeProblem(layers, self.inputs, self.A[:, live[-1]], self.c), live

    def rows(self, index: NDArray[np.intp]) -> SlopeProblem:
        """The problem of some rows."""
        return SlopeProblem(self.layers, self.inputs, self.A[index], self.c[index])

    def value_and_gradient(self, choice: Choice) -> tuple[Array, Choice, Array]:
        """Bounds (q,), their derivatives by the shares and tensions, and the worst inputs of the relaxation (q, d).

        The derivative of a maximum is that of its maximizer: with the worst input x and the relaxed pre-activations s
        that the lines give from layer to layer, a weight D on a pre-activation has the derivative ``s - s*``, where s*
        attains the price of the unit.

        Implements: convexnn, Proposition 2 of theory/propagation, derivative of backward linear bounds.
        """
        value, A, passed = self.c, self.A, []
        for k in range(len(self.layers) - 1, -1, -1):
            layer, shares, tension = self.layers[k], choice.shares[k], choice.tensions[k]
            slopes = layer.slopes(A, shares)
            D = A * slopes if tension is None else A * slopes + tension
            costs, at = price(layer.activation, A, D, layer.lower, layer.upper)
            passed.append((layer, A, slopes, at))
            value = value + costs.sum(axis=1) + D @ layer.b
            A = D @ layer.W
        points = self.inputs.maximizer(A)
        value = value + np.einsum("ij,ij->i", A, points)
        return value, self._gradient(points, passed[::-1]), points

    def _gradient(self, points: Array, passed: list[tuple[Layer, Array, Array, Array]]) -> Choice:
        h, by_shares, by_tensions = points, [], []
        for layer, A, slopes, at in passed:
            excess = h @ layer.W.T + layer.b - at
            by_shares.append(A * layer.widths(A) * excess)
            by_tensions.append(excess)
            h = layer.activation(at) + slopes * excess
        return Choice(by_shares, by_tensions)
