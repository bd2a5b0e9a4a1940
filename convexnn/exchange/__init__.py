"""Networks and properties of other tools: ONNX graphs and VNN-LIB files, read and written."""

from convexnn.exchange.onnx_read import OnnxLayers, layers_from_onnx, read_onnx
from convexnn.exchange.onnx_write import write_onnx

__all__ = ["OnnxLayers", "layers_from_onnx", "read_onnx", "write_onnx"]
