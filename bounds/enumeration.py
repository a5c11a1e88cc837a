"""Input sets of finitely many points, one after the other; and intervals of what a graph computes at points.

Interval arithmetic at a point is an evaluation with its rounding enclosed: over all points of a set it is a proof.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.domains import interval
from bounds.gates import Gates
from bounds.graph import Graph
from bounds.region import Box, Region
from bounds.stack import Stack
from bounds.tokens import Tokens

__all__ = ["Enumeration", "PointBoxes", "enumeration"]


@dataclass(frozen=True, slots=True, eq=False)
class Enumeration(ABC):
    """All points of a set, by number."""

    count: int

    @abstractmethod
    def points(self, start: int, stop: int) -> Tensor:
        """Points `start` to `stop`, the last excluded. Shape: `(stop - start, *shape)`."""


@dataclass(frozen=True, slots=True, eq=False)
class _Listed(Enumeration):
    tokens: Tokens

    def points(self, start: int, stop: int) -> Tensor:
        return self.tokens.listed(start, stop)


@dataclass(frozen=True, slots=True, eq=False)
class _Single(Enumeration):
    point: Tensor

    def points(self, start: int, stop: int) -> Tensor:
        return self.point.unsqueeze(0)[start:stop]


@dataclass(frozen=True, slots=True, eq=False)
class _Pairs(Enumeration):
    first: Enumeration
    second: Enumeration

    def points(self, start: int, stop: int) -> Tensor:
        n = self.second.count
        rows = range(start // n, (stop - 1) // n + 1)
        firsts = self.first.points(rows.start, rows.stop)
        pairs = [
            torch.stack(torch.broadcast_tensors(x, self.second.points(max(0, start - row * n), min(n, stop - row * n))), dim=1)
            for row, x in zip(rows, firsts, strict=True)
        ]
        return torch.cat(pairs)


def enumeration(region: Region) -> Enumeration | None:
    """The points of a set of finitely many; None where there are more, or they are not known one by one."""
    if isinstance(region, Tokens):
        return _Listed(region.count, region) if region.radius == 0 else None
    if isinstance(region, Box):
        return _Single(1, region.lower) if torch.equal(region.lower, region.upper) else None
    if isinstance(region, Stack):
        first, second = enumeration(region.first), enumeration(region.second)
        if first is not None and second is not None:
            return _Pairs(first.count * second.count, first, second)
    return None


@dataclass(frozen=True, eq=False)
class PointBoxes:
    """Enclosures of a model's and many circuits' outputs at points: `values` once for the points, `outputs` for each circuit.

    Guarantees: enclosures in real arithmetic for all patched values inside their boxes; where these are single values, as
    narrow as rounding. Cost: some four evaluations.
    """

    graph: Graph
    gates: Gates

    def values(self, x: Tensor) -> dict[str, Box]:
        """The model's tensors. Shapes: `(batch, *input_shape)` to `(batch, *shape)` each."""
        known = {self.graph.input: Box(x, x)}
        for node in self.graph.nodes:
            known[node.name] = interval.image(node, [known[name] for name in node.inputs])
        return known

    def outputs(self, values: Mapping[str, Box], mask: Tensor) -> Box:
        """One circuit's output; what nothing that it ablates lies upstream of is the model's. Shapes: `mask` `(1, gates.size)`;
        ends `(batch, *output_shape)`."""
        kept, known, changed = self.gates.expand(mask), dict(values), set[str]()
        cut = {name: gate for name, gate in self.gates.by_tensor.items() if not bool(kept[name].all())}
        for node in self.graph.nodes:
            if any(name in changed for name in node.inputs):
                known[node.name] = interval.image(node, [known[name] for name in node.inputs])
                changed.add(node.name)
            if (gate := cut.get(node.name)) is not None:
                given = Box(gate.patch.lower.unsqueeze(0), gate.patch.upper.unsqueeze(0))
                given = given if gate.source is None else values[gate.source]
                known[node.name] = interval.gated(known[node.name], given, kept[node.name])
                changed.add(node.name)
        return known[self.graph.output]
