"""Operators that change shapes: of constants, and of values without touching their elements."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from convexnn.exceptions import InvalidInputError
from convexnn.exchange.onnx_call import Call, Tensor
from convexnn.exchange.signals import Value


def _reshaped(tensor: Tensor, shape: tuple[int, ...]) -> Tensor:
    return tensor.reshaped(shape) if isinstance(tensor, Value) else tensor.reshape(shape)


def reshape(call: Call) -> Tensor:
    """The same elements in another shape; 0 keeps a size, -1 is what is left."""
    tensor, asked = call.operand(0), call.integers(1, "a shape")
    if asked is None:
        raise InvalidInputError("lacks its shape.")
    keep = not call.get("allowzero", 0)
    shape = [tensor.shape[i] if size == 0 and keep else size for i, size in enumerate(asked)]
    if shape.count(-1) == 1:
        rest = math.prod(size for size in shape if size != -1)
        shape[shape.index(-1)] = math.prod(tensor.shape) // rest if rest else 0
    if min(shape, default=1) < 0 or math.prod(shape) != math.prod(tensor.shape):
        raise InvalidInputError(f"cannot give {tuple(tensor.shape)} the shape {asked}.")
    return _reshaped(tensor, tuple(shape))


def flatten(call: Call) -> Tensor:
    """Two axes, cut at ``axis``."""
    tensor, axis = call.operand(0), int(call.get("axis", 1))
    axis = axis + len(tensor.shape) if axis < 0 else axis
    if not 0 <= axis <= len(tensor.shape):
        raise InvalidInputError(f"has no axis {axis} in {tuple(tensor.shape)}.")
    return _reshaped(tensor, (math.prod(tensor.shape[:axis]), math.prod(tensor.shape[axis:])))


def squeeze(call: Call) -> Tensor:
    """Without axes of size 1."""
    tensor, axes = call.operand(0), call.integers(1, "axes", "axes")
    rank = len(tensor.shape)
    drop = {i for i, size in enumerate(tensor.shape) if size == 1} if axes is None else {i % rank for i in axes}
    if any(tensor.shape[i] != 1 for i in drop):
        raise InvalidInputError(f"drops the axes {sorted(drop)} of {tuple(tensor.shape)}.")
    return _reshaped(tensor, tuple(size for i, size in enumerate(tensor.shape) if i not in drop))


def unsqueeze(call: Call) -> Tensor:
    """With new axes of size 1."""
    tensor, axes = call.operand(0), call.integers(1, "axes", "axes")
    rank = len(tensor.shape) + len(axes or ())
    new = {axis + rank if axis < 0 else axis for axis in axes or ()}
    if len(new) != len(axes or ()) or not all(0 <= axis < rank for axis in new):
        raise InvalidInputError(f"cannot insert the axes {axes} into {tuple(tensor.shape)}.")
    sizes = iter(tensor.shape)
    return _reshaped(tensor, tuple(1 if i in new else next(sizes) for i in range(rank)))


def transpose(call: Call) -> Tensor:
    """Axes in another order."""
    tensor = call.operand(0)
    rank = len(tensor.shape)
    axes = tuple(int(axis) for axis in call.get("perm", range(rank - 1, -1, -1)))
    if sorted(axes) != list(range(rank)):
        raise InvalidInputError(f"cannot order the axes of {tuple(tensor.shape)} as {axes}.")
    return tensor.transposed(axes) if isinstance(tensor, Value) else tensor.transpose(axes)


def shape(call: Call) -> Tensor:
    """The shape, a constant."""
    return np.array(call.operand(0).shape[slice(call.get("start"), call.get("end"))], dtype=np.int64)


def gather(call: Call) -> Tensor:
    """Entries of a constant (exporters pick sizes this way)."""
    data, indices = call.constant(0, "data"), np.asarray(call.constant(1, "an index"))
    return np.take(data, indices.astype(np.intp), axis=int(call.get("axis", 0)))


def concat(call: Call) -> Tensor:
    """Constants one after the other."""
    parts = [call.constant(i, "a part") for i in range(len(call.operands))]
    return np.concatenate(parts, axis=int(call.get("axis", 0)))


SHAPES: dict[str, Callable[[Call], Tensor]] = {
    "Flatten": flatten,
    "Reshape": reshape,
    "Squeeze": squeeze,
    "Unsqueeze": unsqueeze,
    "Transpose": transpose,
    "Shape": shape,
    "Gather": gather,
    "Concat": concat,
}
