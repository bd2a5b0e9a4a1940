"""Networks and properties of other tools: ONNX graphs and VNN-LIB files, read and written."""

from convexnn.exchange.onnx_read import OnnxLayers, layers_from_onnx, read_onnx
from convexnn.exchange.onnx_write import write_onnx
from convexnn.exchange.properties import Case, Property
from convexnn.exchange.vnnlib_read import parse_vnnlib, read_vnnlib
from convexnn.exchange.vnnlib_write import counterexample_text, write_vnnlib

__all__ = [
    "Case",
    "OnnxLayers",
    "Property",
    "counterexample_text",
    "layers_from_onnx",
    "parse_vnnlib",
    "read_onnx",
    "read_vnnlib",
    "write_onnx",
    "write_vnnlib",
]
