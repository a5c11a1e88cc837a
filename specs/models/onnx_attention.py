"""ONNX operators of transformers: products of two varying tensors, softmax with its masks, normalisations."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from bounds.ops import Reciprocal, Sqrt, Square
from specs.models.onnx_call import Call, Handler

__all__ = ["HANDLERS", "divide", "multiply", "product"]


def product(call: Call, left: str | Tensor, right: str | Tensor, name: str) -> str:
    """A batch of matrix products of which one factor may be constant. Shapes: `(..., n, k)`, `(..., k, m)`, broadcast."""
    b = call.builder
    if isinstance(left, str) and isinstance(right, str):
        return b.matmul(left, right, name=name)
    if isinstance(left, str) and isinstance(right, Tensor):
        return b.matmul_constant(left, right, name=name)
    assert isinstance(left, Tensor) and isinstance(right, str)
    turned = b.transpose(right, _swapped(len(b.shape(right))), name=b.fresh(name, "turned"))
    made = b.matmul_constant(turned, left.transpose(-1, -2), name=b.fresh(name, "product"))
    return b.transpose(made, _swapped(len(b.shape(made))), name=name)


def _swapped(rank: int) -> list[int]:
    return [*range(rank - 2), rank - 1, rank - 2]


def multiply(call: Call) -> None:
    """`Mul` of two varying tensors."""
    call.builder.mul(call.varying(0), call.varying(1), name=call.result)


def divide(call: Call) -> None:
    """`Div` by a varying tensor."""
    b = call.builder
    if not call.is_constant(0):
        b.divide(call.varying(0), call.varying(1), name=call.result)
        return
    inverse = b.elementwise(Reciprocal(), call.varying(1), name=b.fresh(call.result, "reciprocal"))
    b.scale(inverse, call.tensor(0), name=call.result)


def _softmax(call: Call) -> None:
    b = call.builder
    x, absent = call.scores(0)
    shape = b.shape(x)
    axis = int(call.attribute("axis", -1 if call.opset >= 13 else 1)) % len(shape)
    if call.opset >= 13 or axis == len(shape) - 1:
        b.softmax(x, axis, absent, name=call.result)
        return
    # Before opset 13 all axes from this one on are one row.
    rows = (*shape[:axis], math.prod(shape[axis:]))
    flat = b.reshape(x, rows, name=b.fresh(call.result, "rows"))
    made = b.softmax(
        flat, -1, None if absent is None else absent.expand(shape).reshape(rows), name=b.fresh(call.result, "softmax")
    )
    b.reshape(made, shape, name=call.result)


def _where(call: Call) -> None:
    """A constant condition chooses, element by element."""
    b = call.builder
    condition = torch.from_numpy(np.asarray(call.array(0), dtype=bool).copy())
    if not call.is_constant(1) and not call.is_constant(2):
        chosen = condition.double()
        parts = [
            b.scale(call.varying(i), weight, name=b.fresh(call.result, "part")) for i, weight in ((1, chosen), (2, 1 - chosen))
        ]
        b.sum(parts, name=call.result)
        return
    varying = 2 if call.is_constant(1) else 1
    kept = condition if varying == 1 else ~condition
    call.masked(call.varying(varying), kept, call.open_tensor(3 - varying))


def _pow(call: Call) -> None:
    b, exponent = call.builder, call.tensor(1)
    power = float(exponent.flatten()[0]) if exponent.numel() == 1 else math.nan
    x = call.varying(0)
    if power == 0.5:
        b.elementwise(Sqrt(), x, name=call.result)
    elif power == -0.5:
        b.elementwise(Reciprocal(), b.elementwise(Sqrt(), x, name=b.fresh(call.result, "root")), name=call.result)
    elif power == -1:
        b.elementwise(Reciprocal(), x, name=call.result)
    elif power in (1, 2, 3, 4):
        b.power(x, int(power), name=call.result)
    else:
        raise call.error(f"an exponent of {power:g}", "one exponent is supported here: -1, -0.5, 0.5, 1, 2, 3 or 4")


def _layer_norm(call: Call) -> None:
    """Centred, divided by the root of the mean square, scaled and shifted."""
    _normalise(call, centred=True, epsilon=1e-5)


def _rms_norm(call: Call) -> None:
    _normalise(call, centred=False, epsilon=1e-5)


def _normalise(call: Call, centred: bool, epsilon: float) -> None:
    b, name = call.builder, call.result
    x, shape = call.varying(0), call.shape(0)
    axes = range(int(call.attribute("axis", -1)) % len(shape), len(shape))
    if centred:
        mean = b.reduce(x, axes, mean=True, name=b.fresh(name, "mean"))
        x = b.sub(x, mean, name=b.fresh(name, "centred"))
    size = b.reduce(b.elementwise(Square(), x, name=b.fresh(name, "square")), axes, mean=True, name=b.fresh(name, "size"))
    shifted = b.scale(size, bias=float(call.attribute("epsilon", epsilon)), name=b.fresh(name, "shifted"))
    root = b.elementwise(Sqrt(), shifted, name=b.fresh(name, "root"))
    scaled = b.divide(x, root, name=b.fresh(name, "normal"))
    b.scale(scaled, call.tensor(1) if call.given(1) else None, call.tensor(2) if call.given(2) else None, name=name)


def _einsum(call: Call) -> None:
    """Of two operands: axes of both and of the result are a batch, those of both alone are summed over."""
    equation = str(call.attribute("equation")).replace(" ", "")
    inputs, arrow, out = equation.partition("->")
    labels = inputs.split(",")
    if len(labels) != 2 or not arrow or "." in equation or any(len(set(x)) != len(x) for x in (*labels, out)):
        raise call.error(f"equation {equation!r}", "two operands, explicit axes, none twice in an operand, are supported here")
    b, (one, other) = call.builder, labels
    shared = [x for x in one if x in other]
    batch, summed = [x for x in shared if x in out], [x for x in shared if x not in out]
    own = [[x for x in mine if x not in theirs] for mine, theirs in ((one, other), (other, one))]
    if lost := [x for part in own for x in part if x not in out]:
        raise call.error(f"axis {lost[0]!r} of one operand alone is summed over", "write the sum as an operator of its own")
    sizes = {x: n for i, mine in enumerate(labels) for x, n in zip(mine, call.shape(i), strict=True)}
    orders = [*batch, *own[0], *summed], [*batch, *summed, *own[1]]
    lead = [sizes[x] for x in batch]
    n, k, m = (math.prod(sizes[x] for x in part) for part in (own[0], summed, own[1]))
    operands: list[str | Tensor] = []
    for i, (mine, order, shape) in enumerate(zip(labels, orders, ((*lead, n, k), (*lead, k, m)), strict=True)):
        moved = [mine.index(x) for x in order]
        if call.is_constant(i):
            operands.append(call.tensor(i).permute(moved).reshape(shape))
        else:
            turned = b.transpose(call.varying(i), moved, name=b.fresh(call.result, "turned"))
            operands.append(b.reshape(turned, shape, name=b.fresh(call.result, "matrix")))
    made = product(call, operands[0], operands[1], b.fresh(call.result, "product"))
    found = [*batch, *own[0], *own[1]]
    spread = b.reshape(made, [sizes[x] for x in found], name=b.fresh(call.result, "spread"))
    b.transpose(spread, [found.index(x) for x in out], name=call.result)


HANDLERS: dict[str, Handler] = {
    "Softmax": _softmax,
    "Where": _where,
    "Pow": _pow,
    "Einsum": _einsum,
    "LayerNormalization": _layer_norm,
    "RMSNormalization": _rms_norm,
}
