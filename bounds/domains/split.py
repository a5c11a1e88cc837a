"""Traces of subproblems: one circuit over the part of its region where some tensors keep to one side of a threshold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.domains import interval
from bounds.domains.fronts import Fronts
from bounds.domains.refine import enter_delta, zero_box
from bounds.domains.trace import Trace
from bounds.region import Box

__all__ = ["Limits", "split_trace"]


@dataclass(frozen=True, slots=True, eq=False)
class Limits:
    """Constraints of a batch of subproblems: for named tensors, the box that their computed values keep to (infinite where
    free).

    `model` constrains the model's run, `circuit` the circuit's. Shapes: ends `(batch, *shape)`.
    """

    model: Mapping[str, Box]
    circuit: Mapping[str, Box]

    def to(self, dtype: torch.dtype) -> Limits:
        """The same in another precision, rounded outward."""
        streams = (self.model, self.circuit)
        return Limits(*({name: box.to(dtype, box.lower.device) for name, box in stream.items()} for stream in streams))


def split_trace(base: Trace, limits: Limits, batch: int, fronts: Fronts | None = None) -> tuple[Trace, Tensor]:
    """The circuit's and the model's boxes under constraints, propagated forward and cut with what `base` knows.

    `base` is the trace of one circuit; `fronts` bound the first tensors of the model more tightly. Returns the trace (batch of
    subproblems, its `model` too) and which subproblems are empty: some tensor's box has no point, so nothing satisfies the
    constraints and any claim holds there. Shape: `(batch,)` bool.
    """
    assert base.model is not None
    graph, empty = base.graph, torch.zeros(batch, dtype=torch.bool, device=base.graph.device)
    model = Trace(graph, base.region)
    box = base.model.read[graph.input]
    changed: set[str] = set()
    if graph.input in limits.model:
        box = _nonempty(base.region.tighten(box.intersect(limits.model[graph.input])), empty)
        changed.add(graph.input)
    model.value[graph.input] = model.read[graph.input] = box
    for node in graph.nodes:
        box = base.model.value[node.name]
        if any(x in changed for x in node.inputs):
            box = interval.image(node, [model.read[x] for x in node.inputs]).intersect(box)
            changed.add(node.name)
        if fronts is not None and node.name in fronts.forms and graph.input in changed:
            box = box.intersect(fronts.box(node.name, model.read[graph.input], box))
        if node.name in limits.model:
            box = box.intersect(limits.model[node.name])
            changed.add(node.name)
        if node.name in changed:
            box = _nonempty(box, empty)
        model.value[node.name] = model.read[node.name] = box
    trace = replace(
        base,
        model=model,
        kept=base.kept,
        value={},
        read={},
        delta={},
        _lines={},
        _difference={},
        _delta_rounding={},
        _rounding={},
    )
    trace.value[graph.input] = trace.read[graph.input] = model.read[graph.input]
    moved: set[str] = set(changed)
    for node in graph.nodes:
        name = node.name
        if name not in base.delta:
            trace.value[name] = trace.read[name] = model.value[name]
            continue
        if not moved & {name, *node.inputs, base.sources.get(name, name)} and name not in limits.circuit:
            trace.value[name], trace.read[name], trace.delta[name] = base.value[name], base.read[name], base.delta[name]
            continue
        moved.add(name)
        inputs = [trace.read[x] for x in node.inputs]
        touched = any(x in trace.delta for x in node.inputs)
        box = interval.image(node, inputs).intersect(base.value[name]) if touched else model.value[name]
        delta = zero_box(model.value[name])
        if touched:
            deltas = [trace.delta[x] if x in trace.delta else zero_box(model.read[x]) for x in node.inputs]
            delta = interval.difference_image(node, deltas, [model.read[x] for x in node.inputs], inputs)
            box = box.intersect(interval.plus(model.value[name], delta))
        if name in limits.circuit:
            box = box.intersect(limits.circuit[name])
        box = _nonempty(box, empty)
        if touched:
            delta = _nonempty(delta.intersect(interval.minus(box, model.value[name])), empty)
            if name not in base.kept:
                delta = _nonempty(delta.intersect(base.delta[name]), empty)
        trace.value[name] = trace.read[name] = box
        enter_delta(trace, name, delta)
    return trace, empty


def _nonempty(box: Box, empty: Tensor) -> Box:
    """Note the subproblems whose box has no point, and give them one, so that what follows stays finite."""
    crossed = box.lower > box.upper
    empty |= crossed.flatten(1).any(1)
    return Box(box.lower, torch.where(crossed, box.lower, box.upper))
