"""Our own bound propagation: intervals and backward linear bounds, many circuits at a time.

The model's half of a margin does not depend on the circuit: its bounds and its pulled-back forms are computed once a query and
shared by all candidates. Of a circuit only what lies downstream of a gate is bounded, and of that only what a relaxation needs.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bounds.backends.base import Backend, BackendRefusal, Bounder
from bounds.backends.recent import Recent
from bounds.domains import difference, interval, linear
from bounds.domains.refine import circuit_trace, model_trace
from bounds.domains.sharpen import difference_trace
from bounds.domains.trace import Trace
from bounds.graph import Graph
from bounds.ops.base import Nonlinear
from bounds.query import Bound, Query
from bounds.region import Region

__all__ = ["Native", "NativeBounder", "model_forms"]


@dataclass(frozen=True, slots=True)
class Native(Backend):
    """Interval bounds, backward linear bounds, or these and the difference domain's, in `dtype` on `device`.

    `memory` bounds the working set in bytes; what stays in a CPU's cache is fastest (512 MiB costs twice the time of 16).

    Guarantees: enclosures in real arithmetic, rounding charged (float32 is as sound as float64, and looser). Cost of `linear`:
    for each circuit one backward pass a layer, over the elements that intervals leave open; see `bounds.domains.refine`.
    """

    name: ClassVar[str] = "native"
    method: Literal["interval", "linear", "difference"] = "linear"
    dtype: torch.dtype = torch.float64
    device: str = "cpu"
    memory: int = 1 << 24

    def open(self, query: Query) -> NativeBounder:
        """Raises: BackendRefusal: a constant of the graph is not exact in `dtype`, so that another function would be
        bounded."""
        if (name := query.graph.inexact_in(self.dtype)) is not None:
            raise BackendRefusal(f"tensor {name!r}: a constant that computes it is no {self.dtype} number; use float64")
        return NativeBounder(query.to(self.dtype, torch.device(self.device)), self)


@dataclass(frozen=True, eq=False)
class NativeBounder(Bounder):
    """One query, with the model's bounds and forms kept."""

    query: Query
    options: Native
    recent: Recent = field(default_factory=Recent)

    def adopt(self, other: Bounder) -> None:
        """Share the model's bounds and the last circuits' traces with a native bounder that refines bounds in the same
        precision on the same device."""
        if not isinstance(other, NativeBounder) or "interval" in (self.options.method, other.options.method):
            return
        if replace(other.options, method=self.options.method) == self.options and "model" in vars(other):
            vars(self)["model"] = other.model
            vars(self)["recent"] = other.recent

    def stopped(self) -> NativeBounder:
        """Itself: what it keeps is entered whole, once it is made. So the model is bounded once, however often time is up."""
        return self

    @cached_property
    def model(self) -> Trace:
        """Bounds of every tensor of the model."""
        return model_trace(self.query.graph, self.query.region, self.options.memory, self.options.method != "interval")

    @cached_property
    def _model_interval(self) -> Tensor:
        """Lower bounds of the model's half of each form, by intervals. Shape: `(1, forms)`."""
        return interval.least(self.query.margins.model, self.model.value[self.query.graph.output])

    @cached_property
    def _model_form(self) -> linear.Form:
        """The model's half of each form, over the input. Shape: one circuit, all forms."""
        return _pull_output(self.model, self.query.margins.model)

    def bound(self, masks: Tensor) -> Bound:
        masks = masks.to(self.query.graph.device)
        parts = [self._bound(part) for part in masks.split(self._together)]
        forms = torch.cat(parts).double().cpu()
        return Bound.of(self.query.margins.to(torch.float64, torch.device("cpu")), forms)

    @cached_property
    def _together(self) -> int:
        """How many circuits' interval bounds fit in memory at once."""
        size = sum(int(torch.Size(node.shape).numel()) for node in self.query.graph.nodes)
        return max(1, self.options.memory // (8 * size * torch.finfo(self.query.graph.dtype).bits // 8))

    @cached_property
    def _rows_together(self) -> int:
        """How many circuits' forms can be pulled back at once."""
        widest = max(int(torch.Size(node.shape).numel()) for node in self.query.graph.nodes)
        each = 5 * self.query.margins.circuit.shape[0] * widest * torch.finfo(self.query.graph.dtype).bits // 8
        return max(1, self.options.memory // each)

    def _bound(self, masks: Tensor) -> Tensor:
        """Lower bounds of the forms, offsets included. Shape: `(circuits, forms)`."""
        query, refine = self.query, self.options.method != "interval"
        trace = self._traced("linear" if refine else "interval", masks)
        best = self._interval(trace)
        if refine:
            best = torch.maximum(best, self._linear(trace, len(masks)))
        if self.options.method == "difference":
            best = torch.maximum(best, self._difference(self._traced("difference", masks), len(masks)))
        offset = query.margins.offset
        error = 4 * torch.finfo(best.dtype).eps * (best.abs() + self._model_interval.abs() + offset.abs())
        return best + offset - error

    def trace(self, mask: Tensor) -> Trace:
        """All that is known of one circuit's tensors. Shapes: `mask` `(1, gates.size)`. Kept for the last circuits bounded."""
        return self._traced(self.options.method, mask.to(self.query.graph.device))

    def _traced(self, method: str, masks: Tensor) -> Trace:
        held = self.recent.get(method, masks)
        if held is not None:
            return held
        if method == "difference":
            trace = difference_trace(self._traced("linear", masks), self.options.memory)
        else:
            trace = circuit_trace(self.model, self.query.gates, masks, self.options.memory, method == "linear")
        self.recent.put(method, masks, trace)
        return trace

    def _interval(self, trace: Trace) -> Tensor:
        """Lower bounds of the forms by intervals: `C f_C + M f_G`, or the same as `(C + M) f_G + C (f_C - f_G)`."""
        margins, output = self.query.margins, self.query.graph.output
        apart = interval.least(margins.circuit, trace.value[output]) + self._model_interval
        if output not in trace.delta:
            return apart
        both = margins.common.unsqueeze(0)
        common = interval.least(both[0], self.model.value[output])
        common = torch.where((both == 0).flatten(2).all(2), torch.zeros_like(common), common)
        return torch.maximum(apart, common + interval.least(margins.circuit, trace.delta[output]))

    def _linear(self, trace: Trace, circuits: int) -> Tensor:
        graph = self.query.graph
        shared = linear.start(graph.output, self.query.margins.circuit.unsqueeze(0))
        shared = linear.pull_back(trace, shared, stop=lambda n: isinstance(n.op, Nonlinear) or n.name in trace.kept)
        rows = self.query.margins.circuit.shape[0]
        every = torch.arange(circuits, device=graph.device)
        found: list[Tensor] = []
        for which in every.split(self._rows_together):
            index = torch.arange(rows, device=graph.device).expand(len(which), rows)
            form = shared.pick(index, torch.ones_like(index, dtype=graph.dtype))
            found.append(linear.concretize(trace, _joined(linear.pull_back(trace, form, which), self._model_form, graph)))
        return torch.cat(found)

    def _difference(self, trace: Trace, circuits: int) -> Tensor:
        """Lower bounds of the forms through the difference domain, which has tightened the trace: the best of three mixes."""
        margins, graph = self.query.margins, self.query.graph
        best = self._interval(trace)
        for which in torch.arange(circuits, device=graph.device).split(self._rows_together // 2 + 1):
            q = margins.circuit.expand(len(which), *margins.circuit.shape)
            p = margins.common.expand_as(q)
            for mix in ("siamese", "difference", "greedy"):
                pair = difference.pull_back(trace, difference.start(graph.output, p, q), mix, which)
                best[which] = torch.maximum(best[which], difference.concretize(trace, pair))
        return best


def model_forms(graph: Graph, region: Region, coefficients: Tensor, memory: int = 1 << 29) -> Tensor:
    """Lower bounds of linear forms of the model's own output over a region. Shapes: `(forms, *output_shape)` to `(forms,)`."""
    trace = model_trace(graph, region, memory)
    found = linear.concretize(trace, _pull_output(trace, coefficients))[0]
    return torch.maximum(found, interval.least(coefficients, trace.value[graph.output])[0])


def _pull_output(trace: Trace, coefficients: Tensor) -> linear.Form:
    return linear.pull_back(trace, linear.start(trace.graph.output, coefficients.unsqueeze(0)))


def _joined(one: linear.Form, other: linear.Form, graph: Graph) -> linear.Form:
    """The sum of two forms over the input; the second is shared by all circuits."""
    pending = dict(one.pending)
    for name, a in other.pending.items():
        pending[name] = pending[name] + a if name in pending else a.expand(len(one.constant), *a.shape[1:])
    constant = one.constant + other.constant
    error = one.error + other.error + 2 * torch.finfo(graph.dtype).eps * constant.abs()
    return linear.Form(pending, constant, error)
