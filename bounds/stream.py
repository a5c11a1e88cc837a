"""Sums that are read several times, taken apart: what one reader sees of each summand becomes a tensor that can be gated.

A residual stream is a sum of what *producers* add to it, and *consumers* compute something from the sum alone. An edge is one
producer as read by one consumer. `rewired` gives a consumer a sum of its own over the same producers: their values, one after
another, are a tensor, named as the consumer, whose readers are that sum and no one else. To replace a part of it is to patch
one edge, so an edge is a component of an ordinary gate, for every domain and every kind of patched value. Copied are only the
operators between the sum and its consumer, once for a consumer (for each head of it), never once for an edge.

What is known of monotonicity carries over, as an edge is a component of a gate like any other. Closed patching: let every
edge, and every other component, take any value of the interval that interval propagation through the rewired graph gives it. By
induction in graph order all values stay in theirs: a consumer's own sum adds up values of its edges' intervals, kept or
patched, so it is in that sum's interval, and propagation is inclusion-isotonic from there on. A kept edge's value, which is its
producer's, is thus one that it might be patched with. For `resample`, edges of one consumer are not upstream of one another,
however their producers are: what a producer reads is changed by edges into that producer alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from bounds.graph import Graph, Node
from bounds.ops import Affine, Concat, Reduce, Reshape, Scale, Sum, Take
from bounds.ops.base import Op, Shape

__all__ = ["Producer", "Read", "Span", "rewired", "span"]


@dataclass(frozen=True, slots=True, eq=False)
class Span:
    """The nodes, in order, that compute one tensor (the last one's) from `start` alone."""

    start: str
    nodes: tuple[Node, ...]

    @property
    def end(self) -> str:
        return self.nodes[-1].name if self.nodes else self.start


@dataclass(frozen=True, slots=True, eq=False)
class Producer:
    """What is added: the tensor `span.end` or, with `part`, its share that comes from those elements of `span.start` for which
    `part` (bool, of that tensor's shape) holds; then all of `span` is affine, and its offset belongs to no producer."""

    name: str
    span: Span
    part: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Read:
    """A consumer: the tensor `span.end`, computed from the sum `span.start`, of shape `shape`, alone.

    The sum is that of the producers, of the constants `biases`, and of the offsets of the spans in `offsets`. With `heads` (the
    head of each element of the consumer, and how many there are) each head reads the producers by itself. `passed`: the tensors
    that lie between, which the consumer's sum goes around.
    """

    span: Span
    shape: Shape
    producers: tuple[Producer, ...]
    offsets: tuple[Span, ...]
    biases: tuple[Tensor, ...]
    heads: tuple[Tensor, int] | None
    passed: frozenset[str]

    @property
    def consumer(self) -> str:
        return self.span.end

    @property
    def readers(self) -> int:
        """How many heads read, or 1."""
        return 1 if self.heads is None else self.heads[1]

    @property
    def stacked(self) -> Shape:
        """Shape of the tensor of edges: `(heads, producers, *shape)`."""
        return (self.readers, len(self.producers), *self.shape)

    @property
    def group(self) -> tuple[Tensor, int]:
        """The edge of each element of that tensor, `head * producers + producer`, and how many edges there are."""
        count = self.readers * len(self.producers)
        line = torch.arange(count).reshape(self.readers, -1, *[1] * len(self.shape))
        return line.expand(self.stacked).contiguous(), count

    @property
    def ends(self) -> list[tuple[str, str]]:
        """The names of each edge's producer, and of the consumer or of its head that reads it, in order."""
        heads = [self.consumer] if self.heads is None else [f"{self.consumer}[{h}]" for h in range(self.readers)]
        return [(producer.name, head) for head in heads for producer in self.producers]


@lru_cache(maxsize=4)
def _places(graph: Graph) -> Mapping[str, int]:
    return {graph.input: -1} | {node.name: i for i, node in enumerate(graph.nodes)}


def span(graph: Graph, end: str, stop: Callable[[str], bool], through: Callable[[Node], bool] = lambda _: True) -> Span | None:
    """What computes `end` from the nearest tensor upstream, itself left out, at which `stop` holds and that all of `end` goes
    through; None where there is none, or `through` does not hold on the way. Cost: a walk over the nodes between."""
    places, frontier, nodes = _places(graph), {end}, list[Node]()
    while True:
        name = max(frontier, key=places.__getitem__)
        if nodes and len(frontier) == 1 and stop(name):
            return Span(name, tuple(reversed(nodes)))
        if name == graph.input or not through(graph.node[name]):
            return None
        frontier.remove(name)
        frontier.update(graph.node[name].inputs)
        nodes.append(graph.node[name])


def rewired(graph: Graph, reads: Iterable[Read]) -> Graph:
    """The graph in which each consumer reads a sum of its own. It computes the same, in real arithmetic.

    A tensor named as the consumer holds the edges, of shape `Read.stacked`; the consumer's value has a name of ours, which is
    that of the output where the consumer is. What nothing reads any more is left out.
    """
    by_consumer = {read.consumer: read for read in reads}
    mark = "<-"
    while any(mark in name for name in (graph.input, *graph.node)):
        mark = f"<{mark}"
    seen: dict[str, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        read = by_consumer.get(node.name)
        if read is None:
            nodes.append(_renamed(node, seen))
        else:
            writer = _Writer(graph, nodes, seen, f"{node.name}{mark}")
            seen[node.name] = writer.write(read)
    output = seen.get(graph.output, graph.output)
    needed = {output}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return replace(graph, nodes=tuple(node for node in nodes if node.name in needed), output=output)


def _renamed(node: Node, seen: Mapping[str, str]) -> Node:
    return replace(node, inputs=tuple(seen.get(name, name) for name in node.inputs))


@dataclass(frozen=True, slots=True, eq=False)
class _Writer:
    """Adds the nodes of one consumer; their names begin with `prefix`."""

    graph: Graph
    nodes: list[Node]
    seen: Mapping[str, str]
    prefix: str

    def write(self, read: Read) -> str:
        """The name of the consumer's value."""
        values = [self._produced(producer, f"{i}") for i, producer in enumerate(read.producers)]
        one = (1, *read.shape)
        rows = [self._add(f"row{i}", Reshape(read.shape, one), (x,), one) for i, x in enumerate(values)]
        stack = (len(rows), *read.shape)
        row = rows[0] if len(rows) == 1 else self._add("rows", Concat(0, (1,) * len(rows)), tuple(rows), stack)
        index = torch.arange(math.prod(stack)).expand(read.readers, -1).reshape(read.stacked)
        self.nodes.append(Node(read.consumer, Take(index, stack), (row,), read.stacked))
        offsets = [self._copied(x, self._nothing(x, f"offset{i}"), f"offset{i}:") for i, x in enumerate(read.offsets)]
        found = [self._head(read, h, offsets) for h in range(read.readers)]
        if read.heads is None:
            return found[0]
        label, count = read.heads
        shape, size = tuple(label.shape), label.numel()
        flat = [self._add(f"flat{h}", Reshape(shape, (1, size)), (x,), (1, size)) for h, x in enumerate(found)]
        joined = self._add("heads", Concat(0, (1,) * count), tuple(flat), (count, size))
        chosen = label * size + torch.arange(size).reshape(shape)
        return self._add("read", Take(chosen, (count, size)), (joined,), shape)

    def _produced(self, producer: Producer, tag: str) -> str:
        between = producer.span
        if producer.part is None:
            return self.seen.get(between.end, between.end)
        start = self.seen.get(between.start, between.start)
        own = self._add(f"part{tag}", Scale(producer.part.double()), (start,), tuple(producer.part.shape))
        return self._copied(between, own, f"part{tag}:", linear=True)

    def _nothing(self, between: Span, tag: str) -> str:
        shape = self.graph.shape(between.start)
        zero = Scale(torch.zeros(shape, dtype=torch.float64))
        return self._add(tag, zero, (self.seen.get(between.start, between.start),), shape)

    def _head(self, read: Read, head: int, offsets: list[str]) -> str:
        """One head's value of the whole consumer."""
        shape, count = read.shape, math.prod(read.shape)
        row = (len(read.producers), *shape)
        index = torch.arange(math.prod(row)).reshape(row) + head * math.prod(row)
        own = self._add(f"edges{head}", Take(index, read.stacked), (read.consumer,), row)
        total = self._add(f"total{head}", Reduce((0,), row, False), (own,), (1, *shape))
        x = self._add(f"sum{head}", Take(torch.arange(count).reshape(shape), (1, *shape)), (total,), shape)
        for i, bias in enumerate(read.biases):
            x = self._add(f"bias{head}.{i}", Scale(None, bias), (x,), shape)
        if offsets:
            x = self._add(f"whole{head}", Sum((1,) * (1 + len(offsets))), (x, *offsets), shape)
        return self._copied(read.span, x, f"{head}:")

    def _copied(self, between: Span, start: str, tag: str, linear: bool = False) -> str:
        """A span once more, from another tensor; with `linear`, without its offsets."""
        names = {between.start: start}
        for node in between.nodes:
            op = _homogeneous(node.op) if linear else node.op
            names[node.name] = self._add(f"{tag}{node.name}", op, tuple(names[x] for x in node.inputs), node.shape)
        return names[between.end]

    def _add(self, tag: str, op: Op, inputs: tuple[str, ...], shape: Shape) -> str:
        self.nodes.append(Node(f"{self.prefix}{tag}", op, inputs, shape, site=False))
        return f"{self.prefix}{tag}"


def _homogeneous(op: Op) -> Op:
    assert isinstance(op, Affine)
    if op.offset() is None:
        return op
    if isinstance(op, Take):
        return replace(op, fill=None)
    changed = replace(op, bias=None)  # pyright: ignore[reportCallIssue]
    assert changed.offset() is None
    return changed
