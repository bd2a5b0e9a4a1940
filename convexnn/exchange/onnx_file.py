"""ONNX files as plain values, validated: nodes with attributes, constants as arrays, one input, one output."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from convexnn.exceptions import InvalidInputError, UnsupportedModelError

#: Oldest version of the operators: since then, shapes are broadcast as numpy does.
OLDEST_OPSET = 7
#: Number of dimensions beyond which numpy has no arrays.
MAX_DIMENSIONS = 32


@dataclass(frozen=True, eq=False)
class Node:
    """One operator: inputs and outputs are names of tensors, an empty name is an input left out."""

    label: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        """Name and operator, as errors say it."""
        return f"Node {self.label!r} ({self.op})"


@dataclass(frozen=True, eq=False)
class Graph:
    """What is left of a file; sizes of the input are fixed, a free first one (the batch) is 1.

    Attributes
    ----------
    nodes : tuple of Node
        Those that the output depends on, in the order of the file.
    constants : mapping of str to array
    input_name, output_name : str
    input_shape : tuple of int
    output_size : int or None
        Number of outputs that the file declares, None when it does not.
    """

    nodes: tuple[Node, ...]
    constants: Mapping[str, Any]
    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    output_size: int | None


def require_onnx() -> Any:
    """The ``onnx`` package, or a sentence that names the extra."""
    try:
        import onnx
    except ImportError as error:
        raise InvalidInputError("ONNX files need the package onnx; run `pip install onnx`.") from error
    return onnx


def read_graph(source: str | os.PathLike[str] | bytes) -> Graph:
    """The graph of a file, or of its bytes.

    Raises
    ------
    InvalidInputError
        When the file is damaged or contradicts itself.
    UnsupportedModelError
        When it is a valid model of a kind that is not read: several inputs or outputs, other operator sets,
        weights in other files.
    """
    onnx = require_onnx()
    model, label = _parse(onnx, source)
    graph = model.graph
    _check_operators(model, label)
    constants = {_text(tensor.name): tensor for tensor in graph.initializer}
    (entry,) = _one([item for item in graph.input if _text(item.name) not in constants], "input", label)
    (output,) = _one(list(graph.output), "output", label)
    nodes = tuple(_node(onnx, item, index, label) for index, item in enumerate(graph.node))
    needed, names = _needed(nodes, _text(output.name))
    arrays = {name: array_of(onnx, constants[name], label) for name in sorted(names & constants.keys())}
    return Graph(
        needed, arrays, _text(entry.name), _input_shape(entry, label), _text(output.name), _declared_size(output)
    )


def _parse(onnx: Any, source: Any) -> tuple[Any, str]:
    from google.protobuf.message import DecodeError  # type: ignore[import-untyped]

    if isinstance(source, bytes):
        label, content = "The ONNX model", source
    else:
        label, content = str(source), Path(source).read_bytes()
    try:
        model = onnx.load_model_from_string(content)
    except (DecodeError, ValueError, TypeError, RuntimeError) as error:
        raise InvalidInputError(f"{label} is not a readable ONNX file: {error}") from error
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise InvalidInputError(f"{label} is not a readable ONNX file: it holds no graph.")
    return model, label


def _check_operators(model: Any, label: str) -> None:
    versions = {item.domain: item.version for item in model.opset_import}
    version = versions.get("", versions.get("ai.onnx"))
    if version is None or version < OLDEST_OPSET:
        raise UnsupportedModelError(
            f"{label} uses the operators of version {version}; {OLDEST_OPSET} or later is needed. Export it again."
        )
    if model.graph.sparse_initializer:
        raise UnsupportedModelError(f"{label} holds sparse tensors, which are not read.")


def _one(found: list[Any], kind: str, label: str) -> list[Any]:
    if len(found) != 1:
        names = ", ".join(repr(_text(item.name)) for item in found[:8]) or "none"
        raise UnsupportedModelError(f"{label} must have exactly one {kind}, got {len(found)}: {names}.")
    return found


def _node(onnx: Any, item: Any, index: int, label: str) -> Node:
    inputs, outputs = tuple(map(_text, item.input)), tuple(map(_text, item.output))
    name = _text(item.name) or (outputs[0] if outputs else f"number {index}")
    op, domain = _text(item.op_type), _text(item.domain)
    op = op if domain in ("", "ai.onnx") else f"{domain}::{op}"
    try:
        attributes = {_text(attribute.name): onnx.helper.get_attribute_value(attribute) for attribute in item.attribute}
    except (ValueError, TypeError) as error:
        raise InvalidInputError(f"{label}: node {name!r} ({op}) has a damaged attribute: {error}") from error
    return Node(name, op, inputs, outputs, attributes)


def _text(value: Any) -> str:
    """A name; what is no text in a damaged file comes as bytes."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _needed(nodes: tuple[Node, ...], output: str) -> tuple[tuple[Node, ...], set[str]]:
    """Nodes that the output depends on, and the names of all tensors they read."""
    makers: dict[str, Node] = {}
    for node in nodes:
        for name in filter(None, node.outputs):
            if name in makers:
                raise InvalidInputError(f"{node} writes the tensor {name!r} a second time.")
            makers[name] = node
    names, stack, kept = {output}, [output], set()
    while stack:
        maker = makers.get(stack.pop())
        if maker is not None and id(maker) not in kept:
            kept.add(id(maker))
            fresh = [name for name in maker.inputs if name and name not in names]
            names.update(fresh)
            stack += fresh
    return tuple(node for node in nodes if id(node) in kept), names


