"""Graphs made node by node: single operators, sums, and elements put elsewhere."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor

from bounds.channel import followed
from bounds.graph import Graph, GraphError, Node
from bounds.ops import Concat, Dense, Reduce, Reshape, Scale, Sum, Take, Transpose
from bounds.ops.base import Elementwise, Op, Shape
from bounds.window import padded

__all__ = ["Assembly", "real", "text"]


@dataclass(eq=False)
class Assembly:
    """Methods take names of tensors, and constants (held as float64), add a node called `name`, and return `name`.

    Tensors that a lowering needs on the way are called `name#tag` and are no sites. Shapes are those at batch size one, the
    model's own leading axis included. Channels are followed for as long as one axis counts exactly them.
    Raises: GraphError: a name used twice or unknown, shapes that do not fit.
    """

    input: str
    input_shape: Shape
    _nodes: dict[str, Node] = field(default_factory=dict[str, Node])
    _derived: set[str] = field(default_factory=set[str])
    _cubes: dict[str, str] = field(default_factory=dict[str, str])
    absent: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    """Entries of tensors that a mask has set to minus infinity; only a softmax may read such a tensor."""

    def shape(self, x: str) -> Shape:
        """Shape of a tensor, without our batch axis."""
        return self.input_shape if x == self.input else self._node(x).shape

    def channel_axis(self, x: str) -> int | None:
        """The axis that counts convolution channels, where there is one."""
        return None if x == self.input else self._node(x).channel_axis

    def build(self, output: str) -> Graph:
        """The graph that computes `output`, without what it does not need."""
        needed = {output}
        for node in reversed(self._nodes.values()):
            if node.name in needed:
                needed.update(node.inputs)
        return Graph(self.input, self.input_shape, tuple(n for n in self._nodes.values() if n.name in needed), output)

    def leave_out(self, x: str, gone: Tensor) -> None:
        """Note that entries of a tensor stand for minus infinity. It is no site: to patch such an entry would bring it back;
        here it stays out. Shapes: `gone` (bool) broadcasts to that of `x`."""
        self.absent[x] = gone.expand(self.shape(x))
        self._nodes[x] = replace(self._node(x), site=False)

    def fresh(self, name: str, tag: str) -> str:
        """A name for a tensor on the way to `name`. It is no site."""
        i = 0
        while (made := f"{name}#{tag}{i}") in self._derived or made in self._nodes:
            i += 1
        self._derived.add(made)
        return made

    # single ops --------------------------------------------------------------------------------------------------------------

    def elementwise(self, op: Elementwise, x: str, *, name: str) -> str:
        return self._add(op, (x,), name, self.channel_axis(x))

    def dense(self, x: str, weight: Tensor, bias: Tensor | None = None, *, name: str) -> str:
        """`x W^T + b` over the last axis. Shapes: `weight` `(out, in)`, `bias` `(out,)`."""
        shape, axis = self.shape(x), self.channel_axis(x)
        if not shape or weight.dim() != 2 or weight.shape[1] != shape[-1]:
            raise GraphError(f"tensor {name!r}: weight {text(weight.shape)} does not fit {text(shape)}")
        kept = axis if axis is not None and axis < len(shape) - 1 else None
        return self._add(Dense(real(weight), None if bias is None else real(bias)), (x,), name, kept)

    def dense_left(self, x: str, weight: Tensor, *, name: str) -> str:
        """`W x` over the last axis but one. Shapes: `weight` `(out, in)`, `x` `(..., in, n)`."""
        order = [*range(len(self.shape(x)) - 2), len(self.shape(x)) - 1, len(self.shape(x)) - 2]
        turned = self.transpose(x, order, name=self.fresh(name, "turned"))
        return self.transpose(self.dense(turned, weight, name=self.fresh(name, "dense")), order, name=name)

    def scale(self, x: str, weight: Tensor | float | None = None, bias: Tensor | float | None = None, *, name: str) -> str:
        """`w x + b`. `x` is repeated first along axes that the constants widen."""
        w = None if weight is None else real(weight)
        b = None if bias is None else real(bias)
        x = self._widened(x, [c.shape for c in (w, b) if c is not None], name)
        return self._add(Scale(w, b), (x,), name, self.channel_axis(x))

    def reshape(self, x: str, shape: Iterable[int], *, name: str) -> str:
        before, after = self.shape(x), tuple(shape)
        if math.prod(before) != math.prod(after):
            raise GraphError(f"tensor {name!r}: {text(before)} does not reshape to {text(after)}")
        op = Scale() if before == after else Reshape(before, after)
        return self._add(op, (x,), name, self._followed(x, self._positions(x).reshape(after)))

    def transpose(self, x: str, order: Sequence[int], *, name: str) -> str:
        axis = self.channel_axis(x)
        return self._add(Transpose(tuple(order)), (x,), name, None if axis is None else list(order).index(axis))

    def take(self, x: str, index: Tensor, fill: Tensor | None = None, *, name: str) -> str:
        """Elements of `x` by flat position, in the shape of `index`; where it is -1, `fill` or 0."""
        if index.numel() and int(index.max()) >= math.prod(self.shape(x)):
            raise GraphError(f"tensor {name!r}: position {int(index.max())} in {text(self.shape(x))}")
        kept = None if fill is None else torch.where(index < 0, real(fill).expand(index.shape), 0.0)
        return self._add(Take(index.contiguous(), self.shape(x), kept), (x,), name, self._followed(x, index))

    def reduce(self, x: str, axes: Iterable[int], *, mean: bool, keepdims: bool = True, name: str) -> str:
        """Sum or mean over `axes`."""
        shape, axis = self.shape(x), self.channel_axis(x)
        gone = tuple(sorted({a % len(shape) for a in axes}))
        channel = None if axis in gone else axis
        op = Reduce(gone, shape, mean)
        if keepdims:
            return self._add(op, (x,), name, channel)
        whole = self._add(op, (x,), self.fresh(name, "reduced"), channel)
        return self.reshape(whole, [n for a, n in enumerate(shape) if a not in gone], name=name)

    # several tensors ---------------------------------------------------------------------------------------------------------

    def add(self, a: str, b: str, *, name: str) -> str:
        return self.sum((a, b), (1, 1), name=name)

    def sub(self, a: str, b: str, *, name: str) -> str:
        return self.sum((a, b), (1, -1), name=name)

    def sum(self, inputs: Sequence[str], signs: Sequence[int] | None = None, *, name: str) -> str:
        """`sum_i sign_i x_i` with broadcasting; by default all signs are 1."""
        shapes = [self.shape(x) for x in inputs]
        wide = tuple(self._widened(x, shapes, name) for x in inputs)
        axes = {self.channel_axis(x) for x in wide} - {None}
        return self._add(Sum(tuple(signs or [1] * len(wide))), wide, name, axes.pop() if len(axes) == 1 else None)

    def concat(self, parts: Sequence[str | Tensor], axis: int, *, name: str) -> str:
        """Tensors, and constants among them, one after another along `axis`."""
        shapes = [self.shape(p) if isinstance(p, str) else tuple(p.shape) for p in parts]
        axis = axis % len(shapes[0])
        varying = [p for p in parts if isinstance(p, str)]
        widths = tuple(self.shape(p)[axis] for p in varying)
        if len({s[:axis] + s[axis + 1 :] for s in shapes}) != 1:
            raise GraphError(f"tensor {name!r}: shapes {', '.join(map(text, shapes))} do not join along axis {axis}")
        axes = {self.channel_axis(p) for p in varying}
        channel = axes.pop() if len(axes) == 1 else None
        if len(varying) == len(parts) > 1:
            return self._add(Concat(axis, widths), tuple(varying), name, channel)
        joined = varying[0]
        if len(varying) > 1:
            joined = self._add(Concat(axis, widths), tuple(varying), self.fresh(name, "joined"), channel)
        places = torch.split(self._positions(joined), list(widths), dim=axis)
        found, known = iter(places), [None if isinstance(p, str) else real(p) for p in parts]
        index = torch.cat([next(found) if p is None else torch.full(p.shape, -1) for p in known], dim=axis)
        holes = iter(places)
        fill = torch.cat([torch.zeros(next(holes).shape, dtype=torch.float64) if p is None else p for p in known], dim=axis)
        return self.take(joined, index, fill, name=name)

    # moved elements ----------------------------------------------------------------------------------------------------------

    def slice(self, x: str, slices: Sequence[slice], *, name: str) -> str:
        """`x[slices]`, steps positive. Shape: an axis a slice, none lost."""
        return self.take(x, self._positions(x)[tuple(slices)], name=name)

    def expand(self, x: str, shape: Sequence[int], *, name: str) -> str:
        """Repeat along axes of length one and new leading ones."""
        return self.take(x, self._positions(x).expand(*shape), name=name)

    def pad(self, x: str, begins: Sequence[int], ends: Sequence[int], value: float = 0.0, *, name: str) -> str:
        """Add `begins` and `ends` elements `value` along every axis; negative numbers take away."""
        index = padded(self._positions(x), begins, ends)
        fill = None if value == 0 else torch.where(index < 0, value, 0.0).double()
        return self._add(Take(index, self.shape(x), fill), (x,), name, self._followed(x, index))

    # plumbing ----------------------------------------------------------------------------------------------------------------

    def _node(self, x: str) -> Node:
        if x not in self._nodes:
            raise GraphError(f"no tensor is called {x!r}")
        return self._nodes[x]

    def _add(self, op: Op, inputs: tuple[str, ...], name: str, channel_axis: int | None) -> str:
        if name == self.input or name in self._nodes:
            raise GraphError(f"tensor {name!r} is assigned twice")
        try:
            shape = op.forward(*(torch.zeros(1, *self.shape(x), dtype=torch.float64) for x in inputs)).shape[1:]
        except (RuntimeError, IndexError, ValueError) as error:
            given = ", ".join(text(self.shape(x)) for x in inputs)
            raise GraphError(f"tensor {name!r}: {type(op).__name__} does not take {given} ({error})") from error
        self._nodes[name] = Node(name, op, inputs, tuple(shape), name not in self._derived, channel_axis)
        return name

    def _inner(self, op: Op, inputs: tuple[str, ...], name: str, tag: str) -> str:
        return self._add(op, inputs, self.fresh(name, tag), None)

    def _positions(self, x: str) -> Tensor:
        return torch.arange(math.prod(self.shape(x))).reshape(self.shape(x))

    def _widened(self, x: str, shapes: Iterable[Sequence[int]], name: str) -> str:
        before = self.shape(x)
        try:
            shape = tuple(np.broadcast_shapes(before, *shapes))
        except ValueError as error:
            raise GraphError(f"tensor {name!r}: shapes {', '.join(map(text, (before, *shapes)))} do not broadcast") from error
        if shape == before:
            return x
        index = self._positions(x).expand(shape).contiguous()
        return self._add(Take(index, before), (x,), self.fresh(name, "wide"), self._followed(x, index))

    def _followed(self, x: str, index: Tensor) -> int | None:
        return followed(self.shape(x), self.channel_axis(x), index)


def real(value: Tensor | float) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64).detach()


def text(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape)) or "scalar"
