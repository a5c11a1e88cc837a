"""A query without the neurons that are zero on the whole region, in the model's run and in one circuit's.

What a neuron that never fires contributes is exactly zero, so its rows and columns can go: the two outputs stay the same real
functions of the input and of the patched values. On trained networks over small regions most neurons of a layer go, and each
bound of a part of that region costs as much less.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import torch
from torch import Tensor

from bounds.domains.trace import Trace
from bounds.gates import Gate, Gates
from bounds.graph import Graph, Node
from bounds.ops.base import Elementwise
from bounds.ops.dense import Dense
from bounds.query import Query
from bounds.region import Box

__all__ = ["shrink"]


def shrink(query: Query, base: Trace, worth: int = 8) -> tuple[Query, Trace]:
    """The query and its trace without dead neurons; a layer where fewer than `worth` are dead stays as it is.

    `base` is the trace of one circuit over the query's region. Guarantees: for every input of the region and all patched values
    inside their boxes, both outputs are what they were, in real arithmetic; components are numbered as before. Elementwise
    layers between dense ones are looked at, where no patched value comes from another tensor. Cost: one copy of the weights.
    """
    alive = _alive(query, base, worth)
    if not alive:
        return query, base
    assert base.model is not None
    graph = _without(query.graph, alive)
    gates = Gates(tuple(_sliced(gate, alive.get(gate.tensor)) for gate in query.gates.gates))
    reduced = Query(graph, gates, query.region, query.margins)
    model = _cut(base.model, graph, None, alive)
    kept = {name: k if name not in alive else k[..., alive[name]] for name, k in base.kept.items()}
    return reduced, replace(_cut(base, graph, model, alive), gates=gates, kept=kept)


def _alive(query: Query, base: Trace, worth: int) -> dict[str, Tensor]:
    """For each tensor that shrinks, positions of its elements that stay, along its last axis."""
    graph = query.graph
    held = set(query.gates.sources) | set(query.gates.sources.values())
    alive: dict[str, Tensor] = {}
    for node in graph.nodes:
        before = graph.node.get(node.inputs[0])
        if not isinstance(node.op, Elementwise) or before is None or not isinstance(before.op, Dense):
            continue
        names = {node.name, before.name}
        alone = len(graph.readers[before.name]) == 1 and not names & (held | {graph.output})
        dense = all(isinstance(reader.op, Dense) for reader in graph.readers[node.name])
        if not alone or not dense or before.shape != node.shape or node.shape[-1] != torch.Size(node.shape).numel():
            continue
        stays = _nonzero(base, node.name)
        if int((~stays).sum()) >= worth:
            stays[0] |= not bool(stays.any())  # no layer is left empty
            alive |= dict.fromkeys(names, stays.nonzero().squeeze(1))
    return alive


def _nonzero(base: Trace, name: str) -> Tensor:
    """Elements of a tensor that readers may see differ from zero, in either run. Shape: flat."""
    assert base.model is not None
    boxes = (base.model.read[name], base.read[name])
    return torch.stack([((box.lower != 0) | (box.upper != 0)).flatten(1).any(0) for box in boxes]).any(0)


def _without(graph: Graph, alive: Mapping[str, Tensor]) -> Graph:
    """The graph with rows and columns of its dense layers taken out."""
    nodes: list[Node] = []
    for node in graph.nodes:
        op = node.op
        if isinstance(op, Dense):
            weight, bias = op.weight, op.bias
            if node.inputs[0] in alive:
                weight = weight[:, alive[node.inputs[0]]]
            if node.name in alive:
                weight, bias = weight[alive[node.name]], None if bias is None else bias[alive[node.name]]
            op = Dense(weight.contiguous(), bias)
        shape = (*node.shape[:-1], len(alive[node.name])) if node.name in alive else node.shape
        nodes.append(replace(node, op=op, shape=shape))
    return replace(graph, nodes=tuple(nodes))


def _sliced(gate: Gate, stays: Tensor | None) -> Gate:
    if stays is None:
        return gate
    patch = Box(gate.patch.lower[..., stays], gate.patch.upper[..., stays])
    return replace(gate, group=gate.group[..., stays], patch=patch)


def _cut(trace: Trace, graph: Graph, model: Trace | None, alive: Mapping[str, Tensor]) -> Trace:
    """What a trace knows of the elements that stay."""

    def boxes(held: Mapping[str, Box]) -> dict[str, Box]:
        take: Callable[[str, Tensor], Tensor] = lambda name, x: x[..., alive[name]] if name in alive else x  # noqa: E731
        return {name: Box(take(name, box.lower), take(name, box.upper)) for name, box in held.items()}

    return replace(
        trace, graph=graph, model=model, value=boxes(trace.value), read=boxes(trace.read), delta=boxes(trace.delta),
        _lines={}, _difference={}, _delta_rounding={}, _rounding={},
    )  # fmt: skip
