"""One layer of a deep ReLU network as a convex program: all other weights and the patterns behind it are frozen."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.losses import Loss
from convexnn.network import Network

Array = NDArray[np.float64]

REGULARIZERS = ("lipschitz", "l2")


@dataclass(frozen=True)
class LayerMaps:
    """What one layer does at the samples, given the frozen patterns: everything is affine in ``z_i = W x_i + b``.

    Attributes
    ----------
    inputs : array, shape (n, h + 1)
        Inputs of the layer at the samples, a column of ones appended.
    outputs, output_offset : arrays, shapes (n, k, m) and (n, k)
        Network outputs are ``outputs[i] @ z_i + output_offset[i]``.
    signs : array, shape (n, m) or (n, 0)
        The layer's own cone: ``signs * z >= 0``; empty for the output layer.
    rows, row_offset : arrays, shapes (n, r, m) and (n, r)
        Cones of the later hidden layers: ``rows[i] @ z_i + row_offset[i] >= 0``.
    """

    inputs: Array
    outputs: Array
    output_offset: Array
    signs: Array
    rows: Array
    row_offset: Array


@dataclass(frozen=True, eq=False)
class DeepLayerProgram:
    """Training of one layer of a deep ReLU network, its later patterns frozen.

        min  sum_i weight_i sum_c loss(f_c(x_i), y_ic) + lam R
        s.t. (2 D_k(i) - I) z_k(x_i) >= 0  for every sample i and hidden layer k >= layer,

    affine in ``theta = [W, b]`` of the layer, feasible at the network, where its value is the network's objective.
    R is LipSDP squared with the multipliers of every layer free, or the sum of squared weights and hidden biases.

    Implements: convexnn, Proposition 3 of docs/theory/deep.md.

    Parameters
    ----------
    network : Network
        ReLU, any depth, any number of outputs.
    X : array, shape (n, d)
    Y : array, shape (n, k)
        Targets, one column an output; -1 and +1 for margin losses.
    layer : int
        0 for the first hidden layer, ..., H for the output layer.
    loss : Loss
        Smooth and convex, applied to every output.
    regularizer : {"lipschitz", "l2"}
    lam : float
        Weight of R.
    weight : array, shape (n,)
        Nonnegative, sum one.
    """

    network: Network
    X: Array
    Y: Array
    layer: int
    loss: Loss
    regularizer: str
    lam: float
    weight: Array

    def __post_init__(self) -> None:
        """Refuse what the program does not state."""
        if self.network.activation.name != "relu":
            raise UnsupportedModelError(f"Frozen patterns need ReLU units, this network has {self.network.activation}.")
        if not 0 <= self.layer < len(self.network.layers):
            raise InvalidInputError(f"layer must be 0 to {len(self.network.layers) - 1}, got {self.layer}.")
        if self.regularizer not in REGULARIZERS:
            raise InvalidInputError(f"regularizer must be one of {REGULARIZERS}, got {self.regularizer!r}.")

    @property
    def is_output(self) -> bool:
        """Whether the output layer is trained, which has no cones."""
        return self.layer == len(self.network.layers) - 1

    @cached_property
    def maps(self) -> LayerMaps:
        """The affine maps at the samples."""
        layers, pre = self.network.layers, self.network.pre_activations(self.X)
        below = self.X if self.layer == 0 else np.maximum(pre[self.layer - 1], 0.0)
        inputs = np.column_stack([below, np.ones(len(below))])
        n, m = len(below), len(layers[self.layer][1])
        A, offset = np.broadcast_to(np.eye(m), (n, m, m)), np.zeros((n, m))  # of the current pre-activation in z
        rows, offsets = [np.zeros((n, 0, m))], [np.zeros((n, 0))]
        for k in range(self.layer, len(layers) - 1):
            active = pre[k] >= 0
            if k > self.layer:
                sign = np.where(active, 1.0, -1.0)
                rows.append(sign[:, :, None] * A)
                offsets.append(sign * offset)
            W, b = layers[k + 1]
            A, offset = np.matmul(W, active[:, :, None] * A), (active * offset) @ W.T + b
        signs = np.zeros((n, 0)) if self.is_output else np.where(pre[self.layer] >= 0, 1.0, -1.0)
        return LayerMaps(inputs, A, offset, signs, np.concatenate(rows, axis=1), np.concatenate(offsets, axis=1))

    # -- points -----------------------------------------------------------------------------------
    def lift(self, network: Network) -> Array:
        """The layer's ``[W, b]`` of a network, shape (m, h + 1)."""
        W, b = network.layers[self.layer]
        return np.column_stack([W, b])

    def decode(self, theta: Array) -> Network:
        """The network with this layer."""
        layers = list(self.network.layers)
        layers[self.layer] = (theta[:, :-1], theta[:, -1])
        return Network(layers, self.network.activation)

    def slacks(self, theta: Array) -> tuple[Array, Array]:
        """Slacks of the layer's own cones (n, m) or (n, 0) and of the later ones (n, r); nonnegative when feasible."""
        z = self.maps.inputs @ theta.T
        own = self.maps.signs * z if self.maps.signs.shape[1] else self.maps.signs
        return own, np.matmul(self.maps.rows, z[:, :, None])[:, :, 0] + self.maps.row_offset

    def violation(self, theta: Array) -> float:
        """Largest violation of a cone."""
        return max(0.0, *(float(-slack.min(initial=0.0)) for slack in self.slacks(theta)))

    def outputs(self, theta: Array) -> Array:
        """Outputs under the frozen patterns, shape (n, k); those of ``decode(theta)`` when theta is feasible."""
        z = self.maps.inputs @ theta.T
        return np.matmul(self.maps.outputs, z[:, :, None])[:, :, 0] + self.maps.output_offset

    def mean_loss(self, theta: Array) -> float:
        """Weighted mean over the samples of the loss, summed over the outputs."""
        return deep_loss(self.loss, self.outputs(theta), self.Y, self.weight)

    def weight_decay(self, theta: Array) -> float:
        """R of ``"l2"``: squares of all weights and hidden biases; of theta, the output bias is free."""
        return weight_decay(self.decode(theta))

    # -- specification ----------------------------------------------------------------------------
    def cvxpy_problem(self) -> Any:
        """The program in cvxpy, with variable "theta"; its value is the optimum."""
        import cvxpy as cp

        theta, maps = cp.Variable(self.lift(self.network).shape, name="theta"), self.maps
        z = maps.inputs @ theta.T

        def affine(A: Array, offset: Array) -> Any:
            return [cp.sum(cp.multiply(A[:, r], z), axis=1) + offset[:, r] for r in range(A.shape[1])]

        f = affine(maps.outputs, maps.output_offset)
        cost = sum(self.weight @ self.loss.cvxpy(value, y) for value, y in zip(f, self.Y.T, strict=True))
        constraints = [row >= 0 for row in affine(maps.rows, maps.row_offset)]
        if not self.is_output:
            constraints.append(cp.multiply(maps.signs, z) >= 0)
        if self.regularizer == "l2":
            own = theta[:, :-1] if self.is_output else theta
            fixed = weight_decay(self.decode(np.zeros(theta.shape)))
            return cp.Problem(cp.Minimize(cost + self.lam * (cp.sum_squares(own) + fixed)), constraints)
        s, inequality = mixed_lmi([W for W, _ in self.network.layers], self.layer, theta[:, :-1])
        return cp.Problem(cp.Minimize(cost + self.lam * s), [*constraints, inequality])


