"""Positions of a sequence in a graph: which one each element of a tensor belongs to.

Attention alone mixes positions, so it tells which axis they are: the rows of its pattern are the positions that read, and where
there are as many columns as rows they are the same ones, read. From there positions are followed, forward and backward, through
whatever computes each position from that position alone: projections along another axis, activations, sums, moves.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from bounds.graph import Graph, Node
from bounds.ops import Concat, Dense, Product, Reduce, Reshape, Scale, Softmax, Sum, Take, Transpose
from bounds.ops.base import Elementwise, Op
from specs.heads import attention

__all__ = ["positions"]

_NOWHERE = -1


@lru_cache(maxsize=4)
def positions(graph: Graph) -> dict[str, tuple[Tensor, int]]:
    """The position of each element, and how many there are, for each tensor that is cut into positions.

    Shapes: long tensors of the tensors' shapes. All attention layers must have the same number of positions, two at least; with
    others, and in a graph without attention, nothing is found. A tensor whose elements do not each belong to one position, or
    that lacks a position, is left out. Cost: a few passes over the graph's elements.
    """
    products = attention(graph)
    counts = {node.shape[-2] for node, _ in products}
    if len(counts) != 1 or counts == {1}:
        return {}
    count = counts.pop()
    found: dict[str, Tensor] = {}
    for node, weighs in products:
        assert isinstance(node.op, Product)
        rows = torch.arange(count)[:, None]
        found.setdefault(node.name, rows.expand(node.shape).contiguous())
        if (right := _read(node.op, weighs, count)) is not None:
            factors = torch.cat([rows.expand(count, node.op.k).flatten(), right.flatten()])
            found.setdefault(node.inputs[0], factors.expand(graph.shape(node.inputs[0])).contiguous())
    grown = -1
    while grown != len(found):
        grown = len(found)
        for node in graph.nodes:
            if node.name not in found and (label := _forward(node, found)) is not None:
                found[node.name] = label
        for node in reversed(graph.nodes):
            if node.name in found:
                for name, label in _backward(node, found[node.name]):
                    if name not in found and bool((label >= 0).all()):
                        found[name] = label
    return {name: (label, count) for name, label in found.items() if len(label.unique()) == count}


def _read(op: Product, weighs: bool, count: int) -> Tensor | None:
    """The positions that the right factor holds: values have them as rows, keys as columns. None: it holds others."""
    if weighs:
        return torch.arange(op.k)[:, None].expand(op.k, op.m) if op.k == count else None
    return torch.arange(op.m).expand(op.k, op.m) if op.m == count else None


def _forward(node: Node, found: dict[str, Tensor]) -> Tensor | None:
    """The positions of what a node computes, from those of what it reads."""
    op = node.op
    parts = [found.get(name) for name in node.inputs]
    if any(part is None for part in parts):
        return None
    known = [part for part in parts if part is not None]
    label = known[0]
    if isinstance(op, Elementwise | Scale):
        return label
    if isinstance(op, Sum):
        return label if all(torch.equal(label, other) for other in known) else None
    if isinstance(op, Concat):
        return torch.cat(known, dim=op.axis)
    if isinstance(op, Reshape | Transpose):
        return op.linear(label.double().unsqueeze(0))[0].long()
    if isinstance(op, Take):
        return None if bool((op.index < 0).any()) else label.flatten()[op.index]
    if isinstance(op, Softmax):
        return _along(label, (-1,), node.shape)
    if isinstance(op, Reduce):
        return _along(label, op.axes, node.shape)
    if _entrywise(op):
        one, other = label[..., :1], label[..., 1:]
        return one.unsqueeze(-1) if torch.equal(one, other) else None
    if isinstance(op, Dense):
        return _along(label, (-1,), node.shape)
    return None


def _backward(node: Node, label: Tensor) -> Iterator[tuple[str, Tensor]]:
    """The positions of what a node reads, from those of what it computes; -1 where they do not tell."""
    op = node.op
    if isinstance(op, Elementwise | Scale | Sum):
        yield from ((name, label) for name in node.inputs)
    elif isinstance(op, Reshape | Transpose | Concat):
        parts = op.adjoint(label.double().unsqueeze(0))
        yield from ((name, part[0].long()) for name, part in zip(node.inputs, parts, strict=True))
    elif isinstance(op, Take):
        flat = torch.full((math.prod(op.before),), _NOWHERE)
        there = op.index.flatten() >= 0
        at, own = op.index.flatten()[there], label.flatten()[there]
        flat[at] = own
        if torch.equal(flat[at], own):
            yield node.inputs[0], flat.reshape(op.before)
    elif isinstance(op, Dense) and (own := _along(label, (-1,), (*label.shape[:-1], op.weight.shape[1]))) is not None:
        yield node.inputs[0], own
    elif _entrywise(op):
        yield node.inputs[0], torch.cat([label.squeeze(-1)] * 2, dim=-1)
    elif isinstance(op, Reduce):
        yield node.inputs[0], label.expand(op.before).contiguous()


def _entrywise(op: Op) -> bool:
    """Whether it multiplies two tensors entry by entry: both entries lie along the last axis of what it reads."""
    return isinstance(op, Product) and (op.n, op.k, op.m) == (1, 1, 1)


def _along(label: Tensor, axes: tuple[int, ...], shape: tuple[int, ...]) -> Tensor | None:
    """Positions that do not change along some axes, with these of other lengths."""
    first = label
    for axis in axes:
        first = first.narrow(axis, 0, 1)
    return first.expand(shape).contiguous() if torch.equal(first.expand_as(label), label) else None
