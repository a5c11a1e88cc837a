"""A gated graph in two parts: what no gate touches, the same for every circuit, and the rest."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bounds.gates import Gates
from bounds.graph import Graph, Node

__all__ = ["Stem"]


@dataclass(frozen=True, eq=False)
class Stem:
    """Evaluates many circuits at the same inputs: `values` once for the inputs, `outputs` for each circuit from there."""

    graph: Graph
    gates: Gates

    @cached_property
    def rest(self) -> tuple[Node, ...]:
        """The nodes that some gate's replacement may reach, in order."""
        gated, touched = self.gates.by_tensor, set[str]()
        found: list[Node] = []
        for node in self.graph.nodes:
            if any(name in touched or name in gated for name in node.inputs):
                touched.add(node.name)
                found.append(node)
        return tuple(found)

    @cached_property
    def names(self) -> frozenset[str]:
        """The tensors outside the rest that it starts from."""
        rest = {node.name for node in self.rest}
        read = {name for node in self.rest for name in node.inputs} | set(self.gates.by_tensor)
        return frozenset((read | set(self.gates.sources.values()) | {self.graph.output}) - rest)

    @cached_property
    def numbers(self) -> int:
        """Numbers that one row of `outputs` takes."""
        shapes = [self.graph.shape(name) for name in self.names] + [node.shape for node in self.rest]
        return sum(math.prod(shape) for shape in shapes)

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """The stem's tensors, before any gate. Shapes: `(batch, *input_shape)` to `(batch, *shape)` each."""
        found = self.graph.evaluate(x, keep=self.names)
        return {name: found[name] for name in self.names}

    def outputs(self, values: Mapping[str, Tensor], masks: Tensor, patches: Mapping[str, Tensor]) -> Tensor:
        """The circuits' outputs. Shapes: a row each in `values`, `masks` `(batch, gates.size)` and `patches` (for gated tensors
        without a source); `(batch, *output_shape)`. The same numbers as `Graph.evaluate`, up to rounding."""
        kept, gated = self.gates.expand(masks), self.gates.by_tensor
        known = dict(values)

        def replaced(name: str, y: Tensor) -> Tensor:
            source = gated[name].source
            return torch.where(kept[name], y, patches[name] if source is None else values[source])

        for name in gated.keys() & values.keys():
            known[name] = replaced(name, values[name])
        output = self.graph.output
        for node in self.rest:
            y = node.op.forward(*(known[name] for name in node.inputs))
            if node.name == output:
                return y
            known[node.name] = replaced(node.name, y) if node.name in gated else y
        return values[output]
