"""Transformers from checkpoints of TransformerLens and HuggingFace, written as ONNX under TransformerLens's names."""
