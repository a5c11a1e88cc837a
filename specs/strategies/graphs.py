"""Random small networks, block by block, through `bounds.build.Builder`."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import torch
from hypothesis import strategies as st
from torch import Tensor

from bounds.build import Builder
from bounds.graph import Graph
from bounds.ops import Exp, Log, Reciprocal, Sqrt, Square, Tanh
from bounds.ops.base import Elementwise, Shape
from specs.strategies.numbers import layers, tensors
from specs.strategies.operators import activations

__all__ = ["LAYOUTS", "PLAIN", "Layout", "graphs"]

Layout: TypeAlias = Literal["vector", "line", "image"]

LAYOUTS: tuple[Layout, ...] = ("vector", "line", "image")
"""Inputs of shape `(1, n)`, `(1, channels, n)`, `(1, channels, h, w)`."""


@dataclass(slots=True)
class _Work:
    """A network under construction: what blocks read and write."""

    draw: st.DrawFn
    builder: Builder
    activations: st.SearchStrategy[Elementwise]
    counts: dict[str, int] = field(default_factory=dict[str, int])

    def name(self, kind: str) -> str:
        self.counts[kind] = self.counts.get(kind, -1) + 1
        return f"{kind}{self.counts[kind]}"

    def integer(self, least: int, most: int) -> int:
        return self.draw(st.integers(least, most))

    def activate(self, x: str) -> str:
        op = self.draw(self.activations)
        return self.builder.elementwise(op, x, name=self.name(type(op).__name__.lower()))

    def axis(self, shape: Shape) -> int:
        """An axis other than the leading one."""
        return self.integer(1, len(shape) - 1)


def _dense(work: _Work, x: str) -> str:
    weight, bias = work.draw(layers((work.integer(1, 4), work.builder.shape(x)[-1])))
    return work.builder.dense(x, weight, bias, name=work.name("dense"))


def _dense_left(work: _Work, x: str) -> str:
    weight = work.draw(tensors((work.integer(1, 3), work.builder.shape(x)[-2])))
    return work.builder.dense_left(x, weight, name=work.name("matmul"))


def _conv(work: _Work, x: str) -> str:
    channels, *space = work.builder.shape(x)[1:]
    groups = channels if work.draw(st.booleans()) else 1
    begins, ends = ([work.integer(0, 1) for _ in space] for _ in range(2))
    kernel = [work.integer(1, min(3, n)) for n in space]
    room = [max(1, (n + b + e - 1) // max(1, k - 1)) for n, b, e, k in zip(space, begins, ends, kernel, strict=True)]
    dilation = [work.integer(1, min(2, most)) for most in room]
    stride = [work.integer(1, 2) for _ in space]
    weight, bias = work.draw(layers((groups * work.integer(1, 2), channels // groups, *kernel)))
    return work.builder.conv(x, weight, bias, stride, begins, ends, dilation, groups, name=work.name("conv"))


def _window(work: _Work, x: str) -> tuple[list[int], list[int], list[int], list[int], list[int]]:
    """Kernel, stride, pads and dilation of a pooling: no window of nothing but padding."""
    space = work.builder.shape(x)[2:]
    kernel = [work.integer(1, min(3 if len(space) == 1 else 2, n)) for n in space]
    stride = [work.integer(1, 2) for _ in space]
    begins, ends = ([work.integer(0, k // 2) for k in kernel] for _ in range(2))
    return kernel, stride, begins, ends, [1] * len(space)


def _average_pool(work: _Work, x: str) -> str:
    count, ceil = work.draw(st.booleans()), work.draw(st.booleans())
    return work.builder.average_pool(x, *_window(work, x), count_pads=count, ceil=ceil, name=work.name("mean"))


def _max_pool(work: _Work, x: str) -> str:
    return work.builder.max_pool(x, *_window(work, x), ceil=work.draw(st.booleans()), name=work.name("max"))


def _scale(work: _Work, x: str) -> str:
    """As a batch normalisation is: by channel where there are channels, else element by element."""
    shape = work.builder.shape(x)
    axis = work.builder.channel_axis(x)
    each = tuple(n if axis in (None, i) else 1 for i, n in enumerate(shape))
    weight, bias = work.draw(st.none() | tensors(each)), work.draw(st.none() | tensors(each))
    return work.builder.scale(x, weight, bias, name=work.name("scale"))


def _residual(work: _Work, x: str) -> str:
    """A skip around something that keeps the shape, or around a mean that is repeated."""
    shape = work.builder.shape(x)
    if work.draw(st.booleans()):
        inner = work.builder.reduce(x, [work.axis(shape)], mean=work.draw(st.booleans()), name=work.name("reduce"))
    else:
        inner = work.builder.dense(x, *work.draw(layers((shape[-1], shape[-1]))), name=work.name("dense"))
    inner = work.activate(inner)
    return work.builder.sum((x, inner), work.draw(st.sampled_from(((1, 1), (1, -1)))), name=work.name("sum"))


def _concat(work: _Work, x: str) -> str:
    shape = work.builder.shape(x)
    axis = work.axis(shape)
    branch = work.activate(x) if work.draw(st.booleans()) else _scale(work, x)
    parts = [x, branch]
    if work.draw(st.booleans()):
        constant = work.draw(tensors(tuple(1 if i == axis else n for i, n in enumerate(shape))))
        return work.builder.concat([x, constant, branch], axis, name=work.name("concat"))
    return work.builder.concat(parts, axis, name=work.name("concat"))


def _slice(work: _Work, x: str) -> str:
    shape = work.builder.shape(x)
    axis, whole = work.axis(shape), slice(None)
    part = slice(work.integer(0, shape[axis] - 1), None, work.integer(1, 2))
    return work.builder.slice(x, [part if i == axis else whole for i in range(len(shape))], name=work.name("slice"))


def _split(work: _Work, x: str) -> str:
    """Two parts, one of them activated, put together the other way round."""
    shape = work.builder.shape(x)
    axis, whole = work.axis(shape), slice(None)
    cut = work.integer(0, shape[axis] - 1)
    parts: list[str] = []
    for part in (slice(cut, None), slice(0, cut)):
        if part.stop != 0:
            index = [part if i == axis else whole for i in range(len(shape))]
            parts.append(work.builder.slice(x, index, name=work.name("split")))
    return work.builder.concat([work.activate(parts[0]), *parts[1:]], axis, name=work.name("join"))


def _product(work: _Work, x: str) -> str:
    """Two views of one tensor multiplied, as gated layers do; the second may be repeated along an axis."""
    b, shape = work.builder, work.builder.shape(x)
    left = b.dense(x, *work.draw(layers((shape[-1], shape[-1]))), name=work.name("dense"))
    right = work.activate(x)
    if work.draw(st.booleans()):
        right = b.reduce(right, [work.axis(shape)], mean=True, name=work.name("reduce"))
    return b.mul(left, right, name=work.name("product"))


def _normalise(work: _Work, x: str) -> str:
    """As RMS normalisation does, with a divisor well away from 0, which no patch can reach."""
    b, name = work.builder, work.name("norm")
    square = b.elementwise(Square(), x, name=b.fresh(name, "square"))
    size = b.reduce(square, [-1], mean=True, name=b.fresh(name, "mean"))
    shifted = b.scale(size, bias=work.draw(st.sampled_from((1.0, 0.125))), name=b.fresh(name, "shift"))
    root = b.elementwise(Sqrt(), shifted, name=b.fresh(name, "root"))
    if work.draw(st.booleans()):
        return b.divide(x, root, name=name)
    return b.mul(b.elementwise(Reciprocal(), root, name=b.fresh(name, "inverse")), x, name=name)


def _exponential(work: _Work, x: str) -> str:
    """`exp` of what is bounded, and `log` of that."""
    b, name = work.builder, work.name("exp")
    tame = b.elementwise(Tanh(), x, name=b.fresh(name, "tanh"))
    if work.draw(st.booleans()):
        return b.elementwise(Exp(), tame, name=name)
    return b.elementwise(Log(), b.elementwise(Exp(), tame, name=b.fresh(name, "power")), name=name)


def _absent(work: _Work, shape: Shape, axis: int) -> Tensor | None:
    """Nothing, or some entries of a softmax but never all along its axis."""
    if work.draw(st.booleans()):
        return None
    out = torch.rand(shape, generator=torch.Generator().manual_seed(work.integer(0, 99))) < 0.4
    out.select(axis, work.integer(0, shape[axis] - 1)).fill_(False)
    return out


def _softmax(work: _Work, x: str) -> str:
    shape = work.builder.shape(x)
    axis = work.axis(shape)
    return work.builder.softmax(x, axis, _absent(work, shape, axis), name=work.name("softmax"))


def _attention(work: _Work, x: str) -> str:
    """One head: queries, keys and values of one tensor, masked or not."""
    b, shape = work.builder, work.builder.shape(x)
    query, key, value = (
        b.dense(x, work.draw(tensors((n, shape[-1]))), name=work.name(kind))
        for kind, n in zip(("query", "key", "value"), (2, 2, shape[-1]), strict=True)
    )
    order = [*range(len(shape) - 2), len(shape) - 1, len(shape) - 2]
    turned = b.transpose(key, order, name=work.name("turned"))
    scores = b.matmul(query, turned, name=work.name("scores"))
    mask = _absent(work, b.shape(scores), len(shape) - 1)
    weights = b.softmax(scores, -1, mask, name=work.name("pattern"))
    return b.matmul(weights, value, name=work.name("head"))


def _pad(work: _Work, x: str) -> str:
    shape = work.builder.shape(x)
    begins, ends = ([0, *(work.integer(0, 1) for _ in shape[1:])] for _ in range(2))
    return work.builder.pad(x, begins, ends, work.draw(st.sampled_from((0.0, -1.5))), name=work.name("pad"))


def _reduce(work: _Work, x: str) -> str:
    shape = work.builder.shape(x)
    keep = len(shape) < 3 or work.draw(st.booleans())
    mean = work.draw(st.booleans())
    return work.builder.reduce(x, [work.axis(shape)], mean=mean, keepdims=keep, name=work.name("reduce"))


def _reshape(work: _Work, x: str) -> str:
    shape = work.builder.shape(x)
    size = math.prod(shape)
    after = work.draw(st.sampled_from(((1, size), (1, 1, size), (1, size, 1))))
    return work.builder.reshape(x, after, name=work.name("reshape"))


def _transpose(work: _Work, x: str) -> str:
    order = [0, *work.draw(st.permutations(range(1, len(work.builder.shape(x)))))]
    return work.builder.transpose(x, order, name=work.name("transpose"))


_Block = Callable[[_Work, str], str]

_ANY: Mapping[str, _Block] = {
    "dense": _dense, "scale": _scale, "residual": _residual, "concat": _concat, "slice": _slice, "split": _split, "pad": _pad,
    "reduce": _reduce, "reshape": _reshape,
}  # fmt: skip
_PLANAR: Mapping[str, _Block] = {"dense_left": _dense_left, "transpose": _transpose}
_JOINT: Mapping[str, _Block] = {
    "product": _product, "normalise": _normalise, "exponential": _exponential, "softmax": _softmax, "attention": _attention,
}  # fmt: skip
_SPATIAL: Mapping[str, _Block] = {"conv": _conv, "max_pool": _max_pool, "average_pool": _average_pool}

PLAIN: tuple[str, ...] = (*_SPATIAL, *_ANY, *_PLANAR)
"""Names of the blocks that multiply no two tensors: affine ones, and pooling."""


@st.composite
def graphs(
    draw: st.DrawFn,
    *,
    layouts: Sequence[Layout] = LAYOUTS,
    of: st.SearchStrategy[Elementwise] | None = None,
    blocks: Collection[str] | None = None,
    max_blocks: int = 3,
    max_size: int = 40,
    max_outputs: int = 3,
) -> Graph:
    """A network of up to `max_blocks` blocks, each mostly followed by an activation, and mostly a dense layer at the end.

    `of`: the activations (default: any). `blocks`: names of those wanted: dense, conv, max_pool, average_pool, scale, residual,
    concat, slice, split, pad, reduce, reshape, product, normalise, exponential, softmax, dense_left, transpose, attention
    (default: all that fit). `max_size` bounds the elements
    of a tensor that a block may start from. Has at least two sites, the output among them. Shrinks towards one dense layer and
    a ReLU.
    """
    layout = draw(st.sampled_from(layouts))
    space = [draw(st.integers(2, 5 if layout == "line" else 4)) for _ in range(LAYOUTS.index(layout))]
    builder = Builder("x", (1, draw(st.integers(1, 4 if layout == "vector" else 2)), *space))
    work = _Work(draw, builder, activations() if of is None else of)
    x = "x"
    for _ in range(draw(st.integers(1, max_blocks))):
        shape = builder.shape(x)
        if math.prod(shape) > max_size:
            break
        spatial = _SPATIAL if len(shape) in (3, 4) else {}
        known = {**spatial, **_ANY, **(_PLANAR if len(shape) > 2 else {})}
        names = [name for name in (*spatial, *known) if blocks is None or name in blocks]
        joint = [name for name in _JOINT if (blocks is None or name in blocks) and (name != "attention" or len(shape) > 2)]
        if joint and (not names or draw(st.integers(0, 4)) == 4):
            known, names = _JOINT, joint
        x = known[draw(st.sampled_from(names))](work, x)
        if draw(st.integers(0, 3)) < 3:
            x = work.activate(x)
    if x != "x" and math.prod(builder.shape(x)) <= max_outputs and draw(st.integers(0, 3)) == 3:
        whole = builder.build(x)
        if sum(node.site for node in whole.nodes) > 1:
            return whole
    if len(builder.shape(x)) > 2 or x == "x":
        x = builder.reshape(x, (1, math.prod(builder.shape(x))), name=work.name("flat"))
    weight, bias = draw(layers((draw(st.integers(1, max_outputs)), builder.shape(x)[-1])))
    return builder.build(builder.dense(x, weight, bias, name="out"))
