"""Fill a trace: intervals everywhere, and backward linear bounds where they can tighten a relaxation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping

import torch
from torch import Tensor

from bounds.domains import interval, linear
from bounds.domains.trace import Trace
from bounds.gates import Gates
from bounds.graph import Graph, Node
from bounds.ops.base import Elementwise, Nonlinear
from bounds.region import Box, Region

__all__ = [
    "chunks",
    "circuit_trace",
    "closure",
    "enter_delta",
    "model_trace",
    "open_elements",
    "ranges",
    "rows_together",
    "together",
    "zero_box",
]


def model_trace(graph: Graph, region: Region, memory: int, refine: bool = True) -> Trace:
    """Bounds of every tensor of the model over the region; no circuit enters. `memory` bounds the working set, in bytes."""
    trace = Trace(graph, region)
    box = region.box()
    trace.value[graph.input] = trace.read[graph.input] = Box(box.lower.unsqueeze(0), box.upper.unsqueeze(0))
    loose = model_trace(graph, region, memory, refine=False) if refine and not _isotone(graph) else None
    for node in graph.nodes:
        _enter(trace, node, refine, memory, loose)
    return trace


def closure(graph: Graph, box: Box, tensors: Iterable[str]) -> dict[str, Box]:
    """The intervals that tensors take over a box of inputs by interval propagation, without a batch axis.

    Guarantees: closed: where every tensor upstream takes any value of its own interval, a tensor's value is in its. So whatever
    some elements are replaced with, inside their intervals, all others stay inside theirs.
    """
    known = model_trace(graph, box, 0, refine=False).value
    return {name: Box(known[name].lower[0], known[name].upper[0]) for name in tensors}


def ranges(graph: Graph, region: Region, tensors: Iterable[str], memory: int) -> dict[str, Box]:
    """The intervals of values that the model's tensors take over a region, as tight as linear bounds find them, without a batch
    axis."""
    trace = model_trace(graph, region, memory)
    found: dict[str, Box] = {}
    for name in tensors:
        box = _tightest(trace, name, memory)
        found[name] = Box(box.lower[0], box.upper[0])
    return found


def _tightest(trace: Trace, name: str, memory: int) -> Box:
    """A tensor's box after backward bounds of all its elements; behind a non-linear operator those of what it reads."""
    if name == trace.graph.input:
        return trace.value[name]
    node, box = trace.graph.node[name], trace.value[name]
    if isinstance(node.op, Nonlinear):
        return interval.image(node, [_tightest(trace, node.inputs[0], memory)]).intersect(box)
    every = torch.ones((1, box.lower.numel()), dtype=torch.bool, device=trace.graph.device)
    sign = torch.ones_like(box.lower).flatten(1)
    return _tighten(trace, node, _tighten(trace, node, box, every, sign, memory), every, -sign, memory)


def circuit_trace(model: Trace, gates: Gates, masks: Tensor, memory: int, refine: bool = True) -> Trace:
    """Bounds of every tensor of each circuit. Tensors that no gate lies upstream of are the model's, and shared.

    Three enclosures are intersected: the circuit's own intervals; the model's plus the interval of the difference between the
    two; and, with `refine`, backward linear bounds. With these it is never looser than without. Shapes: `masks` `(circuits,
    gates.size)` bool, True for kept.
    """
    trace = Trace(model.graph, model.region, model, gates, gates.expand(masks))
    trace.value[model.graph.input] = trace.read[model.graph.input] = model.read[model.graph.input]
    loose: Trace | None = None
    if refine and not _isotone(model.graph):
        loose = circuit_trace(model_trace(model.graph, model.region, memory, refine=False), gates, masks, memory, refine=False)
    for node in model.graph.nodes:
        if any(name in trace.delta for name in node.inputs):
            _enter(trace, node, refine, memory, loose)
            continue
        trace.value[node.name] = trace.read[node.name] = model.value[node.name]
        if node.name in trace.kept:
            enter_delta(trace, node.name, zero_box(model.value[node.name]))
    return trace


def _isotone(graph: Graph) -> bool:
    """Whether intervals of tensors never widen where those upstream become tighter."""
    return all(node.op.isotone for node in graph.nodes if isinstance(node.op, Nonlinear))


def _enter(trace: Trace, node: Node, refine: bool, memory: int, loose: Trace | None) -> None:
    """Bound one node from what it reads, and tighten it where a relaxation depends on it. `loose`: bounds known already."""
    name = node.name
    box = interval.image(node, [trace.read[x] for x in node.inputs])
    delta: Box | None = None
    if trace.model is not None:
        model = trace.model
        deltas = [trace.delta[x] if x in trace.delta else zero_box(model.read[x]) for x in node.inputs]
        delta = interval.difference_image(
            node, deltas, [model.read[x] for x in node.inputs], [trace.read[x] for x in node.inputs]
        )
        box = box.intersect(interval.plus(model.value[name], delta))
    if loose is not None:
        box = box.intersect(loose.value[name])
    if refine:
        box = _refined(trace, node, box, memory)
    trace.value[name] = trace.read[name] = box
    if delta is not None and trace.model is not None:
        enter_delta(trace, name, delta.intersect(interval.minus(box, trace.model.value[name])))
        if loose is not None:
            trace.delta[name] = trace.delta[name].intersect(loose.delta[name])


def enter_delta(trace: Trace, name: str, delta: Box) -> None:
    """Enter what readers of a circuit's tensor see, and by how much it differs from what the model's readers see."""
    trace.delta[name] = delta
    if name in trace.kept and trace.model is not None:
        kept, patch = trace.kept[name], trace.patch[name]
        trace.read[name] = interval.gated(trace.value[name], patch, kept)
        trace.delta[name] = interval.gated_difference(delta, trace.model.value[name], patch, kept)


