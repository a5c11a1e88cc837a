"""A claim as files that other verifiers read: ONNX and VNN-LIB 1.0."""
