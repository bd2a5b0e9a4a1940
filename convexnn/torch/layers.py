"""The live tensors of a torch network: weights and biases as autograd sees them, parametrizations included."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from convexnn.activations import Activation
from convexnn.interop import sequential_parts


@dataclass(frozen=True)
class LiveLayers:
    """Layers of a network whose tensors are those of a module.

    Attributes
    ----------
    weights : tuple of tensors
        W_0 (h_1, d), ..., W_H (k, h_H).
    biases : tuple of tensors
        Zero where a layer has none.
    activation : Activation
    """

    weights: tuple[torch.Tensor, ...]
    biases: tuple[torch.Tensor, ...]
    activation: Activation

    @classmethod
    def of(cls, model: torch.nn.Module) -> LiveLayers:
        """Layers of an ``nn.Sequential`` of Linear and activation layers.

        Raises
        ------
        UnsupportedModelError
            Names the layer that cannot be represented.
        """
        linear, activation = sequential_parts(model)
        weights = tuple(layer.weight for _, layer in linear)
        biases = tuple(
            W.new_zeros(len(W)) if layer.bias is None else layer.bias
            for W, (_, layer) in zip(weights, linear, strict=True)
        )
        return cls(weights, biases, activation)
