"""One rule a kind of operator: how it is written in ONNX."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bounds import ops
from bounds.ops.base import Op, Shape
from specs.export.functions import write_curve, write_jump, write_product, write_softmax
from specs.export.writer import Writer, WriterError

__all__ = ["WRITTEN", "write_operator"]

WRITTEN: frozenset[type[Op]] = frozenset(
    (
        ops.Clip, ops.Concat, ops.Conv, ops.Dense, ops.Erf, ops.Exp, ops.Gelu, ops.JumpRelu, ops.LeakyRelu, ops.Log,
        ops.Maximum, ops.Product, ops.Reciprocal, ops.Reduce, ops.Relu, ops.Reshape, ops.Scale, ops.Sigmoid, ops.Sign,
        ops.Silu, ops.Softmax, ops.Sqrt, ops.Square, ops.Sum, ops.Take, ops.Tanh, ops.TanhGelu, ops.Transpose,
    )
)  # fmt: skip
"""The kinds there is a rule for, which is all but TopK: ONNX's breaks ties by position. A kind derived from one of
them needs a rule of its own."""


_WHOLE = 1 << 20
"""Entries of a kernel up to which groups (average pooling has them) are written out: not every verifier reads them."""


def write_operator(w: Writer, op: Op, inputs: Sequence[str], name: str, shape: Shape) -> str:
    """Write one operator of a graph and give the name of its result, of `shape`.

    Guarantees: in real arithmetic the ONNX nodes compute what `op.forward` does, with constants rounded to float32. No product
    of two tensors but where the operator is one, no difference of two tensors. Raises: WriterError: a kind without a rule; as
    `Writer.constant`.
    """
    if type(op) not in WRITTEN:
        raise WriterError(f"tensor {name!r}", f"operator {type(op).__name__}", "the export has no rule for it")
    x = inputs[0]
    match op:
        case ops.Dense():
            return w.linear(x, op.weight, op.bias, name)
        case ops.Conv():
            return _conv(w, op, x, name, shape)
        case ops.Scale():
            return w.scale(x, op.weight, op.bias, name)
        case ops.Take():
            return w.take(x, op.index.cpu(), op.fill, name)
        case ops.Reshape():
            return w.shaped(x, shape, name)
        case ops.Transpose():
            return w.node("Transpose", [x], name, shape, perm=list(op.order))
        case ops.Concat():
            return w.node("Concat", inputs, name, shape, axis=op.axis)
        case ops.Maximum():
            return w.add(inputs[0], inputs[1], name)
        case ops.Sum():
            return _sum(w, op.signs, inputs, name)
        case ops.Reduce():
            return _reduce(w, op, x, name, shape)
        case ops.LeakyRelu() if type(op) is ops.LeakyRelu:
            return w.node("LeakyRelu", [x], name, shape, alpha=w.number(op.slope, name))
        case ops.Clip():
            ends = [torch.tensor(end, dtype=torch.float64) for end in (op.low, op.high)]
            given = ["" if bool(end.isinf()) else w.constant(end, name) for end in ends]
            return w.node("Clip", [x, *given], name, shape)
        case ops.Gelu() | ops.TanhGelu() | ops.Silu() | ops.Square():
            return write_curve(w, op, x, name, shape)
        case ops.JumpRelu():
            return write_jump(w, op, x, name, shape)
        case ops.Product():
            return write_product(w, op, x, name, shape)
        case ops.Softmax():
            return write_softmax(w, op, x, name, shape)
        case _:
            return w.node(type(op).__name__, [x], name, shape)  # Relu, Sigmoid, Exp, ...: ONNX has the same names


def _conv(w: Writer, op: ops.Conv, x: str, name: str, shape: Shape) -> str:
    weight, groups = op.weight, op.groups
    if groups > 1 and weight.numel() * groups <= _WHOLE:
        weight, groups = _ungrouped(weight, groups), 1
    constants = [w.constant(value, name) for value in (weight, op.bias) if value is not None]
    return w.node(
        "Conv", [x, *constants], name, shape,
        kernel_shape=list(weight.shape[2:]), strides=list(op.stride), pads=[*op.padding, *op.padding],
        dilations=list(op.dilation), group=groups,
    )  # fmt: skip


def _ungrouped(weight: Tensor, groups: int) -> Tensor:
    """The same convolution over all channels at once, with zeros between groups."""
    out, channels = weight.shape[0] // groups, weight.shape[1]
    whole = weight.new_zeros((weight.shape[0], channels * groups, *weight.shape[2:]))
    for i in range(groups):
        rows = slice(i * out, (i + 1) * out)
        whole[rows, i * channels : (i + 1) * channels] = weight[rows]
    return whole


def _sum(w: Writer, signs: Sequence[int], inputs: Sequence[str], name: str) -> str:
    """Signs as products with one number: not every verifier reads a difference of two tensors."""
    minus = torch.tensor(-1.0)
    parts = [x if sign > 0 else w.scale(x, minus, None, f"{name}_minus") for sign, x in zip(signs, inputs, strict=True)]
    total = parts[0]
    for part in parts[1:]:
        total = w.add(total, part, name)
    return total


def _reduce(w: Writer, op: ops.Reduce, x: str, name: str, shape: Shape) -> str:
    if op.mean:
        return w.node("ReduceMean", [x], name, shape, axes=list(op.axes), keepdims=1)
    return w.node("ReduceSum", [x, w.constant(torch.tensor(op.axes), name)], name, shape, keepdims=1)
