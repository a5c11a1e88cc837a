"""How operators that have no ONNX name, or that read several entries, are written in ONNX."""

from __future__ import annotations

import torch

from bounds import ops
from bounds.ops.base import Shape
from specs.export.writer import Writer

__all__ = ["write_curve", "write_jump", "write_product", "write_softmax"]

_LEAST = torch.finfo(torch.float32).min
"""A score of an entry that is masked out: `exp` of it, less any other score, is zero in every precision."""


def write_curve(w: Writer, op: ops.Gelu | ops.TanhGelu | ops.Silu | ops.Square, x: str, name: str, shape: Shape) -> str:
    """`x` times itself, or times a gate computed from it."""
    match op:
        case ops.Square():
            return w.node("Mul", [x, x], name, shape)
        case ops.Silu():
            gate = w.node("Sigmoid", [x], f"{name}_gate", shape)
        case ops.Gelu():
            erf = w.node("Erf", [w.scale(x, _number(op.c), None, f"{name}_scaled")], f"{name}_erf", shape)
            gate = w.scale(erf, _number(0.5), _number(0.5), f"{name}_gate")
        case ops.TanhGelu():
            square = w.node("Mul", [x, x], f"{name}_square", shape)
            inner = w.scale(square, _number(2 * op.b), _number(2 * op.a), f"{name}_inner")
            gate = w.node("Sigmoid", [w.node("Mul", [x, inner], f"{name}_argument", shape)], f"{name}_gate", shape)
    return w.node("Mul", [x, gate], name, shape)


def write_jump(w: Writer, op: ops.JumpRelu, x: str, name: str, shape: Shape) -> str:
    """The argument where it is above the threshold, else 0."""
    above = w.node("Greater", [x, w.constant(op.threshold, name)], f"{name}_above", shape)
    return w.node("Where", [above, x, w.constant(torch.zeros((), dtype=torch.float64), name)], name, shape)


def write_product(w: Writer, op: ops.Product, x: str, name: str, shape: Shape) -> str:
    """The two matrices taken apart, and multiplied."""
    lead = w.shape(x)[:-1]
    positions = torch.arange(int(torch.Size(w.shape(x)).numel())).reshape(w.shape(x))
    left, right = (
        w.shaped(w.take(x, part, None, f"{name}_{side}"), (*lead, *matrix), f"{name}_{side}")
        for side, part, matrix in zip(
            ("left", "right"),
            positions.split([op.n * op.k, op.k * op.m], dim=-1),
            ((op.n, op.k), (op.k, op.m)),
            strict=True,
        )
    )
    return w.node("MatMul", [left, right], name, shape)


def write_softmax(w: Writer, op: ops.Softmax, x: str, name: str, shape: Shape) -> str:
    """With scores far below all others where entries are absent."""
    if op.absent is not None:
        there = (~op.absent).double().expand(shape)
        x = w.scale(x, there, (1 - there) * _LEAST, f"{name}_masked")
    return w.node("Softmax", [x], name, shape, axis=len(shape) - 1)


def _number(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)
