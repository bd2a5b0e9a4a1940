"""Networks and properties of other tools: ONNX graphs and VNN-LIB files, read and written."""
