"""A second look at a circuit's trace: backward bounds of differences, intersected with everything known before."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from bounds.domains import difference, interval
from bounds.domains.refine import chunks, enter_delta, open_elements, together, zero_box
from bounds.domains.trace import Trace
from bounds.graph import Node
from bounds.ops.base import Elementwise, Nonlinear
from bounds.region import Box

__all__ = ["difference_trace"]


def difference_trace(base: Trace, memory: int) -> Trace:
    """Tighten a circuit trace by the difference domain: never looser than `base`, at any tensor.

    At every tensor that a relaxation depends on and that is not settled in both halves, the difference `d` is bounded from both
    sides by backward passes over `(y, d)`, and where the circuit's own value is still open, `y + d` too. Cost: about four rows
    of two streams for each such element.
    """
    assert base.model is not None
    model = base.model
    trace = replace(base, value={}, read={}, delta={}, _lines={}, _difference={}, _delta_rounding={}, _rounding={})
    graph = base.graph
    trace.value[graph.input] = trace.read[graph.input] = base.read[graph.input]
    for node in graph.nodes:
        name = node.name
        if name not in base.delta:
            trace.value[name] = trace.read[name] = base.value[name]
            continue
        if not any(x in trace.delta for x in node.inputs):
            trace.value[name] = trace.read[name] = base.value[name]
            enter_delta(trace, name, zero_box(base.value[name]))
            continue
        inputs = [trace.read[x] for x in node.inputs]
        deltas = [trace.delta[x] if x in trace.delta else zero_box(model.read[x]) for x in node.inputs]
        box = interval.image(node, inputs).intersect(base.value[name])
        delta = interval.difference_image(node, deltas, [model.read[x] for x in node.inputs], inputs)
        box, delta = _meet(trace, node, box, delta)
        moved = _moved(trace, node, box, delta)
        if moved is not None:
            zero = torch.zeros((), dtype=graph.dtype, device=graph.device)
            delta = _bounded(trace, node, delta, moved, zero, memory)
            box, delta = _meet(trace, node, box, delta)
            open_ = open_elements(trace, node, box)
            if open_ is not None:
                box = _bounded(trace, node, box, open_, zero + 1, memory)
                box, delta = _meet(trace, node, box, delta)
        trace.value[name] = trace.read[name] = box
        enter_delta(trace, name, delta)
        # What a difference is bounded by from tighter boxes need not be tighter, as where a product is taken apart otherwise.
        trace.delta[name] = trace.delta[name].intersect(base.delta[name])
    return trace


def _meet(trace: Trace, node: Node, box: Box, delta: Box) -> tuple[Box, Box]:
    """Let `y`, `y + d` and `d` refine one another."""
    assert trace.model is not None
    y = trace.model.value[node.name]
    box = box.intersect(interval.plus(y, delta))
    return box, delta.intersect(interval.minus(box, y))


def _moved(trace: Trace, node: Node, box: Box, delta: Box) -> Tensor | None:
    """Elements whose difference a relaxation depends on: not settled in both halves, kept, and not identically zero."""
    assert trace.model is not None
    y = trace.model.value[node.name]
    found: Tensor | None = None
    for reader in trace.graph.readers[node.name]:
        if not isinstance(reader.op, Nonlinear):
            continue
        open_ = ~(reader.op.settled(box.lower, box.upper) & reader.op.settled(y.lower, y.upper))
        gated = {reader.name, node.name} if isinstance(reader.op, Elementwise) else {node.name}
        for name in gated & trace.kept.keys():
            open_ = open_ & trace.kept[name]
        found = open_ if found is None else found | open_
    if found is None:
        return None
    found = found & ((delta.lower != 0) | (delta.upper != 0))
    return found.flatten(1) if bool(found.any()) else None


def _bounded(trace: Trace, node: Node, box: Box, needed: Tensor, share: Tensor, memory: int) -> Box:
    """Intersect a box of `share * y + d` with backward bounds from both sides, at the needed elements."""
    lower, upper = (x.flatten(1).expand(len(needed), -1).clone() for x in (box.lower, box.upper))
    for some in together(trace, needed, memory // 4):
        for circuits, order, real in chunks(trace, some, memory // 4):
            units = torch.zeros((*order.shape, needed.shape[1]), dtype=lower.dtype, device=lower.device)
            units.scatter_(2, order.unsqueeze(2), real.to(lower.dtype).unsqueeze(2))
            units = torch.cat([units, -units], dim=1).reshape(len(circuits), -1, *node.shape)
            pair = difference.pull_back(trace, difference.start(node.name, units * share, units), "greedy", circuits)
            low, high = difference.concretize(trace, pair).chunk(2, dim=1)
            at = circuits.unsqueeze(1).expand_as(order)[real], order[real]
            lower[at] = torch.maximum(lower[at], low[real])
            upper[at] = torch.minimum(upper[at], -high[real])
    shape = (len(lower), *node.shape)
    return Box(lower.reshape(shape), upper.reshape(shape))
