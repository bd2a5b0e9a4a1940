"""ONNX files of networks: one Gemm a layer, in float32 or float64."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from convexnn.activations import Activation
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.exchange.onnx_file import require_onnx

Array = NDArray[np.float64]
Layers = tuple[tuple[Array, Array], ...]

#: Versions that every runtime of the last years reads.
OPSET, IR_VERSION = 16, 8


def write_onnx(
    path: str | os.PathLike[str],
    layers: Layers,
    activation: Activation,
    dtype: DTypeLike = np.float32,
    metadata: Mapping[str, str] | None = None,
) -> Path:
    """Write a network as an ONNX model with a free batch size and return the path.

    Parameters
    ----------
    path : path
    layers : tuple of (W, b)
    activation : Activation
        A polynomial is written as ``(a t + b) t + c``.
    dtype : float32 or float64
        Of weights and inputs. In float64 the file holds the network bit for bit; in float32 it is rounded, and
        what was proved of the network does not hold of the file to the last digit.
    metadata : mapping of str to str, optional
        Kept in the file next to sizes and activation; runtimes show it and compute nothing with it.
    """
    onnx = require_onnx()
    kind = np.dtype(dtype)
    if kind not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise InvalidInputError(f"ONNX files are written in float32 or float64, got {kind}.")
    constants: dict[str, NDArray[Any]] = {}
    nodes, name = [], "input"
    for index, (W, b) in enumerate(layers):
        constants[f"W{index}"], constants[f"b{index}"] = _as(W, kind), _as(b, kind)
        last = index == len(layers) - 1
        target = "output" if last else f"t{index}"
        nodes.append(
            onnx.helper.make_node("Gemm", [name, f"W{index}", f"b{index}"], [target], f"layer{index}", transB=1)
        )
        if not last:
            name = f"h{index}"
            nodes += _activation_nodes(onnx, activation, target, name, constants, kind)
    tensors = [onnx.numpy_helper.from_array(values, key) for key, values in constants.items()]
    ends = [_end(onnx, "input", layers[0][0].shape[1], kind), _end(onnx, "output", len(layers[-1][1]), kind)]
    graph = onnx.helper.make_graph(nodes, "network", ends[:1], ends[1:], tensors)
    model = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="convexnn",
    )
    sizes = "-".join(str(size) for size in (layers[0][0].shape[1], *(len(b) for _, b in layers)))
    known = {"convexnn.sizes": sizes, "convexnn.activation": activation.name, "convexnn.dtype": str(kind)}
    onnx.helper.set_model_props(model, {**known, **_words(metadata)})
    target_path = Path(path)
    target_path.write_bytes(model.SerializeToString(deterministic=True))
    return target_path


def _words(metadata: Mapping[str, str] | None) -> dict[str, str]:
    found = dict(metadata or {})
    if not all(isinstance(word, str) for pair in found.items() for word in pair):
        raise InvalidInputError(f"metadata of an ONNX file must map str to str, got {found!r}.")
    return found


def _as(values: Any, kind: np.dtype[Any]) -> NDArray[Any]:
    with np.errstate(over="ignore"):
        array = np.asarray(values, dtype=np.float64).astype(kind)
    if not np.isfinite(array).all():
        raise InvalidInputError(f"The network has numbers too large for {kind}; write it in float64.")
    return np.ascontiguousarray(array)


def _end(onnx: Any, name: str, width: int, kind: np.dtype[Any]) -> Any:
    element = onnx.helper.np_dtype_to_tensor_dtype(kind)
    return onnx.helper.make_tensor_value_info(name, element, ["batch", width])


def _activation_nodes(
    onnx: Any, activation: Activation, source: str, target: str, constants: dict[str, Any], kind: np.dtype[Any]
) -> list[Any]:
    make = onnx.helper.make_node
    simple = {"relu": "Relu", "tanh": "Tanh", "sigmoid": "Sigmoid", "identity": "Identity"}
    if activation.name in simple:
        return [make(simple[activation.name], [source], [target], f"activation_{target}")]
    if activation.name == "leaky_relu":
        slope = activation.parameters[0]
        if kind == np.float32 or float(np.float32(slope)) == slope:  # the attribute of LeakyRelu is a float32
            return [make("LeakyRelu", [source], [target], f"activation_{target}", alpha=slope)]
        constants["slope"] = _as(activation.parameters, kind)
        return [make("PRelu", [source, "slope"], [target], f"activation_{target}")]
    if activation.name != "polynomial":
        raise UnsupportedModelError(f"There is no ONNX operator for the activation {activation.name!r}.")
    for key, value in zip("abc", activation.parameters, strict=True):
        constants[key] = _as([value], kind)
    steps = [("Mul", source, "a"), ("Add", "", "b"), ("Mul", "", source), ("Add", "", "c")]
    nodes, name = [], source
    for index, (op, first, second) in enumerate(steps):
        result = target if index == len(steps) - 1 else f"{target}_{index}"
        nodes.append(make(op, [first or name, second], [result], f"activation_{target}_{index}"))
        name = result
    return nodes
