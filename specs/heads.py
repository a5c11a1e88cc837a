"""Attention heads in a graph: which head each element of a tensor belongs to.

A head is one of the products that a softmax weighs values in: its pattern times its values, and before the softmax its queries
times its keys. From there heads are followed through whatever only puts elements elsewhere, scales them, or computes them one
by one from others of the same head (rotary positions, normalised queries): forward as far as what mixes heads (the projection
into the residual stream), backward as far as what computes queries, keys and values. Keys and values that several heads share
count as heads of their own.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from bounds.graph import Graph, Node
from bounds.ops import Concat, Product, Reshape, Scale, Softmax, Sum, Take, Transpose
from bounds.ops.base import Elementwise

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
        for part in _parts(graph, factors, before, count):
            role: dict[str, tuple[Tensor, int]] = {}
            _back(graph, *part, role)
            for name, heads_of in role.items():
                if not bool((heads_of[0] < 0).any()):
                    found.setdefault(name, heads_of)
    _forward(graph, found)
    return found


def attention(graph: Graph) -> list[tuple[Node, bool]]:
    """The products of attention, whose rows are the positions that read; and whether each is that of a pattern with the values,
    or that of queries with keys."""
    weighed = _behind_softmax(graph)
    products = [n for n in graph.nodes if isinstance(n.op, Product) and len(n.shape) > 2 and not _of_elements(n)]
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
    """Whether a softmax reads a tensor, also through moves or a soft cap."""
    readers = graph.readers[node.name]
    return any(
        isinstance(r.op, Softmax) or (isinstance(r.op, _MOVES | Elementwise) and _feeds_softmax(graph, r)) for r in readers
    )


def _back(graph: Graph, name: str, label: Tensor, count: int, role: dict[str, tuple[Tensor, int]]) -> None:
    """Enter the heads of a tensor that one factor is made of, and of all that it is made of itself; -1 at elements of no head,
    or of none yet: a tensor may be read in parts."""
    node = graph.node.get(name)
    if node is None or (isinstance(node.op, Softmax | Product) and not _of_elements(node)):
        return
    if (known := role.get(name)) is not None:
        label = torch.where(known[0] < 0, label, known[0])
        if known[1] != count or torch.equal(label, known[0]):
            return
    role[name] = label, count
    for part in _parts(graph, node, label, count):
        _back(graph, *part, role)


def _parts(graph: Graph, node: Node, label: Tensor, count: int) -> list[tuple[str, Tensor, int]]:
    """What a node only moves, or combines element by element, with the heads of where it goes, and how many."""
    op = node.op
    if isinstance(op, Scale | Sum):
        return [(name, label, count) for name in node.inputs]
    if isinstance(op, Take):
        return [(node.inputs[0], *_taken(op, label, count))]
    if _of_elements(node):
        factors = graph.shape(node.inputs[0])
        return [(node.inputs[0], label.reshape(*factors[:-1], 1).expand(factors).contiguous(), count)]
    if isinstance(op, Reshape | Transpose | Concat):
        parts = op.adjoint(label.double().unsqueeze(0))
        return [(name, part[0].long(), count) for name, part in zip(node.inputs, parts, strict=False)]
    return []


def _of_elements(node: Node) -> bool:
    """Whether a node is a product element by element."""
    return isinstance(node.op, Product) and node.op.n == node.op.k == node.op.m == 1


def _taken(op: Take, label: Tensor, count: int) -> tuple[Tensor, int]:
    """Heads of what a move reads, -1 where it reads nothing. Those that read the same elements are one; -1 everywhere where
    heads share some elements and not others."""
    where, read = op.index.flatten(), label.flatten()
    there = (where >= 0) & (read >= 0)
    where, read = where[there], read[there]
    first = torch.full((math.prod(op.before),), count).scatter_reduce(0, where, read, "amin")
    group = torch.arange(count)
    group[read] = first[where]
    if not torch.equal(group[read], first[where]):
        return torch.full(op.before, -1), count
    kept, place = group.unique(return_inverse=True)
    place = torch.cat([place, torch.tensor([-1])])
    return place[first].reshape(op.before), len(kept)


def _forward(graph: Graph, found: dict[str, tuple[Tensor, int]]) -> None:
    for node in graph.nodes:
        source = node.inputs[0]
        if node.name in found or source not in found:
            continue
        label, count = found[source]
        alike = isinstance(node.op, Sum) and all(x in found and torch.equal(found[x][0], label) for x in node.inputs)
        if isinstance(node.op, Scale | Softmax) or alike:
            found[node.name] = label, count
            continue
        whole = isinstance(node.op, Take) and not bool((node.op.index < 0).any())
        if whole or isinstance(node.op, Reshape | Transpose):
            assert isinstance(node.op, Reshape | Transpose | Take)
            found[node.name] = node.op.linear(label.double().unsqueeze(0))[0].long(), count
