"""Two runs of one network as one graph: the model on `x`, and on a second input whose activations patch the first run's."""

from __future__ import annotations

import math
from collections.abc import Iterable

import torch

from bounds.domains.refine import closure
from bounds.gates import Gate, Gates
from bounds.graph import Graph, Node
from bounds.ops.base import Nonlinear, Shape
from bounds.ops.take import Take
from bounds.query import Query
from bounds.region import Region
from bounds.stack import stacked

__all__ = ["reaching", "twin"]


def reaching(query: Query, second: Region) -> Query:
    """The query whose patched values are the model's own on one more input, any of `second`, for all components together.

    Its region holds pairs of inputs, the model's first. The boxes that `query` patches from are not used.
    Source: Hadad, Katz & Bassan 2026, arXiv:2602.16823 (robust patching).
    """
    graph, names = twin(query.graph, [gate.tensor for gate in query.gates.gates])
    boxes = closure(query.graph, second.box(), names)
    gates = Gates(tuple(Gate(g.tensor, g.group, g.size, boxes[g.tensor], names[g.tensor]) for g in query.gates.gates))
    return Query(graph, gates, stacked(query.region, second), query.margins)


def twin(graph: Graph, tensors: Iterable[str]) -> tuple[Graph, dict[str, str]]:
    """The graph beside a second run of it, as far as `tensors`; and the name of each of them in that second run.

    The result's input stacks both runs' inputs, `(2, *input_shape)`, the first run's first; its output and the names of all its
    tensors are the graph's own. What reads one of `tensors` elementwise is in the second run too, so that bounds know which of
    its values matter. The second run comes first: its values are there when the first run's tensors are replaced.
    """
    wanted = set(tensors)
    wanted |= {reader.name for name in wanted for reader in graph.readers[name] if isinstance(reader.op, Nonlinear)}
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    mark = "'"
    while any(name.endswith(mark) for name in (graph.input, *graph.node)):
        mark += "'"
    both, shape = f"{graph.input}, {graph.input}{mark}", graph.input_shape
    second = [
        Node(node.name + mark, node.op, tuple(x + mark for x in node.inputs), node.shape, False, node.channel_axis)
        for node in graph.nodes
        if node.name in wanted
    ]
    nodes = (_half(graph.input + mark, both, shape, 1), *second, _half(graph.input, both, shape, 0), *graph.nodes)
    joined = Graph(both, (2, *shape), nodes, graph.output, graph.dtype, graph.device)
    return joined, {name: name + mark for name in tensors}


def _half(name: str, both: str, shape: Shape, at: int) -> Node:
    size = math.prod(shape)
    index = torch.arange(at * size, (at + 1) * size).reshape(shape)
    return Node(name, Take(index, (2, *shape)), (both,), shape, site=False)
