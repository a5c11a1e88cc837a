"""Activations that files spell out: `x` times a gate computed from `x`, found while the product is made."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bounds.graph import Node
from bounds.ops import Erf, Gelu, Scale, Sigmoid, Silu, Sum, Tanh, TanhGelu
from bounds.ops.base import Elementwise

__all__ = ["Gated", "gated"]


@dataclass(frozen=True, slots=True)
class Gated:
    """`after * op(before * x)`, which equals the product in real arithmetic."""

    op: Elementwise
    x: str
    before: float
    after: float


@dataclass(frozen=True, slots=True)
class _Line:
    """`weight * x + bias` of a tensor."""

    x: str
    weight: float
    bias: float


def gated(nodes: Mapping[str, Node], cubes: Mapping[str, str], a: str, b: str) -> Gated | None:
    """The activation that `a b` is: SiLU, or GELU in either form, with the constants as they stand. None for another product.

    `cubes` names the tensors that are third powers, and of what.
    """
    for own, gate in ((a, b), (b, a)):
        x, g = _line(nodes, own), _line(nodes, gate)
        node = nodes.get(g.x)
        if x.bias != 0 or node is None or len(node.inputs) != 1:
            continue
        inner = _line(nodes, node.inputs[0])
        scale = x.weight * g.weight
        if isinstance(node.op, Sigmoid) and g.bias == 0 and inner == _Line(x.x, inner.weight, 0.0) and inner.weight > 0:
            return Gated(Silu(), x.x, inner.weight, scale / inner.weight)
        if g.bias != g.weight:  # the gate is 1 + ..., times a number
            continue
        if isinstance(node.op, Erf) and inner == _Line(x.x, inner.weight, 0.0):
            op = _made(Gelu, inner.weight)
        elif isinstance(node.op, Tanh):
            op = _tanh_gelu(nodes, cubes, x.x, inner)
        else:
            continue
        if op is not None:
            return Gated(op, x.x, 1.0, 2 * scale)
    return None


def _tanh_gelu(nodes: Mapping[str, Node], cubes: Mapping[str, str], x: str, inner: _Line) -> Elementwise | None:
    """The argument is `a x + b x^3`."""
    node = nodes.get(inner.x)
    if inner.bias != 0 or node is None or not isinstance(node.op, Sum) or len(node.inputs) != 2:
        return None
    found: dict[int, float] = {}
    for name, sign in zip(node.inputs, node.op.signs, strict=True):
        part = _line(nodes, name)
        degree = 1 if part.x == x else 3 if cubes.get(part.x) == x else 0
        if part.bias == 0:
            found[degree] = sign * part.weight * inner.weight
    return _made(TanhGelu, found[1], found[3]) if set(found) == {1, 3} else None


def _made(kind: type[Gelu] | type[TanhGelu], *constants: float) -> Elementwise | None:
    """The operator, where the constants are those of a GELU."""
    try:
        return kind(*constants)
    except ValueError:
        return None


def _line(nodes: Mapping[str, Node], name: str) -> _Line:
    """A tensor as a line in the first one upstream that is not a scaling by single numbers."""
    weight, bias = 1.0, 0.0
    while (node := nodes.get(name)) is not None and isinstance(node.op, Scale):
        w, b = node.op.weight, node.op.bias
        if any(value is not None and value.numel() != 1 for value in (w, b)):
            break
        bias = bias + weight * (0.0 if b is None else float(b))
        weight = weight * (1.0 if w is None else float(w))
        name = node.inputs[0]
    return _Line(name, weight, bias)
