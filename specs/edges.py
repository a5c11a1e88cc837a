"""Edges of a graph: which sums are residual streams, what adds to them, and what reads them (path patching's components).

A *stream* is a tensor that the author named and that is a plain sum of several, or what such a sum begins with: what is added
to it and read besides. Sums among its summands are taken apart in turn, so its *producers* are all that was ever added: the
embedding, the outputs of attention layers and of MLPs, both branches of a skip connection. An output of attention counts head
by head (what a head adds goes through the projection alone); the projection's bias belongs to no head and is always kept, as
are constants added to the stream. Producers are numbered in order of evaluation. A sum of what are but moves of one tensor
(rotary positions) is no stream.
A *consumer* is any tensor that is computed from one stream alone, by way of operators that are no stream; where it is cut into
heads (queries, keys, values), each head reads the stream by itself.
Source: Goldowsky-Dill et al. 2023 (path patching), arXiv:2304.05969; Conmy et al. 2023 (ACDC), arXiv:2304.14997.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

from torch import Tensor

from bounds.graph import Graph, Node
from bounds.ops import Affine, Concat, Conv, Dense, Reciprocal, Reshape, Scale, Sqrt, Square, Sum, Take, Transpose
from bounds.ops.base import Elementwise
from bounds.stream import Producer, Read, Span, span
from specs.heads import heads

__all__ = ["clash", "listed", "read_at"]


@lru_cache(maxsize=256)
def read_at(graph: Graph, consumer: str) -> Read | None:
    """What a tensor reads, where it is a consumer; a sum counts as one itself, on behalf of all of its readers.

    None: it is computed from no stream, or from more than one; or a summand is a tensor that the author did not name.
    """
    if _is_sum(graph, consumer):
        between: Span | None = Span(consumer, ())
    else:
        between = span(graph, consumer, lambda name: _is_sum(graph, name) or _begins(graph, name))
    if between is None:
        return None
    summed = _Summed(graph)
    if not summed.take(between.start):
        return None
    places = {node.name: i for i, node in enumerate(graph.nodes)}
    summed.producers.sort(key=lambda producer: places.get(producer.span.end, -1))
    passed = summed.passed | {node.name for node in between.nodes}
    return Read(
        between,
        graph.shape(between.start),
        tuple(summed.producers),
        tuple(summed.offsets),
        tuple(summed.biases),
        _several(graph, consumer) if between.nodes else None,
        frozenset(passed - {consumer}),
    )


@lru_cache(maxsize=4)
def listed(graph: Graph) -> tuple[Read, ...]:
    """The consumers that people mean, in order: the first projection, or activation, of what reads a stream, the first tensor
    that is cut into heads (queries, keys, values), and an output that is a stream itself."""
    found: list[Read] = []
    for node in graph.nodes:
        last = node.name == graph.output
        if not last and (not node.site or _is_sum(graph, node.name)):
            continue
        read = read_at(graph, node.name)
        if read is not None and _first(graph, read):
            found.append(read)
    return tuple(found)


def clash(graph: Graph, scope: Mapping[str, str]) -> tuple[str, str] | None:
    """A site in scope that a consumer in scope by edges goes around, and that consumer. To patch the site would mean nothing
    there: its elements are neither a producer's nor the consumer's."""
    for consumer, granularity in scope.items():
        read = read_at(graph, consumer) if granularity == "edge" else None
        if read is not None and (between := read.passed.intersection(scope)):
            return min(between), consumer
    return None


def _is_sum(graph: Graph, name: str) -> bool:
    """Whether a tensor is a named sum of several."""
    node = graph.node.get(name)
    if node is None or not (node.site or name == graph.output):
        return False
    if type(node.op) is not Sum or len(node.inputs) == 1 or any(sign != 1 for sign in node.op.signs):
        return False
    return len({_moved(graph, name) for name in node.inputs}) > 1


@lru_cache(maxsize=256)
def _moved(graph: Graph, name: str) -> str:
    """The one tensor that a tensor is but moves and sums of, or itself."""
    node = graph.node.get(name)
    if node is None or not isinstance(node.op, Scale | Take | Reshape | Transpose | Concat | Sum):
        return name
    before = {_moved(graph, x) for x in node.inputs}
    return before.pop() if len(before) == 1 else name


def _begins(graph: Graph, name: str) -> bool:
    """Whether a sum begins with a tensor: it is added, and read besides."""
    if name != graph.input and not graph.node[name].site:
        return False
    sums = {_is_sum(graph, reader.name) for reader in graph.readers[name]}
    return sums == {True, False}


def _several(graph: Graph, name: str) -> tuple[Tensor, int] | None:
    found = heads(graph).get(name)
    return found if found is not None and found[1] > 1 else None


def _first(graph: Graph, read: Read) -> bool:
    """Whether nothing that the author named, on the way from the stream, is listed instead of this consumer."""
    if not read.span.nodes:
        return True
    mixed = set[str]()
    for node in read.span.nodes:
        if _mixes(node) or any(name in mixed for name in node.inputs):
            mixed.add(node.name)
    before = [node.name for node in read.span.nodes[:-1] if node.site]
    headed = read.heads is not None and not any(name in heads(graph) for name in before)
    ends = read.consumer in mixed or read.consumer == graph.output
    return headed or (ends and not mixed.intersection(before))


def _mixes(node: Node) -> bool:
    """Projections and activations; not what a normalisation is made of."""
    return isinstance(node.op, Dense | Conv) or (
        isinstance(node.op, Elementwise) and not isinstance(node.op, Square | Sqrt | Reciprocal)
    )


class _Summed:
    """A sum taken apart."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.producers: list[Producer] = []
        self.offsets: list[Span] = []
        self.biases: list[Tensor] = []
        self.passed: set[str] = set()

    def take(self, name: str) -> bool:
        """Take in one summand. False: it is a tensor that cannot be named."""
        graph = self._graph
        node = graph.node.get(name)
        if node is not None and _is_sum(graph, name):
            self.passed.add(name)
            return all(self.take(x) for x in node.inputs)
        if node is not None and (x := self._shifted(node)) is not None:
            self.passed.add(name)
            assert isinstance(node.op, Scale)
            if node.op.bias is not None:
                self.biases.append(node.op.bias)
            return self.take(x)
        between = span(graph, name, self._cut, lambda n: isinstance(n.op, Affine)) if node is not None and node.site else None
        if between is not None:
            label, count = heads(graph)[between.start]
            self.producers += [Producer(f"{name}[{h}]", between, label == h) for h in range(count)]
            if any(isinstance(n.op, Affine) and n.op.offset() is not None for n in between.nodes):
                self.offsets.append(between)
            self.passed |= {n.name for n in between.nodes}
            return True
        if node is None or node.site:
            self.producers.append(Producer(name, Span(name, ())))
            return True
        if isinstance(node.op, Take) and node.op.offset() is None:  # repeated along an axis to fit the others
            before = node.inputs[0]
            self.producers.append(Producer(before, Span(before, (node,))))
            return before == graph.input or graph.node[before].site
        return False

    def _cut(self, name: str) -> bool:
        return name != self._graph.input and self._graph.node[name].site and _several(self._graph, name) is not None

    def _shifted(self, node: Node) -> str | None:
        """The stream that a node only adds a constant to, or nothing."""
        before = node
        while isinstance(before.op, Scale) and before.op.weight is None:
            name = before.inputs[0]
            if _is_sum(self._graph, name):
                return node.inputs[0]
            if name not in self._graph.node:
                return None
            before = self._graph.node[name]
        return None