def zero_box(like: Box) -> Box:
    """The difference of what does not differ."""
    return Box(torch.zeros_like(like.lower), torch.zeros_like(like.upper))


def _refined(trace: Trace, node: Node, box: Box, memory: int) -> Box:
    """Backward linear bounds where a relaxation needs them: first the end that the model's own sign makes likely to settle the
    element, then, where that did not, the other end."""
    needed = open_elements(trace, node, box)
    if needed is None:
        return box
    guide = box if trace.model is None else trace.model.value[node.name]
    sign = torch.where(guide.lower + guide.upper < 0, -1.0, 1.0).to(box.lower.dtype).flatten(1)
    box = _tighten(trace, node, box, needed, sign, memory)
    needed = open_elements(trace, node, box)
    return box if needed is None else _tighten(trace, node, box, needed, -sign, memory)


def open_elements(trace: Trace, node: Node, box: Box) -> Tensor | None:
    """Which elements a relaxation downstream depends on and is not exact for. Shape: `(circuits, size)`; None where none is.

    An element that only an ablated neuron reads, or that is ablated itself, is not needed: its value is replaced.
    """
    needed: Tensor | None = None
    for reader in trace.graph.readers[node.name]:
        if not isinstance(reader.op, Nonlinear):
            continue
        open_ = ~reader.op.settled(box.lower, box.upper)
        gated = {reader.name, node.name} if isinstance(reader.op, Elementwise) else {node.name}
        for name in gated & trace.kept.keys():
            open_ = open_ & trace.kept[name]
        needed = open_ if needed is None else needed | open_
    if needed is None or not bool(needed.any()):
        return None
    return needed.flatten(1)


def _tighten(trace: Trace, node: Node, box: Box, needed: Tensor, sign: Tensor, memory: int) -> Box:
    """Intersect the box, at the needed elements, with a backward linear bound: from below where `sign` is 1, from above at
    -1."""
    lower, upper = (x.flatten(1).expand(len(needed), -1).clone() for x in (box.lower, box.upper))
    sign = sign.expand(len(needed), -1)
    for some in together(trace, needed, memory):
        shared, position = _shared_rows(trace, node, some)
        for circuits, order, real in chunks(trace, some, memory):
            signs = sign.index_select(0, circuits).gather(1, order) * real
            form = linear.pull_back(trace, shared.pick(position[order] * real, signs), circuits)
            least = linear.concretize(trace, form)
            who = circuits.unsqueeze(1).expand_as(order)
            for end, chosen in ((lower, signs > 0), (upper, signs < 0)):
                at = who[chosen], order[chosen]
                end[at] = torch.maximum(end[at], least[chosen]) if end is lower else torch.minimum(end[at], -least[chosen])
    shape = (len(lower), *node.shape)
    return Box(lower.reshape(shape), upper.reshape(shape))


def together(trace: Trace, needed: Tensor, memory: int) -> Iterator[Tensor]:
    """The needed elements in groups of neighbours whose coefficients fit in memory for one circuit. Shapes: as `needed`,
    `(circuits, size)` bool."""
    union = needed.any(0).nonzero().squeeze(1)
    for at in union.split(max(1, memory // _each(trace))):
        some = torch.zeros_like(needed)
        some[:, at] = needed[:, at]
        yield some


def _shared_rows(trace: Trace, node: Node, needed: Tensor) -> tuple[linear.Form, Tensor]:
    """Unit forms of the elements that any circuit needs, pulled back as far as neither a relaxation nor a gate is met.

    They are the same for every circuit and for both signs. Also the row of each element.
    """
    graph = trace.graph
    union = needed.any(0).nonzero().squeeze(1)
    form = linear.elements(graph, node.name, union)
    form = linear.pull_back(trace, form, stop=lambda n: isinstance(n.op, Nonlinear) or n.name in trace.kept)
    position = torch.zeros(needed.shape[1], dtype=torch.long, device=graph.device)
    position[union] = torch.arange(len(union), device=graph.device)
    return form, position


def chunks(trace: Trace, needed: Tensor, memory: int) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Group circuits that need a like number of elements, so that padding is small and the coefficients fit in memory.

    Yields the circuits `(some,)`, elements that each needs `(some, rows)`, and which of these are no padding, of that shape.
    """
    counts = needed.sum(1)
    order = counts.argsort(descending=True)
    each = _each(trace)
    i = 0
    while i < len(order) and int(counts[order[i]]) > 0:
        rows = int(counts[order[i]])
        room = max(1, memory // (each * rows))
        fits = order[i : i + room]
        fits = fits[counts[fits] * 2 >= rows]
        found = needed.index_select(0, fits)
        at = found.to(torch.uint8).argsort(dim=1, descending=True, stable=True)[:, :rows]
        yield fits, at, found.gather(1, at)
        i += len(fits)


def _each(trace: Trace) -> int:
    """Bytes that one row of coefficients takes on its way back through what is bounded so far."""
    widest = max(size for name, size in _sizes(trace.graph).items() if name in trace.read)
    return widest * torch.finfo(trace.graph.dtype).bits // 8 * _COPIES


def rows_together(graph: Graph, memory: int) -> int:
    """How many rows of coefficients can be pulled back through a whole graph at once, in so many bytes."""
    widest = max(math.prod(node.shape) for node in graph.nodes)
    return max(1, memory // (_COPIES * widest * (torch.finfo(graph.dtype).bits // 8)))


_COPIES = 5
"""Tensors of the coefficients' size alive at once in one backward step."""


def _sizes(graph: Graph) -> Mapping[str, int]:
    sizes = {graph.input: graph.input_shape} | {node.name: node.shape for node in graph.nodes}
    return {name: int(torch.Size(shape).numel()) for name, shape in sizes.items()}
