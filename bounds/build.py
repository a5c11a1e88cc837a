"""Lowerings: what is none of the kinds of `bounds.ops.base` is made of them here, in one place."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from bounds.assembly import Assembly, real, text
from bounds.graph import GraphError
from bounds.ops import Conv, Maximum, Product, Reciprocal, Relu, Reshape, Softmax, Square, Sum, Take, Transpose
from bounds.recognise import gated
from bounds.window import counts, overshoot, padded, windows

__all__ = ["Builder"]


class Builder(Assembly):
    """`Assembly` with convolution, pooling, products and softmax. Convolution and pooling have channels on axis 1."""

    # products ----------------------------------------------------------------------------------------------------------------

    def matmul(self, a: str, b: str, *, name: str) -> str:
        """`a b` over the last two axes, leading ones broadcast. Shapes: `(..., n, k)`, `(..., k, m)` to `(..., n, m)`."""
        left, right = self.shape(a), self.shape(b)
        if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
            raise GraphError(f"tensor {name!r}: a product of {text(left)} and {text(right)}")
        try:
            lead = tuple(np.broadcast_shapes(left[:-2], right[:-2]))
        except ValueError as error:
            raise GraphError(f"tensor {name!r}: a product of {text(left)} and {text(right)}") from error
        flat = [
            self.reshape(
                self._repeated(x, (*lead, *shape[-2:]), name),
                (*lead, shape[-2] * shape[-1]),
                name=self.fresh(name, "flat"),
            )
            for x, shape in ((a, left), (b, right))
        ]
        both = self.concat(flat, -1, name=self.fresh(name, "factors"))
        return self._add(Product(left[-2], left[-1], right[-1]), (both,), name, None)

    def mul(self, a: str, b: str, *, name: str) -> str:
        """`a b` element by element, broadcast."""
        if a == b:
            return self.elementwise(Square(), a, name=name)
        known = gated(self._nodes, self._cubes, a, b)
        if known is not None and self.shape(a) == self.shape(b):
            x = known.x if known.before == 1 else self.scale(known.x, known.before, name=self.fresh(name, "argument"))
            if known.after == 1:
                return self.elementwise(known.op, x, name=name)
            return self.scale(self.elementwise(known.op, x, name=self.fresh(name, "activation")), known.after, name=name)
        try:
            shape = tuple(np.broadcast_shapes(self.shape(a), self.shape(b)))
        except ValueError as error:
            given = f"{text(self.shape(a))} and {text(self.shape(b))}"
            raise GraphError(f"tensor {name!r}: shapes {given} do not broadcast") from error
        axes = {self.channel_axis(x) for x in (a, b) if self.shape(x) == shape} - {None}
        ones = [self.reshape(self._repeated(x, shape, name), (*shape, 1), name=self.fresh(name, "flat")) for x in (a, b)]
        both = self.concat(ones, -1, name=self.fresh(name, "factors"))
        product = self._add(Product(), (both,), self.fresh(name, "product"), None)
        self.reshape(product, shape, name=name)
        self._nodes[name] = replace(self._nodes[name], channel_axis=axes.pop() if len(axes) == 1 else None)
        return name

    def power(self, x: str, exponent: int, *, name: str) -> str:
        """A power of 1 to 4."""
        if exponent == 1:
            return self.scale(x, name=name)
        square = self.elementwise(Square(), x, name=name if exponent == 2 else self.fresh(name, "square"))
        if exponent == 4:
            return self.elementwise(Square(), square, name=name)
        if exponent == 3:
            self._cubes[name] = x
            return self.mul(square, x, name=name)
        return square

    def matmul_constant(self, x: str, weight: Tensor, *, name: str) -> str:
        """`x W` over the last two axes, leading ones broadcast. Shapes: `(..., n, k)`, `weight` `(..., k, m)`."""
        left, right = self.shape(x), tuple(weight.shape)
        if min(len(left), len(right)) < 2 or left[-1] != right[-2]:
            raise GraphError(f"tensor {name!r}: a product of {text(left)} and {text(right)}")
        if math.prod(right[:-2]) == 1 and len(right) <= len(left):
            return self.dense(x, weight.reshape(right[-2:]).T, name=name)
        try:
            lead = tuple(np.broadcast_shapes(left[:-2], right[:-2]))
        except ValueError as error:
            raise GraphError(f"tensor {name!r}: a product of {text(left)} and {text(right)}") from error
        count = math.prod(lead)
        rows = self.reshape(
            self._repeated(x, (*lead, *left[-2:]), name), (count, *left[-2:]), name=self.fresh(name, "matrices")
        )
        parts: list[str | Tensor] = []
        for i, matrix in enumerate(weight.expand(*lead, *right[-2:]).reshape(count, *right[-2:])):
            part = self.slice(rows, [slice(i, i + 1), slice(None), slice(None)], name=self.fresh(name, "matrix"))
            parts.append(self.dense(part, matrix.T, name=self.fresh(name, "product")))
        whole = self.concat(parts, 0, name=self.fresh(name, "whole"))
        return self.reshape(whole, (*lead, left[-2], right[-1]), name=name)

    def divide(self, a: str, b: str, *, name: str) -> str:
        """`a / b` element by element, broadcast: bounded as a product with the reciprocal."""
        return self.mul(a, self.elementwise(Reciprocal(), b, name=self.fresh(name, "reciprocal")), name=name)

    def softmax(self, x: str, axis: int = -1, absent: Tensor | None = None, *, name: str) -> str:
        """Softmax along an axis over the entries that are not `absent` (bool, broadcasts to `x`'s shape)."""
        shape = self.shape(x)
        axis = axis % len(shape)
        order = [a for a in range(len(shape)) if a != axis] + [axis]
        if absent is not None:
            absent = absent.expand(shape).permute(order)
            if bool(absent.all(-1).any()):
                raise GraphError(f"tensor {name!r}: softmax over a row that is masked out as a whole")
        if axis == len(shape) - 1:
            return self._add(Softmax(absent), (x,), name, self.channel_axis(x))
        turned = self.transpose(x, order, name=self.fresh(name, "turned"))
        made = self._add(Softmax(absent), (turned,), self.fresh(name, "softmax"), self.channel_axis(turned))
        return self.transpose(made, [order.index(a) for a in range(len(shape))], name=name)

    def is_softmax(self, x: str) -> bool:
        """Whether a tensor holds results of a softmax, wherever they were moved: finite, whatever the scores."""
        node = self._nodes.get(x)
        while node is not None and isinstance(node.op, Reshape | Transpose):
            node = self._nodes.get(node.inputs[0])
        return node is not None and isinstance(node.op, Softmax)

    def _repeated(self, x: str, shape: Sequence[int], name: str) -> str:
        return x if self.shape(x) == tuple(shape) else self.expand(x, shape, name=self.fresh(name, "wide"))

    # windows -----------------------------------------------------------------------------------------------------------------

    def conv(
        self,
        x: str,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Sequence[int] | None = None,
        pads_begin: Sequence[int] | None = None,
        pads_end: Sequence[int] | None = None,
        dilation: Sequence[int] | None = None,
        groups: int = 1,
        *,
        name: str,
    ) -> str:
        """Cross-correlation. Shapes: `x` `(n, channels, *space)`, one or two axes of space; `weight` `(out, channels / groups,
        *kernel)`; pads zero, each end its own."""
        shape, rank = self.shape(x), weight.dim() - 2
        begins, ends = list(pads_begin or [0] * rank), list(pads_end or pads_begin or [0] * rank)
        if rank not in (1, 2) or len(shape) != rank + 2 or weight.shape[1] * groups != shape[1]:
            given = f"{text(shape)} with weight {text(weight.shape)}, groups {groups}"
            raise GraphError(f"tensor {name!r}: convolution of {given}; one or two axes of space are supported")
        if begins != ends or min(begins) < 0:
            x = self.pad(x, [0, 0, *begins], [0, 0, *ends], name=self.fresh(name, "pad"))
            begins = [0] * rank
        op = Conv(
            real(weight),
            None if bias is None else real(bias),
            tuple(stride or [1] * rank),
            tuple(begins),
            tuple(dilation or [1] * rank),
            groups,
            self.shape(x)[2:],
        )
        return self._add(op, (x,), name, 1)

    def average_pool(
        self,
        x: str,
        kernel: Sequence[int],
        stride: Sequence[int],
        pads_begin: Sequence[int],
        pads_end: Sequence[int],
        dilation: Sequence[int],
        *,
        count_pads: bool,
        ceil: bool = False,
        name: str,
    ) -> str:
        """Mean of each window; padded elements count as zeros where `count_pads`, else not at all. With `ceil`, windows may
        reach past the padded end; what lies there never counts."""
        channels, space = self.shape(x)[1], self.shape(x)[2:]
        over = overshoot(space, kernel, stride, pads_begin, pads_end, dilation, ceil)
        ends = [e + o for e, o in zip(pads_end, over, strict=True)]
        count = counts(space, kernel, stride, (pads_begin, pads_end, over), dilation, count_pads)
        if bool((count == 0).any()):
            raise GraphError(f"tensor {name!r}: a window of the pooling holds nothing but padding")
        whole = torch.ones(channels, 1, *kernel, dtype=torch.float64)
        same = bool((count == count.flatten()[0]).all())
        part = name if same else self.fresh(name, "sum")
        weight = whole / count.flatten()[0] if same else whole
        self.conv(x, weight, None, stride, pads_begin, ends, dilation, channels, name=part)
        return part if same else self.scale(part, 1 / count, name=name)

    def max_pool(
        self,
        x: str,
        kernel: Sequence[int],
        stride: Sequence[int],
        pads_begin: Sequence[int],
        pads_end: Sequence[int],
        dilation: Sequence[int],
        *,
        ceil: bool = False,
        name: str,
    ) -> str:
        """Maximum of each window. A padded position repeats an element of its window, which changes no maximum."""
        shape = self.shape(x)
        over = overshoot(shape[2:], kernel, stride, pads_begin, pads_end, dilation, ceil)
        ends = [e + o for e, o in zip(pads_end, over, strict=True)]
        rows = windows(padded(self._positions(x), [0, 0, *pads_begin], [0, 0, *ends]), kernel, stride, dilation)
        stand_in = rows.amax(0)
        if not rows.numel() or bool((stand_in < 0).any()):
            raise GraphError(f"tensor {name!r}: a window of the pooling holds nothing but padding")
        return self._maximum(x, torch.where(rows < 0, stand_in, rows), name)

    def _maximum(self, x: str, rows: Tensor, name: str) -> str:
        """The greatest of `x.flat[rows[i]]` over `i`. Pairs halve the stack; odd ones out are joined at the end."""
        if len(rows) == 1:
            return self._add(Take(rows[0].contiguous(), self.shape(x)), (x,), name, 1)
        spare: list[str] = []
        stack, shape = x, tuple(rows.shape[1:])
        while (count := len(rows)) > 1:
            half = count // 2
            if count % 2:
                spare.append(self._picked(stack, rows[-1], name))
            pairs = (rows[:half], rows[half : 2 * half]) if half > 1 else (rows[0], rows[1])
            a, b = (self._picked(stack, part, name) for part in pairs)
            stack = self._larger(a, b, name, last=half == 1 and not spare)
            rows = torch.arange(half * math.prod(shape)).reshape(half, *shape)
        for i, other in enumerate(spare):
            stack = self._larger(stack, other, name, last=i == len(spare) - 1)
        return stack

    def _picked(self, x: str, index: Tensor, name: str) -> str:
        return self._inner(Take(index.contiguous(), self.shape(x)), (x,), name, "take")

    def _larger(self, a: str, b: str, name: str, last: bool) -> str:
        gap = self._inner(Sum((1, -1)), (a, b), name, "gap")
        over = self._inner(Relu(), (gap,), name, "relu")
        if last:
            return self._add(Maximum(), (b, over, a), name, 1)
        return self._inner(Maximum(), (b, over, a), name, "max")
