"""A network as a single-assignment program over named tensors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

import torch
from torch import Tensor

from bounds.gates import Gates
from bounds.ops.base import Op, Shape

__all__ = ["Graph", "GraphError", "Node"]


class GraphError(ValueError):
    """A graph that cannot be built or bounded; the message names the operator and its place."""


@dataclass(frozen=True, slots=True, eq=False)
class Node:
    """One assignment `name = op(*inputs)`.

    `site` is False for tensors that only our lowering made: the model's author knows no such name. `channel_axis` is the axis
    of `shape` that counts convolution channels, where there is one.
    """

    name: str
    op: Op
    inputs: tuple[str, ...]
    shape: Shape
    site: bool = True
    channel_axis: int | None = None


@dataclass(frozen=True, eq=False)
class Graph:
    """Nodes in the order of evaluation, one input, one output.

    Shapes are those at batch size one, the model's own leading axis included; `evaluate` puts a batch axis of ours in front.
    """

    input: str
    input_shape: Shape
    nodes: tuple[Node, ...]
    output: str
    dtype: torch.dtype = torch.float64
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        known = {self.input}
        for node in self.nodes:
            if missing := [name for name in node.inputs if name not in known]:
                raise GraphError(f"tensor {node.name!r} reads {missing[0]!r}, which nothing before it computes")
            if node.name in known:
                raise GraphError(f"tensor {node.name!r} is assigned twice")
            known.add(node.name)
        if self.output not in known:
            raise GraphError(f"no tensor is called {self.output!r}")

    @cached_property
    def node(self) -> Mapping[str, Node]:
        """Nodes by the tensor they compute."""
        return {node.name: node for node in self.nodes}

    @cached_property
    def readers(self) -> Mapping[str, tuple[Node, ...]]:
        """The nodes that read each tensor."""
        found: dict[str, list[Node]] = {self.input: [], **{node.name: [] for node in self.nodes}}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name].append(node)
        return {name: tuple(nodes) for name, nodes in found.items()}

    def shape(self, name: str) -> Shape:
        """Shape of a tensor, without our batch axis."""
        return self.input_shape if name == self.input else self.node[name].shape

    def to(self, dtype: torch.dtype, device: torch.device | None = None) -> Graph:
        """The same graph with its constants in `dtype` on `device`."""
        device = self.device if device is None else device
        if (dtype, device) == (self.dtype, self.device):
            return self
        nodes = tuple(replace(node, op=node.op.to(dtype, device)) for node in self.nodes)
        return replace(self, nodes=nodes, dtype=dtype, device=device)

    def inexact_in(self, dtype: torch.dtype) -> str | None:
        """The first tensor computed with a constant that `dtype` cannot hold exactly, if there is one."""
        for node in self.nodes:
            for constant in node.op.constants():
                if not torch.equal(constant.to(dtype).to(constant.dtype), constant):
                    return node.name
        return None

    def evaluate(
        self,
        x: Tensor,
        gates: Gates | None = None,
        masks: Tensor | None = None,
        patches: Mapping[str, Tensor] | None = None,
        keep: frozenset[str] = frozenset(),
    ) -> dict[str, Tensor]:
        """Run the program; with `gates`, run the intervened program.

        Shapes: `x` `(batch, *input_shape)`; `masks` `(batch, gates.size)` bool, True for kept; `patches` for each gated tensor
        without a source `(batch, *shape)`, the values that ablated elements take. Returns the output and the tensors named in
        `keep` (as computed, before their own gate). Cost: one forward pass; tensors are dropped after their last reader.
        """
        kept = gates.expand(masks) if gates is not None and masks is not None else {}
        sources = gates.sources if gates is not None else {}
        lent = set(sources.values())
        values: dict[str, Tensor] = {self.input: x}
        result: dict[str, Tensor] = {}
        last = self._last_reader
        for i, node in enumerate(self.nodes):
            y = node.op.forward(*(values[name] for name in node.inputs))
            if node.name in keep or node.name == self.output:
                result[node.name] = y
            if node.name in kept:
                patch = values[sources[node.name]] if node.name in sources else (patches or {})[node.name]
                y = torch.where(kept[node.name], y, patch)
            values[node.name] = y
            for name in node.inputs:
                if last[name] == i and name not in lent:
                    values.pop(name, None)
        if self.input in keep or self.output == self.input:
            result[self.input] = x
        return result

    def __call__(self, x: Tensor) -> Tensor:
        """The output for a batch of inputs."""
        return self.evaluate(x)[self.output]

    @cached_property
    def _last_reader(self) -> Mapping[str, int]:
        return {name: i for i, node in enumerate(self.nodes) for name in node.inputs}
