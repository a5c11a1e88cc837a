"""What is known of every tensor of a graph, for a batch of circuits over one region."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from bounds.domains.relax import Relaxation, charge, difference_relaxation, relaxation
from bounds.gates import Gates
from bounds.graph import Graph, Node
from bounds.ops.base import Affine, Nonlinear
from bounds.region import Box, Region
from bounds.rounding import gamma, tiny

__all__ = ["Trace"]

_LINES = 3
"""A trace with what is worked out from its boxes takes about so many times the room of the boxes."""


@dataclass(frozen=True, eq=False)
class Trace:
    """Enclosures of every tensor, filled in graph order.

    `value` holds what a node computes, `read` what its readers see (after its gate), each with a batch axis of the number of
    circuits, or 1 where all share it. `kept` says for each gated tensor which elements a circuit keeps; `delta` encloses, for
    each tensor downstream of a gate, what the circuit's readers see less what the model's see. The model's own trace (batch 1)
    has neither gates nor a `model`.
    """

    graph: Graph
    region: Region
    model: Trace | None = None
    gates: Gates | None = None
    kept: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    value: dict[str, Box] = field(default_factory=dict[str, Box])
    read: dict[str, Box] = field(default_factory=dict[str, Box])
    delta: dict[str, Box] = field(default_factory=dict[str, Box])
    _lines: dict[str, Relaxation] = field(default_factory=dict[str, Relaxation])
    _difference: dict[str, tuple[Relaxation, Tensor]] = field(default_factory=dict[str, tuple[Relaxation, Tensor]])
    _delta_rounding: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    _rounding: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    _largest: dict[str, float] = field(default_factory=dict[str, float], init=False)

    @cached_property
    def batch(self) -> int:
        """How many circuits."""
        return max((len(kept) for kept in self.kept.values()), default=1)

    @property
    def bytes(self) -> int:
        """Memory that it holds beside the model's, about."""
        model = set() if self.model is None else {id(box) for box in self.model.value.values()}
        boxes = {id(box): box for held in (self.value, self.read, self.delta) for box in held.values()}
        return _LINES * sum(2 * b.lower.numel() * b.lower.element_size() for key, b in boxes.items() if key not in model)

    def to(self, dtype: torch.dtype) -> Trace:
        """The same in another precision, boxes rounded outward and constants to the nearest. For guides: of the graph as it was
        it proves nothing."""
        moved: dict[int, Box] = {}

        def boxes(held: Mapping[str, Box]) -> dict[str, Box]:  # one box stays one
            for box in held.values():
                if id(box) not in moved:
                    moved[id(box)] = box.to(dtype, self.graph.device)
            return {name: moved[id(box)] for name, box in held.items()}

        def trace(of: Trace, graph: Graph, region: Region, model: Trace | None) -> Trace:
            gates = None if of.gates is None else of.gates.to(dtype, graph.device)
            return Trace(graph, region, model, gates, of.kept, boxes(of.value), boxes(of.read), boxes(of.delta))

        graph, region = self.graph.to(dtype), self.region.to(dtype, self.graph.device)
        return trace(self, graph, region, None if self.model is None else trace(self.model, graph, region, None))

    def minimum(self, coefficients: Tensor) -> Tensor:
        """Lower bounds of linear forms of the input, over the region or, where subproblems have a box of their own, over that.

        Shapes: `(batch, rows, *input_shape)` to `(batch, rows)`.
        """
        box = self.read[self.graph.input]
        if len(box.lower) == 1:
            return self.region.minimum(coefficients.flatten(0, 1)).reshape(coefficients.shape[:2])
        return self.region.minimum_within(coefficients, box)

    @cached_property
    def patch(self) -> Mapping[str, Box]:
        """Patch values of each gated tensor: a batch axis of 1, or the model's where they come from a source."""
        if self.gates is None or self.model is None:
            return {}
        given = {g.tensor: Box(g.patch.lower.unsqueeze(0), g.patch.upper.unsqueeze(0)) for g in self.gates.gates}
        return given | {name: self.model.read[source] for name, source in self.sources.items()}

    @cached_property
    def sources(self) -> Mapping[str, str]:
        """The tensors that patched values come from, by gated tensor, where they come from one."""
        return {} if self.gates is None else self.gates.sources

    def lines(self, node: Node) -> Relaxation:
        """The relaxation of a non-linear node on the box of its argument. Computed once."""
        if node.name not in self._lines:
            assert isinstance(node.op, Nonlinear)
            box = self.read[node.inputs[0]]
            if self.model is not None and box is self.model.read[node.inputs[0]]:
                return self.model.lines(node)
            self._lines[node.name] = relaxation(node.op, box)
        return self._lines[node.name]

    def difference(self, node: Node) -> tuple[Relaxation, Tensor]:
        """Lines in the difference of a non-linear node's arguments that enclose the difference of its values, and where there
        are such lines (where not, they are zero and mean nothing). Computed once. Source: see `bounds.domains.difference`."""
        if node.name not in self._difference:
            assert isinstance(node.op, Nonlinear) and self.model is not None
            source = node.inputs[0]
            self._difference[node.name] = difference_relaxation(
                node.op, self.model.read[source], self.read[source], self.delta[source]
            )
        return self._difference[node.name]

    def delta_rounding(self, node: Node) -> Tensor:
        """Error weights as `rounding` has them, of one backward step of differences."""
        if node.name not in self._delta_rounding:
            op, dtype = node.op, self.graph.dtype
            sizes = [
                self.delta[x].magnitude.amax(0, keepdim=True) if x in self.delta else torch.zeros_like(self.read[x].lower[:1])
                for x in node.inputs
            ]
            if isinstance(op, Affine):
                weight = gamma(op.terms, dtype) * op.magnitude(*sizes)
            else:
                weight = charge(self.difference(node)[0], sizes[0])
            self._delta_rounding[node.name] = weight.expand(1, *node.shape).flatten()
        return self._delta_rounding[node.name]

    def rounding(self, node: Node) -> Tensor:
        """Error weights of one backward step: rounding moves a form `a.y` by at most `|a| . rounding`, over all circuits.

        Shape: flat, the size of the node's tensor. For an affine node the products of the adjoint and of the offset, for an
        elementwise one those with its lines; see `bounds.domains.linear`.
        """
        if node.name not in self._rounding:
            op, dtype = node.op, self.graph.dtype
            size = max(1, int(torch.tensor(node.shape).prod())) if node.shape else 1
            inputs = [self.read[name].magnitude.amax(0, keepdim=True) for name in node.inputs]
            if isinstance(op, Affine):
                weight = gamma(op.terms, dtype) * op.magnitude(*inputs)
                offset = op.offset()
                if offset is not None:
                    weight = weight + gamma(size, dtype) * offset.abs()
            else:
                source = node.inputs[0]
                if self.model is not None and source in self.delta:
                    # The same lines serve forms over (y, d), where c = y + d is taken apart.
                    for box in (self.model.read[source], self.delta[source]):
                        inputs[0] = inputs[0] + box.magnitude.amax(0, keepdim=True)
                weight = charge(self.lines(node), inputs[0])
            self._rounding[node.name] = weight.expand(1, *node.shape).flatten()
        return self._rounding[node.name]

    @property
    def floor(self) -> float:
        """What underflow can add to one whole backward pass through what is known so far."""
        for name, box in self.read.items():
            if name not in self._largest:
                self._largest[name] = float(box.magnitude.max()) if box.lower.numel() else 0.0
        count = sum(int(box.lower[0].numel()) for box in self.read.values())
        return tiny(count, self.graph.dtype) * max(1.0, *self._largest.values())