def mixed_lmi(weights: list[Array], layer: int, W: Any) -> tuple[Any, Any]:
    """Variable s and a matrix inequality, linear in (s, W, all multipliers), whose least s is LipSDP squared.

    Symmetric block tridiagonal with T_k = diag(t_k) for the hidden layers k <= layer and R_k = diag(r_k) = T_k^-1 for
    those behind:

        diagonal            (s I, 2 T_1, ..., 2 T_l, 2 R_{l+1}, ..., 2 R_H, I)
        below the diagonal  -T_{k+1} W_k (k < l),  -W_l,  -W_k R_k (k > l)

    Implements: convexnn, Proposition 1 of docs/theory/deep.md.

    Parameters
    ----------
    weights : list of arrays
        W_0, ..., W_H; the entry of ``layer`` is not read.
    layer : int
        The layer that is variable.
    W : cvxpy expression
        Its weights.

    Returns
    -------
    s, inequality
        cvxpy variable and constraint.
    """
    import cvxpy as cp

    s = cp.Variable()
    sizes = [weights[0].shape[1], *(len(weight) for weight in weights)]
    multipliers = [cp.diag(cp.Variable(size, nonneg=True)) for size in sizes[1:-1]]
    rows: list[list[Any]] = [[np.zeros((m, n)) for n in sizes] for m in sizes]
    for k, block in enumerate([s * np.eye(sizes[0]), *(2 * T for T in multipliers), np.eye(sizes[-1])]):
        rows[k][k] = block
    before = [-T @ weight for T, weight in zip(multipliers[:layer], weights, strict=False)]
    behind = [-weight @ R for R, weight in zip(multipliers[layer:], weights[layer + 1 :], strict=True)]
    for k, block in enumerate([*before, -W, *behind]):
        rows[k + 1][k], rows[k][k + 1] = block, block.T
    M = cp.bmat(rows)
    return s, (M + M.T) / 2 >> 0


def deep_loss(loss: Loss, F: Array, Y: Array, weight: Array) -> float:
    """``sum_i weight_i sum_c loss(f_ic, y_ic)``."""
    return float(weight @ loss.value(F.ravel(), Y.ravel()).reshape(F.shape).sum(axis=1))


def weight_decay(network: Network) -> float:
    """Squares of all weights and of the hidden biases."""
    return float(sum((W**2).sum() for W, _ in network.layers) + sum((b**2).sum() for _, b in network.layers[:-1]))
