"""Our own bound propagation: intervals and backward linear bounds, many circuits at a time.

The model's half of a margin does not depend on the circuit: its bounds and its pulled-back forms are computed once a query and
shared by all candidates. Of a circuit only what lies downstream of a gate is bounded, and of that only what a relaxation needs.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import product
from typing import ClassVar, Literal

import torch
from torch import Tensor

from bounds.backends.base import Backend, BackendRefusal, Bounder
from bounds.backends.recent import Recent
from bounds.domains import difference, interval, linear
from bounds.domains.refine import circuit_trace, model_trace, rows_together
from bounds.domains.sharpen import difference_trace
from bounds.domains.trace import Trace
from bounds.gates import mask_key
from bounds.graph import Graph
from bounds.narrow import Narrowed, apart, narrowed
from bounds.ops.base import Nonlinear
from bounds.query import Bound, Clauses, Query

__all__ = ["Native", "NativeBounder"]


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
    narrower: Narrower = field(default_factory=lambda: Narrower())

    def adopt(self, other: Bounder) -> None:
        """Share the model's bounds and the last circuits' traces with a native bounder that refines bounds in the same
        precision on the same device."""
        if not isinstance(other, NativeBounder) or "interval" in (self.options.method, other.options.method):
            return
        if replace(other.options, method=self.options.method) == self.options and "model" in vars(other):
            vars(self)["model"] = other.model
            vars(self)["recent"] = other.recent
            vars(self)["narrower"] = other.narrower

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
        forms = torch.zeros((len(masks), len(self.query.margins.offset)), dtype=torch.float64)
        for rows, bounder, own in self._narrowed(masks):
            forms[rows.cpu()] = torch.cat([bounder._bound(part) for part in own.split(bounder._together)]).double().cpu()
        return Bound.of(self.query.margins.to(torch.float64, torch.device("cpu")), forms)

    def narrowed(self, mask: Tensor) -> tuple[NativeBounder, Tensor]:
        """The bounder of what a circuit leaves of the query (`bounds.narrow`), and the circuit there. Shapes: masks of one."""
        _, bounder, own = next(self._narrowed(mask.to(self.query.graph.device)))
        return bounder, own

    def _narrowed(self, masks: Tensor) -> Iterator[tuple[Tensor, NativeBounder, Tensor]]:
        """Rows of circuits that leave the same of the query, the bounder of that, and their masks there."""
        if self.options.method == "interval":
            yield torch.arange(len(masks), device=masks.device), self, masks
            return
        for rows, kinds in apart(self.query, masks):
            left, bounder = self.narrower.opened(self, kinds)
            yield rows, bounder, masks[rows] if left is None else masks[rows][:, left.columns]

    @cached_property
    def _together(self) -> int:
        """How many circuits' interval bounds fit in memory at once."""
        size = sum(int(torch.Size(node.shape).numel()) for node in self.query.graph.nodes)
        return max(1, self.options.memory // (8 * size * torch.finfo(self.query.graph.dtype).bits // 8))

    def _blocks(self, count: int, circuits: int) -> Iterator[tuple[Tensor, tuple[Tensor, ...]]]:
        """Rows, and for each block of them the circuits, whose forms are pulled back together, so that the coefficients fit in
        memory."""
        device, room = self.query.graph.device, rows_together(self.query.graph, self.options.memory)
        together = torch.arange(circuits, device=device).split(max(1, room // count))
        for block in torch.arange(count, device=device).split(room):
            yield block, together

    def _bound(self, masks: Tensor) -> Tensor:
        """Lower bounds of the forms, offsets included. Shape: `(circuits, forms)`."""
        refine = self.options.method != "interval"
        trace = self._traced("linear" if refine else "interval", masks)
        best = self._interval(trace)
        if refine:
            best = self._better(best, lambda rows: self._linear(trace, rows, len(masks)))
        if self.options.method == "difference" and bool(self._wanted(best).any()):
            tighter = self._traced("difference", masks)
            best = torch.maximum(best, self._interval(tighter))
            best = self._better(best, lambda rows: self._difference(tighter, rows, len(masks)))
        return self._whole(best)

    def _better(self, best: Tensor, bound: Callable[[Tensor], Tensor]) -> Tensor:
        """The greater of known bounds and those that `bound` finds for some rows, where they are wanted."""
        wanted = self._wanted(best)
        rows = wanted.any(0).nonzero().squeeze(1)
        if not len(rows):
            return best
        found = torch.maximum(best[:, rows], bound(rows))
        # A circuit's bounds do not depend on those bounded with it.
        return best.index_copy(1, rows, torch.where(wanted[:, rows], found, best[:, rows]))

    def _whole(self, halves: Tensor) -> Tensor:
        """Bounds of the forms from those of their two halves: with offsets, rounded down. Shape: `(circuits, forms)`."""
        offset = self.query.margins.offset
        error = 4 * torch.finfo(halves.dtype).eps * (halves.abs() + self._model_interval.abs() + offset.abs())
        return halves + offset - error

    def _wanted(self, best: Tensor) -> Tensor:
        """The forms that are worth a backward pass: all, but of many clauses only those of clauses that the circuit's bounds so
        far leave open. Shape: `(circuits, forms)`."""
        margins = self.query.margins
        if not isinstance(margins, Clauses) or len(margins.clauses) <= _FEW:
            return torch.ones_like(best, dtype=torch.bool)
        wanted = torch.zeros_like(best, dtype=torch.bool)
        open_ = ~(self._whole(best)[:, margins.clauses].amax(2) >= 0)
        for circuit, clauses in zip(wanted, open_, strict=True):
            circuit[margins.clauses[clauses].flatten()] = True
        return wanted

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

    def _linear(self, trace: Trace, rows: Tensor, circuits: int) -> Tensor:
        """Backward bounds of some forms. Shape: `(circuits, rows)`."""
        graph, margins = self.query.graph, self.query.margins
        found = torch.full((circuits, len(rows)), -torch.inf, dtype=graph.dtype, device=graph.device)
        every = len(rows) == len(margins.offset)
        for block, together in self._blocks(len(rows), circuits):
            shared = linear.start(graph.output, margins.circuit[rows[block]].unsqueeze(0))
            shared = linear.pull_back(trace, shared, stop=lambda n: isinstance(n.op, Nonlinear) or n.name in trace.kept)
            of_model = self._model_form.rows(block) if every else _pull_output(self.model, margins.model[rows[block]])
            for which in together:
                index = torch.arange(len(block), device=graph.device).expand(len(which), -1)
                form = linear.pull_back(trace, shared.pick(index, torch.ones_like(index, dtype=graph.dtype)), which)
                found[which.unsqueeze(1), block] = linear.concretize(trace, _joined(form, of_model, graph))
        return found

    def _difference(self, trace: Trace, rows: Tensor, circuits: int) -> Tensor:
        """Bounds of some forms through the difference domain, which has tightened the trace: the best of three mixes. Shape:
        `(circuits, rows)`."""
        margins, graph = self.query.margins, self.query.graph
        found = torch.full((circuits, len(rows)), -torch.inf, dtype=graph.dtype, device=graph.device)
        for block, together in self._blocks(len(rows), circuits):
            p, q = margins.common[rows[block]], margins.circuit[rows[block]]
            for which, mix in product(together, ("siamese", "difference", "greedy")):
                pair = difference.start(graph.output, p.expand(len(which), *p.shape), q.expand(len(which), *q.shape))
                pair = difference.pull_back(trace, pair, mix, which)
                at = which.unsqueeze(1), block
                found[at] = torch.maximum(found[at], difference.concretize(trace, pair))
        return found


_FEW = 64
"""Up to so many clauses all are bounded as tightly as a method can; of more only those that looser bounds leave open. What is
proven is the same, the margin may be smaller."""


@dataclass(eq=False)
class Narrower:
    """The queries that circuits leave of one, with their bounders: the last one, and those before it as far as `room` bytes go
    for bounds of the model."""

    room: int = 1 << 28
    _held: OrderedDict[bytes, tuple[Narrowed | None, list[NativeBounder]]] = field(default_factory=OrderedDict)

    def opened(self, whole: NativeBounder, kinds: Tensor) -> tuple[Narrowed | None, NativeBounder]:
        """What is left where heads read whole as `kinds` says, and a bounder of it like `whole`; None and `whole` itself where
        nothing is gained."""
        key = mask_key(kinds)
        if key not in self._held:
            self._held[key] = narrowed(whole.query, kinds), []
        self._held.move_to_end(key)
        while len(self._held) > 1 and sum(map(_bytes, self._held.values())) > self.room:
            self._held.popitem(last=False)
        left, bounders = self._held[key]
        if left is None:
            return None, whole
        found = next((bounder for bounder in bounders if bounder.options == whole.options), None)
        if found is None:
            found = NativeBounder(left.query, whole.options)
            for other in bounders:
                found.adopt(other)
            bounders.append(found)
        return left, found


def _bytes(held: tuple[Narrowed | None, list[NativeBounder]]) -> int:
    """What bounds of the model take, which bounders of one query share."""
    return max((vars(bounder)["model"].bytes for bounder in held[1] if "model" in vars(bounder)), default=0)


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
