"""Fill a trace: intervals everywhere, and backward linear bounds where they can tighten a relaxation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

from bounds.domains import interval, linear
from bounds.domains.trace import Trace
from bounds.gates import Gates
from bounds.graph import Graph, Node
from bounds.ops.base import Elementwise
from bounds.region import Box, Region

__all__ = ["circuit_trace", "model_trace"]


def model_trace(graph: Graph, region: Region, memory: int, refine: bool = True) -> Trace:
    """Bounds of every tensor of the model over the region; no circuit enters. `memory` bounds the working set, in bytes."""
    trace = Trace(graph, region)
    box = region.box()
    trace.value[graph.input] = trace.read[graph.input] = Box(box.lower.unsqueeze(0), box.upper.unsqueeze(0))
    for node in graph.nodes:
        _enter(trace, node, refine, memory)
    return trace


def circuit_trace(model: Trace, gates: Gates, masks: Tensor, memory: int, refine: bool = True) -> Trace:
    """Bounds of every tensor of each circuit. Tensors that no gate lies upstream of are the model's, and shared.

    Shapes: `masks` `(circuits, gates.size)` bool, True for kept.
    """
    kept = gates.expand(masks)
    trace = Trace(model.graph, model.region, gates, kept)
    touched: set[str] = set()
    graph = model.graph
    trace.value[graph.input] = trace.read[graph.input] = model.read[graph.input]
    for node in graph.nodes:
        if any(name in touched for name in node.inputs):
            _enter(trace, node, refine, memory)
            touched.add(node.name)
            continue
        trace.value[node.name] = trace.read[node.name] = model.value[node.name]
        if isinstance(node.op, Elementwise):
            trace._lines[node.name] = model.lines(node)  # pyright: ignore[reportPrivateUsage]
        if node.name in kept:
            trace.read[node.name] = interval.gated(model.value[node.name], trace.patch[node.name], kept[node.name])
            touched.add(node.name)
    return trace


def _enter(trace: Trace, node: Node, refine: bool, memory: int) -> None:
    """Bound one node from what it reads, and tighten it where a relaxation depends on it."""
    box = interval.image(node, [trace.read[name] for name in node.inputs])
    trace.value[node.name] = box
    if refine and (needed := _needed(trace, node, box)) is not None:
        trace.value[node.name] = box = _tighten(trace, node, box, needed, memory)
    kept = trace.kept.get(node.name)
    trace.read[node.name] = box if kept is None else interval.gated(box, trace.patch[node.name], kept)


def _needed(trace: Trace, node: Node, box: Box) -> Tensor | None:
    """Which elements a relaxation downstream depends on and is not exact for. Shape: `(circuits, size)`; None where none is.

    An element that only an ablated neuron reads is not needed: its value is replaced.
    """
    needed: Tensor | None = None
    for reader in trace.graph.readers[node.name]:
        if not isinstance(reader.op, Elementwise):
            continue
        open_ = ~reader.op.settled(box.lower, box.upper)
        for name in {reader.name, node.name} & trace.kept.keys():
            open_ = open_ & trace.kept[name]
        needed = open_ if needed is None else needed | open_
    if needed is None or not bool(needed.any()):
        return None
    return needed.flatten(1)


def _tighten(trace: Trace, node: Node, box: Box, needed: Tensor, memory: int) -> Box:
    """Intersect the box with backward linear bounds of the needed elements."""
    lower, upper = box.lower.flatten(1).clone(), box.upper.flatten(1).clone()
    if len(lower) < len(needed):
        lower, upper = lower.expand(len(needed), -1).clone(), upper.expand(len(needed), -1).clone()
    shared, position = _shared_rows(trace, node, needed)
    for circuits, rows in _chunks(trace, node, needed, memory):
        found = needed.index_select(0, circuits)
        order = found.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :rows]
        real = found.gather(1, order)
        index = position[order] * real
        sign = torch.cat([real.to(lower.dtype), -real.to(lower.dtype)], dim=1)
        form = shared.pick(torch.cat([index, index], dim=1), sign)
        least = linear.concretize(trace, linear.pull_back(trace, form, circuits))
        low, high = least.chunk(2, dim=1)
        at = circuits.unsqueeze(1).expand_as(order)[real], order[real]
        lower[at] = torch.maximum(lower[at], low[real])
        upper[at] = torch.minimum(upper[at], -high[real])
    shape = (len(lower), *node.shape)
    return Box(lower.reshape(shape), upper.reshape(shape))


def _shared_rows(trace: Trace, node: Node, needed: Tensor) -> tuple[linear.Form, Tensor]:
    """Unit forms of the elements that any circuit needs, pulled back as far as neither a relaxation nor a gate is met.

    They are the same for every circuit and for both signs. Also the row of each element.
    """
    graph = trace.graph
    union = needed.any(0).nonzero().squeeze(1)
    size = needed.shape[1]
    units = torch.zeros((1, len(union), size), dtype=graph.dtype, device=graph.device)
    units[0, torch.arange(len(union)), union] = 1
    form = linear.start(node.name, units.reshape(1, len(union), *node.shape))
    form = linear.pull_back(trace, form, stop=lambda n: isinstance(n.op, Elementwise) or n.name in trace.kept)
    position = torch.zeros(size, dtype=torch.long, device=graph.device)
    position[union] = torch.arange(len(union), device=graph.device)
    return form, position


def _chunks(trace: Trace, node: Node, needed: Tensor, memory: int) -> Iterator[tuple[Tensor, int]]:
    """Group circuits that need a like number of rows, so that padding is small and the coefficients fit in memory."""
    counts = needed.sum(1)
    order = counts.argsort(descending=True)
    widest = max(size for name, size in _sizes(trace.graph).items() if name in trace.read)
    each = 2 * widest * torch.finfo(trace.graph.dtype).bits // 8 * _COPIES
    i = 0
    while i < len(order) and int(counts[order[i]]) > 0:
        rows = int(counts[order[i]])
        room = max(1, memory // (each * rows))
        fits = order[i : i + room]
        fits = fits[counts[fits] * 2 >= rows]
        yield fits, rows
        i += len(fits)


_COPIES = 5
"""Tensors of the coefficients' size alive at once in one backward step."""


def _sizes(graph: Graph) -> Mapping[str, int]:
    sizes = {graph.input: graph.input_shape} | {node.name: node.shape for node in graph.nodes}
    return {name: int(torch.Size(shape).numel()) for name, shape in sizes.items()}
