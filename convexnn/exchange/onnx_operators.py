"""One function an operator: from constants and values to a constant or a value, or a sentence that names the node."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np

from convexnn.activations import Activation, LeakyReLU, ReLU, Sigmoid, Tanh
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.exchange.onnx_call import Call, Operands, Tensor
from convexnn.exchange.onnx_file import Node, array_of, require_onnx
from convexnn.exchange.onnx_shapes import SHAPES
from convexnn.exchange.signals import Value, activated, check_size, product


def apply(node: Node, operands: Operands, merge: bool) -> Tensor:
    """What a node computes.

    Raises
    ------
    UnsupportedModelError, InvalidInputError
        A sentence that starts with the name and the operator of the node.
    """
    function = OPERATORS.get(node.op)
    if function is None:
        raise UnsupportedModelError(f"{node} is not supported{_hint(node.op)}; supported are {', '.join(OPERATORS)}.")
    if operands and operands[0] is None:
        raise InvalidInputError(f"{node} lacks its first input.")
    try:
        with np.errstate(over="ignore", invalid="ignore"):
            return function(Call(node, operands, merge))
    except (UnsupportedModelError, InvalidInputError) as error:
        raise type(error)(f"{node} {error}") from error
    except (ValueError, TypeError, IndexError, OverflowError, MemoryError, AttributeError) as error:
        raise InvalidInputError(f"{node} cannot be evaluated: {error}") from error


def _hint(op: str) -> str:
    if op in ("Softmax", "LogSoftmax"):
        return " (certificates are about the logits: export the model without its last step)"
    if op.startswith("Conv") or op.endswith("Pool"):
        return " (only fully connected layers are read)"
    return ""


# -- arithmetic -----------------------------------------------------------------------------------


def _add(call: Call) -> Tensor:
    one, two = call.operands
    if not isinstance(one, Value):
        return two.plus(one) if isinstance(two, Value) else _small(np.add, one, two)
    return one.plus(two)


def _sub(call: Call) -> Tensor:
    one, two = call.operands
    if not isinstance(two, Value):
        return one.plus(-two) if isinstance(one, Value) else _small(np.subtract, one, two)
    return two.times(np.float64(-1.0)).plus(one)


def _mul(call: Call) -> Tensor:
    one, two = call.operands
    if not isinstance(one, Value):
        return two.times(one) if isinstance(two, Value) else _small(np.multiply, one, two)
    return one.times(two)


def _div(call: Call) -> Tensor:
    one, two = call.operands
    if isinstance(two, Value):
        raise UnsupportedModelError("divides by a tensor that depends on the input of the model.")
    if isinstance(one, Value):
        return one.over(np.asarray(two, dtype=np.float64))
    if not np.all(two):
        raise UnsupportedModelError("divides by zero.")
    whole = one.dtype.kind in "iu" and two.dtype.kind in "iu"
    return _small(np.floor_divide if whole else np.divide, one, two)


def _neg(call: Call) -> Tensor:
    (one,) = call.operands
    return one.times(np.float64(-1.0)) if isinstance(one, Value) else -one


def _pow(call: Call) -> Tensor:
    one, exponent = call.operand(0), call.constant(1, "an exponent")
    power = np.unique(exponent)
    if power.tolist() == [1]:
        return one
    if power.tolist() == [2]:
        return one.times(one) if isinstance(one, Value) else one * one
    raise UnsupportedModelError(f"has the exponent {power.tolist()[:4]}; only squares are supported.")


def _small(function: Callable[..., Any], *constants: Any) -> Any:
    check_size(math.prod(np.broadcast_shapes(*(np.shape(item) for item in constants))))
    return function(*constants)


# -- layers ---------------------------------------------------------------------------------------


def _matmul(call: Call) -> Tensor:
    one, two = call.operands
    if isinstance(one, Value) and isinstance(two, Value):
        raise UnsupportedModelError("multiplies two tensors that both depend on the input.")
    if isinstance(one, Value):
        return product(one, np.asarray(two, dtype=np.float64), constant_first=False, merge=call.merge)
    if isinstance(two, Value):
        return product(two, np.asarray(one, dtype=np.float64), constant_first=True, merge=call.merge)
    check_size(math.prod(one.shape[:-1]) * math.prod(two.shape[1:]))
    return one @ two


def _gemm(call: Call) -> Tensor:
    one, two = (_transposed(call.operand(i), bool(call.get(key, 0))) for i, key in enumerate(("transA", "transB")))
    if any(len(item.shape) != 2 for item in (one, two)):
        raise InvalidInputError(f"needs two matrices, got shapes {one.shape} and {two.shape}.")
    found = _matmul(Call(call.node, (one, two), call.merge))
    alpha, beta, bias = float(call.get("alpha", 1.0)), float(call.get("beta", 1.0)), call.operand(2)
    found = found.times(np.float64(alpha)) if isinstance(found, Value) else alpha * found
    if bias is None or beta == 0.0:
        return found
    bias = bias.times(np.float64(beta)) if isinstance(bias, Value) else beta * bias
    if (
        len(np.broadcast_shapes(bias.shape, found.shape)) != 2
        or np.broadcast_shapes(bias.shape, found.shape) != found.shape
    ):
        raise InvalidInputError(f"adds a bias of shape {bias.shape} to a product of shape {found.shape}.")
    return _add(Call(call.node, (found, bias), call.merge))


def _transposed(tensor: Tensor, turn: bool) -> Tensor:
    if not turn or len(tensor.shape) != 2:
        return tensor
    return tensor.transposed((1, 0)) if isinstance(tensor, Value) else tensor.T


def _batch_normalization(call: Call) -> Tensor:
    if call.get("training_mode", 0) or len([name for name in call.node.outputs if name]) > 1:
        raise UnsupportedModelError("is in training mode; export the model for inference.")
    value = call.operand(0)
    parts = [np.asarray(call.constant(i, "a parameter"), dtype=np.float64) for i in range(1, 5)]
    if len(value.shape) < 2 or any(part.shape != (value.shape[1],) for part in parts):
        raise InvalidInputError(f"has parameters of shapes {[part.shape for part in parts]} for {value.shape}.")
    scale, shift, mean, variance = (part.reshape(-1, *[1] * (len(value.shape) - 2)) for part in parts)
    spread = variance + float(call.get("epsilon", 1e-5))
    if not (spread > 0).all():
        raise InvalidInputError("has a variance that is not positive.")
    factor = scale / np.sqrt(spread)
    if not isinstance(value, Value):
        return value * factor + (shift - mean * factor)
    return value.times(factor).plus(shift - mean * factor)


# -- activations ----------------------------------------------------------------------------------


def _activation(call: Call, activation: Activation) -> Tensor:
    value = call.operand(0)
    if not isinstance(value, Value):
        return activation(np.asarray(value, dtype=np.float64))
    return Value(activated(value.signal, activation))


def _leaky(call: Call, slope: float) -> Tensor:
    if not 0.0 <= slope < 1.0:
        raise UnsupportedModelError(f"has the slope {slope:g}; slopes in [0, 1) are supported.")
    return _activation(call, LeakyReLU(slope) if slope else ReLU())


def _prelu(call: Call) -> Tensor:
    slopes = np.unique(call.constant(1, "a slope"))
    if len(slopes) != 1:
        raise UnsupportedModelError(f"has {len(slopes)} different slopes; one slope is supported.")
    return _leaky(call, float(slopes[0]))


def _clip(call: Call) -> Tensor:
    low = call.get("min", call.constant(1, "a limit"))
    high = call.get("max", call.constant(2, "a limit"))
    unbounded = high is None or float(high) >= np.finfo(np.float32).max
    if low is None or float(low) != 0.0 or not unbounded:
        raise UnsupportedModelError("is supported as a ReLU only: min=0 and no max.")
    return _activation(call, ReLU())


def _max(call: Call) -> Tensor:
    """``max(t, 0)`` and ``max(t, slope t)``."""
    if len(call.operands) != 2:
        raise UnsupportedModelError("is supported as max(t, 0) and as max(t, slope * t) only.")
    one, two = call.operands
    if isinstance(one, Value) and isinstance(two, Value) and one.base is two.base:
        steep, flat = (one, two) if one.b >= two.b else (two, one)
        if steep.a == flat.a == steep.c == flat.c == 0.0 and steep.b == 1.0:
            return _leaky(Call(call.node, (Value(steep.base),), call.merge), flat.b)
    elif isinstance(one, Value) != isinstance(two, Value):
        value, constant = (one, two) if isinstance(one, Value) else (two, one)
        if not np.any(constant):
            return _activation(Call(call.node, (value,), call.merge), ReLU())
    raise UnsupportedModelError("is supported as max(t, 0) and as max(t, slope * t) only.")


# -- nothing and constants ------------------------------------------------------------------------


def _identity(call: Call) -> Tensor:
    return call.operand(0)


def _dropout(call: Call) -> Tensor:
    if np.any(call.constant(2, "a mode", np.zeros(1))):
        raise UnsupportedModelError("is in training mode; export the model for inference.")
    return call.operand(0)


def _cast(call: Call) -> Tensor:
    kinds = require_onnx().TensorProto
    to, tensor = call.get("to"), call.operand(0)
    if to in (kinds.FLOAT, kinds.DOUBLE, kinds.FLOAT16):
        kind = {kinds.FLOAT: np.float32, kinds.DOUBLE: np.float64, kinds.FLOAT16: np.float16}[to]
        return tensor if isinstance(tensor, Value) else np.asarray(tensor).astype(kind).astype(np.float64)
    if isinstance(tensor, Value) or to not in (kinds.INT64, kinds.INT32, kinds.BOOL):
        raise UnsupportedModelError("rounds values to whole numbers or to an unusual type.")
    return np.asarray(tensor).astype(np.int64)


def _constant(call: Call) -> Tensor:
    attributes = call.node.attributes
    if "value" in attributes:
        return array_of(require_onnx(), attributes["value"], "its value")
    for key, kind in (("value_float", float), ("value_floats", float), ("value_int", int), ("value_ints", int)):
        if key in attributes:
            found = np.array(attributes[key], dtype=np.float64 if kind is float else np.int64)
            if not np.isfinite(found).all():
                raise InvalidInputError("holds NaN or infinite values.")
            return found
    raise UnsupportedModelError(f"has the attributes {sorted(attributes)}, none of which is read.")


OPERATORS: dict[str, Callable[[Call], Tensor]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Add": _add,
    "Sub": _sub,
    "Mul": _mul,
    "Div": _div,
    "Neg": _neg,
    "Pow": _pow,
    "BatchNormalization": _batch_normalization,
    "Relu": lambda call: _activation(call, ReLU()),
    "LeakyRelu": lambda call: _leaky(call, float(call.get("alpha", 0.01))),
    "PRelu": _prelu,
    "Clip": _clip,
    "Max": _max,
    "Tanh": lambda call: _activation(call, Tanh()),
    "Sigmoid": lambda call: _activation(call, Sigmoid()),
    "Identity": _identity,
    "Dropout": _dropout,
    "Cast": _cast,
    "Constant": _constant,
    **SHAPES,
}
