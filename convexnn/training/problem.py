"""A training problem on a device: standardized rows, the forward pass, and the exact way back to raw units."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation
from convexnn.network import Network
from convexnn.training.data import Rows, weighted_scale
from convexnn.training.optimizers import Layers
from convexnn.training.torch_losses import TORCH_LOSSES, torch_activation

if TYPE_CHECKING:
    import torch

Array = NDArray[np.float64]


class Batch(NamedTuple):
    """Rows of one step: standardized inputs (b, d), targets (b, k), weights (b,), in tensors."""

    X: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor


@dataclass(frozen=True, eq=False)
class Scaling:
    """Standardization: ``z = (x - input_mean) / input_scale``, ``t = (y - target_mean) / target_scale``.

    The target scale is one number, so the loss in raw units is ``target_scale^2`` times the standardized one;
    for every loss but the squared one the targets are left alone.
    """

    input_mean: Array
    input_scale: Array
    target_mean: Array
    target_scale: float

    @classmethod
    def of(cls, rows: Rows, loss: str) -> Scaling:
        """Weighted means and deviations of the rows."""
        mean, scale = weighted_scale(rows.X, rows.weight)
        center, unit = np.zeros(rows.n_outputs), 1.0
        if loss == "squared":
            center, spread = weighted_scale(rows.target, rows.weight)
            varies = (rows.target != rows.target[0]).any(axis=0)
            unit = float(np.sqrt(np.mean(spread[varies] ** 2))) if varies.any() else 1.0
        return cls(mean, scale, center, unit)

    def to_raw(self, layers: Any) -> list[tuple[Any, Any]]:
        """Layers on raw inputs and targets from layers on standardized ones (arrays, or tensors, differentiably)."""
        (W, b), *inner, (V, c) = layers
        as_like = _like(W)
        scale, shift = as_like(self.input_scale), as_like(self.input_mean / self.input_scale)
        last = (V * self.target_scale, c * self.target_scale + as_like(self.target_mean))
        return [(W / scale, b - W @ shift), *inner, last]

    def to_standard(self, layers: Any) -> list[tuple[Any, Any]]:
        """Inverse of :meth:`to_raw`."""
        (W, b), *inner, (V, c) = layers
        as_like = _like(W)
        last = (V / self.target_scale, (c - as_like(self.target_mean)) / self.target_scale)
        return [(W * as_like(self.input_scale), b + W @ as_like(self.input_mean)), *inner, last]


@dataclass(frozen=True, eq=False)
class TrainingProblem:
    """What a trainer sees.

    Parameters
    ----------
    rows, held_out : Rows
        Training rows and validation rows (or None), raw units.
    loss : str
        Name in ``torch_losses.TORCH_LOSSES``.
    activation : Activation
    scaling : Scaling
    device : str
    dtype : str
        "float32" or "float64".
    weight_decay, lam : float
        Weights of the sum of squares in standardized and in raw units.
    """

    rows: Rows
    held_out: Rows | None
    loss: str
    activation: Activation
    scaling: Scaling
    device: str
    dtype: str
    weight_decay: float = 0.0
    lam: float = 0.0

    # -- data -------------------------------------------------------------------------------------
    def tensor(self, values: Any) -> torch.Tensor:
        """Values as a tensor of the problem's device and type."""
        import torch

        return torch.as_tensor(np.array(values, dtype=self.dtype), device=self.device)

    def _batch(self, rows: Rows) -> Batch:
        X = (rows.X - self.scaling.input_mean) / self.scaling.input_scale
        target = rows.target
        if self.loss == "squared":
            target = (target - self.scaling.target_mean) / self.scaling.target_scale
        return Batch(self.tensor(X), self.tensor(target), self.tensor(rows.weight))

    @cached_property
    def all_rows(self) -> Batch:
        """Every training row."""
        return self._batch(self.rows)

    @cached_property
    def validation_rows(self) -> Batch | None:
        """The held-out rows, or None."""
        return None if self.held_out is None else self._batch(self.held_out)

    def batches(self, size: int, seed: int, epoch: int) -> Iterator[Batch]:
        """One pass over the training rows in steps of ``size``.

        The order depends on seed and epoch alone, so a resumed run sees the same steps. Weights are scaled so
        that each step's objective is an unbiased estimate of the full one.
        """
        import torch

        rows, n = self.all_rows, len(self.rows)
        if size >= n:
            yield rows
            return
        order = torch.as_tensor(np.random.default_rng([seed, epoch]).permutation(n), device=self.device)
        for index in order.split(size):
            yield Batch(rows.X[index], rows.target[index], rows.weight[index] * (n / len(index)))

    # -- functions of the weights -----------------------------------------------------------------
    def forward(self, layers: Layers, X: torch.Tensor) -> torch.Tensor:
        """Predictions (n, k) at standardized inputs, in standardized targets."""
        import torch

        act, values = self._act, X
        for W, b in layers[:-1]:
            values = act(torch.addmm(b, values, W.t()))
        V, c = layers[-1]
        return torch.addmm(c, values, V.t())

    @cached_property
    def _act(self) -> Any:
        return torch_activation(self.activation)

    def data_loss(self, layers: Layers, batch: Batch) -> torch.Tensor:
        """Weighted mean of the loss over a batch, standardized units."""
        return TORCH_LOSSES[self.loss](self.forward(layers, batch.X), batch.target) @ batch.weight

    def penalty(self, layers: Layers) -> torch.Tensor | float:
        """``weight_decay R(standardized) + lam R(raw)``, both on the scale of the standardized loss."""
        total: torch.Tensor | float = 0.0
        if self.weight_decay:
            total = total + self.weight_decay * sum_of_squares(layers)
        if self.lam:
            total = total + (self.lam / self.loss_unit) * sum_of_squares(self.scaling.to_raw(layers))
        return total

    @property
    def loss_unit(self) -> float:
        """Raw loss per standardized loss."""
        return self.scaling.target_scale**2 if self.loss == "squared" else 1.0

    # -- networks ---------------------------------------------------------------------------------
    def network(self, layers: Any) -> Network:
        """Fold standardized layers into a Network on raw inputs and targets (float64, exact)."""
        arrays = [tuple(part.detach().cpu().double().numpy() for part in pair) for pair in layers]
        return Network(self.scaling.to_raw(arrays), self.activation)

    def layers(self, network: Network) -> Layers:
        """Tensors of a raw-unit network in standardized units; inverse of :meth:`network`."""
        return [(self.tensor(W), self.tensor(b)) for W, b in self.scaling.to_standard(network.layers)]

    def fingerprint(self) -> str:
        """SHA-256 of rows, loss, activation and penalties."""
        digest = hashlib.sha256(repr((self.loss, self.activation, self.weight_decay, self.lam)).encode())
        for rows in (self.rows, self.held_out):
            for part in () if rows is None else (rows.X, rows.target, rows.weight):
                digest.update(repr(part.shape).encode() + part.tobytes())
        return digest.hexdigest()


def sum_of_squares(layers: Any) -> Any:
    """``R = sum_j ||(w_j, b_j)||^2 + ||v_j||^2``: every weight and hidden bias, not the output bias."""
    *hidden, (V, _) = layers
    return sum((part * part).sum() for pair in hidden for part in pair) + (V * V).sum()


def _like(reference: Any) -> Any:
    if isinstance(reference, np.ndarray):
        return np.asarray
    import torch

    return lambda values: torch.as_tensor(values, dtype=reference.dtype, device=reference.device)
