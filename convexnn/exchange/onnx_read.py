"""Layers out of ONNX graphs: chains of matrix products, constants and activations, whatever they are written with."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from convexnn.activations import Activation
from convexnn.exceptions import InvalidInputError, UnsupportedModelError
from convexnn.exchange.onnx_call import Tensor
from convexnn.exchange.onnx_file import Graph, read_graph
from convexnn.exchange.onnx_operators import apply
from convexnn.exchange.signals import Signal, Stage, Value, check_size

Array = NDArray[np.float64]
Layers = tuple[tuple[Array, Array], ...]


@dataclass(frozen=True, eq=False)
class OnnxLayers:
    """What an ONNX file computes on one sample.

    Attributes
    ----------
    layers : tuple of (W, b)
        On the input flattened in row-major order, which is the order of ``X_0, X_1, ...`` in VNN-LIB.
    activation : Activation
    input_name, output_name : str
    input_shape, output_shape : tuple of int
        Of one sample as the file has it, a free first size counted as 1.
    """

    layers: Layers
    activation: Activation
    input_name: str
    input_shape: tuple[int, ...]
    output_name: str
    output_shape: tuple[int, ...]


def layers_from_onnx(source: str | os.PathLike[str] | bytes) -> tuple[Layers, Activation]:
    """Weights and activation of a fully connected ONNX model; see :func:`read_onnx`."""
    found = read_onnx(source)
    return found.layers, found.activation


def read_onnx(source: str | os.PathLike[str] | bytes) -> OnnxLayers:
    """The layers of a fully connected ONNX model.

    Constants before, between and after the layers (normalization, biases, scales) are folded in and consecutive
    linear layers are multiplied, in float64; a model that is linear throughout keeps its layers apart.

    Parameters
    ----------
    source : path or bytes

    Raises
    ------
    UnsupportedModelError
        Names the node and the operator that cannot be represented.
    InvalidInputError
        When the file is damaged, or the package ``onnx`` is absent.
    """
    graph = read_graph(source)
    value = _evaluate(graph, merge=True)
    layers, activations = _chain(value.signal)
    if not activations:
        value = _evaluate(graph, merge=False)
        layers, activations = _chain(value.signal)
    if not activations:
        raise UnsupportedModelError(
            "The ONNX model is one linear layer; a network needs a hidden layer, and a linear function needs no bound."
        )
    different = list(dict.fromkeys(activations))
    if len(different) > 1:
        names = ", ".join(repr(activation) for activation in different)
        raise UnsupportedModelError(
            f"All hidden layers must share one activation, the ONNX model has {names}. If the last one only maps "
            f"logits to probabilities, export the model without it."
        )
    return OnnxLayers(layers, different[0], graph.input_name, graph.input_shape, graph.output_name, value.shape)


def _evaluate(graph: Graph, merge: bool) -> Value:
    """The output as a function of the input, node after node."""
    width = math.prod(graph.input_shape)
    check_size(width)
    known: dict[str, Tensor] = dict(graph.constants)
    if graph.input_name in known:
        raise InvalidInputError(f"The tensor {graph.input_name!r} is both the input and a constant.")
    known[graph.input_name] = Value(Signal.of(Stage(width), graph.input_shape))
    for node in graph.nodes:
        missing = [name for name in node.inputs if name and name not in known]
        if missing:
            raise InvalidInputError(
                f"{node} reads the tensor {missing[0]!r}, which nothing before it writes (a cycle, or a damaged file)."
            )
        if not node.outputs or node.outputs[0] in known:
            raise InvalidInputError(f"{node} writes no tensor, or one that exists already.")
        known[node.outputs[0]] = apply(node, tuple(known[name] if name else None for name in node.inputs), merge)
    value = known.get(graph.output_name)
    if not isinstance(value, Value):
        raise InvalidInputError(f"The output {graph.output_name!r} does not depend on the input.")
    _check_output(graph, value)
    return value


def _check_output(graph: Graph, value: Value) -> None:
    size = math.prod(value.shape)
    if graph.output_size is not None and graph.output_size != size:
        raise InvalidInputError(
            f"The output {graph.output_name!r} has the shape {value.shape}, declared are {graph.output_size} values."
        )
    entry = graph.input_shape
    if len(entry) > 1 and entry[0] > 1 and math.prod(entry[1:]) > 1 and value.shape[:1] == entry[:1]:
        raise UnsupportedModelError(
            f"The input {graph.input_name!r} of shape {entry} holds a batch of {entry[0]}; export the model with a "
            f"batch of 1 or a free one."
        )


def _chain(signal: Signal) -> tuple[Layers, list[Activation]]:
    """Layers and activations from the inputs to a signal."""
    layers: list[tuple[Array, Array]] = [(signal.dense(), signal.offset)]
    activations: list[Activation] = []
    while signal.stage.previous is not None:
        assert signal.stage.activation is not None
        activations.append(signal.stage.activation)
        signal = signal.stage.previous
        layers.append((signal.dense(), signal.offset))
    return tuple(reversed(layers)), activations[::-1]
