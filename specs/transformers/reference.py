"""A converted model beside what the original said."""

from __future__ import annotations

import numpy as np
import onnx
import torch
from torch import Tensor

from specs.errors import InputError
from specs.models.onnx_file import parse
from specs.models.onnx_runtime import OnnxRuntime
from specs.transformers.checkpoint import Checkpoint
from specs.transformers.write import Input
from specs.weights import read_weights

__all__ = ["compare_with"]

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest logit."""


def compare_with(path: str, made: onnx.ModelProto, checkpoint: Checkpoint, takes: Input, last: bool) -> float:
    """Run a converted model on the tokens of a reference: `tokens` `(rows, positions)` and the original's `logits` `(rows,
    positions, vocabulary)`, with `last` also `(rows, vocabulary)`. Returns the greatest difference of two logits.

    Raises: InputError: the arrays do not fit the model, or the difference is more than 1e-4 of the largest logit.
    """
    found = read_weights(path, file=path, where="")
    for name in ("tokens", "logits"):
        if name not in found:
            raise InputError(path, "", f"no array {name!r}", "the arrays `tokens` and `logits`")
    config = checkpoint.config
    shape = tuple(d.dim_value for d in made.graph.input[0].type.tensor_type.shape.dim)
    tokens, logits = found["tokens"].long(), found["logits"].double()
    if tokens.dim() != 2 or tokens.shape[1] != shape[1] or not len(tokens):
        raise InputError(path, "", f"tokens of shape {list(tokens.shape)}", f"shape (rows, {shape[1]})")
    if int(tokens.min()) < 0 or int(tokens.max()) >= config.vocabulary:
        raise InputError(path, "", f"token {int(tokens.max())}", f"tokens 0..{config.vocabulary - 1}")
    logits = logits[:, -1] if last and logits.dim() == 3 else logits
    wanted = (len(tokens), config.outputs) if last else (len(tokens), shape[1], config.outputs)
    if tuple(logits.shape) != wanted:
        raise InputError(path, "", f"logits of shape {list(logits.shape)}", f"shape {list(wanted)}")
    file = parse(made.SerializeToString(), path)
    runtime = OnnxRuntime(file.original, file.model, file.input, file.output)
    gap, largest = 0.0, float(logits.abs().max())
    for row, expected in zip(tokens, logits, strict=True):
        ours = runtime.outputs(_input(row, checkpoint, takes).numpy()).reshape(expected.shape)
        gap = max(gap, float(np.abs(ours.astype(np.float64) - expected.numpy()).max()))
    if not gap <= TOLERANCE * largest:
        said = f"the converted model's logits differ from the original's by {gap:.3g}"
        raise InputError(path, "", said, f"at most {TOLERANCE:g} of the largest, {largest:.3g}", "is it the same checkpoint?")
    return gap


def _input(row: Tensor, checkpoint: Checkpoint, takes: Input) -> Tensor:
    if takes == "embedding":
        return checkpoint["embed.W_E"][row].unsqueeze(0)
    return torch.nn.functional.one_hot(row, checkpoint.config.vocabulary).float().unsqueeze(0)
