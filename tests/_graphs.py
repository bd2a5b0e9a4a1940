"""Small ONNX models, built by hand."""

from __future__ import annotations

from typing import Any

import numpy as np


def graph(nodes: list[Any], shape: Any, constants: dict[str, Any] | None = None, **how: Any) -> bytes:
    """Model from ``x`` of a shape to ``y``; a node is (op, inputs, output) or (op, inputs, output, attributes)."""
    from onnx import TensorProto, helper, numpy_helper

    made = []
    for index, (op, inputs, output, *attributes) in enumerate(nodes):
        outputs = output.split() if isinstance(output, str) else output
        options = attributes[0] if attributes else {}
        domain = options.pop("domain", "")
        made.append(helper.make_node(op, inputs.split(), outputs, f"node{index}", domain=domain, **options))
    kind = how.get("kind", TensorProto.FLOAT)
    ends = [
        helper.make_tensor_value_info("x", kind, list(shape)),
        helper.make_tensor_value_info("y", kind, how.get("out")),
    ]
    tensors = [numpy_helper.from_array(np.asarray(value), name) for name, value in (constants or {}).items()]
    tensors += how.get("tensors", [])
    extra = [helper.make_tensor_value_info(name, kind, [1]) for name in how.get("inputs", [])]
    outs = [helper.make_tensor_value_info(name, kind, None) for name in how.get("outputs", [])]
    made_graph = helper.make_graph(made, "g", [ends[0], *extra], [ends[1], *outs], tensors)
    opset = [helper.make_opsetid("", how.get("opset", 17))]
    return bytes(helper.make_model(made_graph, opset_imports=opset, ir_version=8).SerializeToString())


def run(content: bytes, x: Any, name: str = "x") -> Any:
    """Outputs of onnxruntime, flattened."""
    import onnxruntime

    session = onnxruntime.InferenceSession(content, providers=["CPUExecutionProvider"])
    return session.run(None, {name: x})[0].ravel()