def array_of(onnx: Any, tensor: Any, label: str) -> Any:
    """A tensor of a file as an array; finite when it holds floats.

    Raises
    ------
    InvalidInputError
        When sizes and data do not fit, or values are not finite.
    """
    name = f"{label}: tensor {tensor.name!r}" if tensor.name else f"{label}: a tensor"
    if tensor.data_location == onnx.TensorProto.EXTERNAL or tensor.external_data:
        raise UnsupportedModelError(
            f"{name} is stored in another file, which is not read; save the model as one file "
            f"(onnx.save_model(..., save_as_external_data=False))."
        )
    kinds = onnx.TensorProto
    if tensor.data_type not in (kinds.FLOAT, kinds.FLOAT16, kinds.DOUBLE, kinds.INT64, kinds.INT32, kinds.BOOL):
        kind = kinds.DataType.Name(tensor.data_type) if tensor.data_type in kinds.DataType.values() else "unknown"
        raise UnsupportedModelError(f"{name} is of type {kind}; float16, float32, float64 and integers are read.")
    if len(tensor.dims) > MAX_DIMENSIONS or any(size < 0 for size in tensor.dims):
        raise InvalidInputError(f"{name} has the impossible shape {list(tensor.dims)[:8]}.")
    try:
        array = np.array(onnx.numpy_helper.to_array(tensor))
    except (ValueError, TypeError, MemoryError, OverflowError) as error:
        raise InvalidInputError(f"{name} does not hold what its shape {list(tensor.dims)} says: {error}") from error
    if tuple(array.shape) != tuple(tensor.dims):
        raise InvalidInputError(f"{name} does not hold what its shape {list(tensor.dims)} says.")
    if array.dtype.kind == "f":
        with np.errstate(invalid="ignore"):  # signaling NaN
            array = array.astype(np.float64)
        if not np.isfinite(array).all():
            raise InvalidInputError(f"{name} holds NaN or infinite values.")
    return array


def _sizes(item: Any) -> tuple[int | None, ...] | None:
    """Declared sizes; None for a free one, and for a tensor without shape."""
    kind = item.type.tensor_type
    if not kind.HasField("shape"):
        return None
    return tuple(size.dim_value if size.HasField("dim_value") else None for size in kind.shape.dim)


def _declared_size(item: Any) -> int | None:
    """Product of the declared sizes, a free first one counted as 1; None when another is free."""
    sizes = _sizes(item) or (None, None)
    fixed = [size for size in sizes[1:] if size is not None]
    return None if len(fixed) < len(sizes) - 1 else math.prod(fixed) * (1 if sizes[0] is None else sizes[0])


def _input_shape(entry: Any, label: str) -> tuple[int, ...]:
    sizes = _sizes(entry)
    if sizes is None:
        raise InvalidInputError(f"{label}: the input {entry.name!r} has no shape; export the model with fixed sizes.")
    shape = tuple(1 if size is None or size == 0 else size for size in sizes[:1]) + sizes[1:]
    if any(size is None or size <= 0 for size in shape):
        shown = ["?" if size is None else size for size in sizes]
        raise InvalidInputError(
            f"{label}: the input {entry.name!r} has the sizes {shown}; all but the first must be fixed and positive."
        )
    return tuple(int(size) for size in shape if size is not None)
