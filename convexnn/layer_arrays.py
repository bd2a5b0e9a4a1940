"""Layers of a network as checked, read-only arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from convexnn.exceptions import InvalidInputError
from convexnn.inputs import real_array

Array = NDArray[np.float64]


def _frozen(values: ArrayLike, ndim: int, label: str) -> Array:
    array = real_array(values, label).copy()
    if array.ndim != ndim or 0 in array.shape:
        raise InvalidInputError(f"{label} must have {ndim} dimension(s), none empty, got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise InvalidInputError(f"{label} holds NaN or infinite values.")
    array.flags.writeable = False
    return array


def checked_layers(layers: Any) -> tuple[tuple[Array, Array], ...]:
    """Pairs (W, b) that fit each other, as read-only float64 copies.

    Raises
    ------
    InvalidInputError
        Says which layer does not fit.
    """
    checked: list[tuple[Array, Array]] = []
    for index, layer in enumerate(layers):
        if len(layer) != 2:
            raise InvalidInputError(f"Layer {index} must be a pair (W, b), got {len(layer)} values.")
        weights, bias = layer
        W = _frozen(weights, 2, f"The weights of layer {index}")
        b = _frozen(bias, 1, f"The bias of layer {index}")
        if len(b) != len(W):
            raise InvalidInputError(f"Layer {index} has {len(W)} units but a bias of length {len(b)}.")
        if checked and W.shape[1] != len(checked[-1][1]):
            raise InvalidInputError(
                f"Layer {index} takes {W.shape[1]} inputs; layer {index - 1} has {len(checked[-1][1])} units."
            )
        checked.append((W, b))
    if len(checked) < 2:
        raise InvalidInputError(f"A Network needs a hidden and an output layer, got {len(checked)} layer(s).")
    return tuple(checked)
