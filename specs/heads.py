"""Attention heads in a graph: which head each element of a tensor belongs to.

A head is one of the products that a softmax weighs values in: its pattern times its values, and before the softmax its queries
times its keys. From there heads are followed through whatever only puts elements elsewhere or scales them: forward as far as
what mixes heads (the projection into the residual stream), backward as far as what computes queries, keys and values.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache

import torch
from torch import Tensor

from bounds.graph import Graph, Node
from bounds.ops import Concat, Product, Reshape, Scale, Softmax, Take, Transpose

__all__ = ["attention", "heads"]


@lru_cache(maxsize=4)
def heads(graph: Graph) -> dict[str, tuple[Tensor, int]]:
    """The head of each element, and how many heads there are, for each tensor that is cut into heads.

    Shapes: long tensors of the tensors' shapes. The heads of one attention layer are numbered along the last leading axis of
    its products. A tensor whose elements do not each belong to one head is left out. Cost: a pass over the graph's positions.
    """
    found: dict[str, tuple[Tensor, int]] = {}
    for node, _ in attention(graph):
        count = node.shape[-3]
        line = torch.arange(count).reshape(-1, 1, 1)
        found.setdefault(node.name, (line.expand(node.shape).contiguous(), count))
        factors = graph.node[node.inputs[0]]
        before = line[..., 0].expand(factors.shape).contiguous()
        _back(graph, factors, before, count, found)
    _forward(graph, found)
    return found


def attention(graph: Graph) -> list[tuple[Node, bool]]:
    """The products of attention, whose rows are the positions that read; and whether each is that of a pattern with the values,
    or that of queries with keys."""
    weighed = _behind_softmax(graph)
    products = [node for node in graph.nodes if isinstance(node.op, Product) and len(node.shape) > 2]
    return [(node, node.name in weighed) for node in products if node.name in weighed or _feeds_softmax(graph, node)]


def _behind_softmax(graph: Graph) -> set[str]:
    """Products that read a softmax through moves alone."""
    reached: set[str] = set()
    products: set[str] = set()
    for node in graph.nodes:
        behind = any(x in reached for x in node.inputs)
        if isinstance(node.op, Softmax) or (behind and isinstance(node.op, _MOVES | Concat)):
            reached.add(node.name)
        if behind and isinstance(node.op, Product):
            products.add(node.name)
    return products


_MOVES = Reshape | Transpose | Take | Scale
"""What puts elements elsewhere, or scales them one by one."""


def _feeds_softmax(graph: Graph, node: Node) -> bool:
    readers = graph.readers[node.name]
    return any(isinstance(r.op, Softmax) or (isinstance(r.op, _MOVES) and _feeds_softmax(graph, r)) for r in readers)


def _back(graph: Graph, node: Node, label: Tensor, count: int, found: dict[str, tuple[Tensor, int]]) -> None:
    """Give what a node only moves the heads of where it goes."""
    op = node.op
    if not isinstance(op, _MOVES | Concat):
        return
    if isinstance(op, Scale):
        parts: Iterable[Tensor] = (label,)
    elif isinstance(op, Take):
        flat = torch.full((math.prod(op.before),), -1)
        there = op.index.flatten() >= 0
        flat[op.index.flatten()[there]] = label.flatten()[there]
        if not torch.equal(flat[op.index.flatten()[there]], label.flatten()[there]):
            return  # one element is read by several heads
        parts = (flat.reshape(op.before),)
    else:
        parts = (part[0].long() for part in op.adjoint(label.double().unsqueeze(0)))
    for name, part in zip(node.inputs, parts, strict=False):
        before = graph.node.get(name)
        if before is None or isinstance(before.op, Softmax | Product) or bool((part < 0).any()):
            continue
        found.setdefault(name, (part, count))
        _back(graph, before, part, count, found)


def _forward(graph: Graph, found: dict[str, tuple[Tensor, int]]) -> None:
    for node in graph.nodes:
        source = node.inputs[0]
        if node.name in found or source not in found:
            continue
        label, count = found[source]
        if isinstance(node.op, Scale | Softmax):
            found[node.name] = label, count
            continue
        whole = isinstance(node.op, Take) and not bool((node.op.index < 0).any())
        if whole or isinstance(node.op, Reshape | Transpose):
            assert isinstance(node.op, Reshape | Transpose | Take)
            found[node.name] = node.op.linear(label.double().unsqueeze(0))[0].long(), count
