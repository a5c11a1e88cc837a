"""auto_LiRPA as one of its users would run it: a plain module of two branches, its documented calls, nothing of our adapter.

Only the import goes through `bounds.backends.lirpa_compat`, without which 0.3 does not import on today's torch at all.
"""

from __future__ import annotations

import contextlib
import io
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from bounds.backends.lirpa_compat import library
from bounds.graph import Graph
from bounds.ops import Conv, Dense, Relu, Reshape, Sum
from bounds.query import Query

__all__ = ["Peer"]

_OPTIONS = {"conv_mode": "matrix", "sparse_features_alpha": False, "sparse_spec_alpha": False}
"""Patches mode and sparse slopes crash or misindex in 0.3 on these graphs."""


class Branch(nn.Module):
    """A network of `nn.Linear`, `nn.Conv2d`, ReLU, flatten and sums, with masks multiplied in where given."""

    def __init__(self, graph: Graph) -> None:
        super().__init__()
        self.graph = graph
        self.layers = nn.ModuleDict()
        for i, node in enumerate(graph.nodes):
            op = node.op
            if isinstance(op, Dense):
                layer: nn.Module = nn.Linear(op.weight.shape[1], op.weight.shape[0], bias=op.bias is not None)
            elif isinstance(op, Conv) and len(op.space) == 2:
                out, per_group, *kernel = op.weight.shape
                layer = nn.Conv2d(
                    per_group * op.groups,
                    out,
                    (kernel[0], kernel[1]),
                    (op.stride[0], op.stride[1]),
                    (op.padding[0], op.padding[1]),
                    (op.dilation[0], op.dilation[1]),
                    op.groups,
                    bias=op.bias is not None,
                )
            elif isinstance(op, Relu | Sum) or (isinstance(op, Reshape) and len(op.after) == 2):
                continue
            else:
                raise ValueError(f"this benchmark's module for auto_LiRPA has no {type(op).__name__} ({node.name})")
            layer.load_state_dict({"weight": op.weight} | ({} if op.bias is None else {"bias": op.bias}))
            self.layers[str(i)] = layer

    def forward(self, x: Tensor, masks: Mapping[str, Tensor]) -> Tensor:
        values = {self.graph.input: x}
        for i, node in enumerate(self.graph.nodes):
            inputs = [values[name] for name in node.inputs]
            if str(i) in self.layers:
                y: Tensor = self.layers[str(i)](inputs[0])
            elif isinstance(node.op, Relu):
                y = torch.relu(inputs[0])
            elif isinstance(node.op, Sum):
                y = inputs[0] + inputs[1] if node.op.signs[1] > 0 else inputs[0] - inputs[1]
            else:
                y = inputs[0].flatten(1)
            values[node.name] = y * masks[node.name] if node.name in masks else y
        return values[self.graph.output]


class Siamese(nn.Module):
    """Circuit less model, on one input. The masks, one a gate, are plain inputs."""

    def __init__(self, query: Query) -> None:
        super().__init__()
        self.names = [gate.tensor for gate in query.gates.gates]
        self.circuit, self.model = Branch(query.graph), Branch(query.graph)

    def forward(self, x: Tensor, *masks: Tensor) -> Tensor:
        return self.circuit(x, dict(zip(self.names, masks, strict=True))) - self.model(x, {})


class Peer:
    """One bounded module, built once; `bound` states a fresh query for its masks."""

    def __init__(self, query: Query, dtype: torch.dtype) -> None:
        self.lirpa: Any = library().module
        self.query, self.dtype = query, dtype
        box = query.region.box()
        self.lower, self.upper = (self._held(x.to(dtype).unsqueeze(0)) for x in (box.lower, box.upper))
        self.tolerance = float(query.margins.offset[0])
        example = torch.ones((1, query.gates.size), dtype=torch.bool)
        with self._quiet():
            module = Siamese(query).eval()
            inputs = ((self.lower + self.upper) / 2, *self._masks(example))
            self.bounded: Any = self.lirpa.BoundedModule(module, inputs, bound_opts=_OPTIONS)

    @contextlib.contextmanager
    def _quiet(self) -> Any:
        """The library's default dtype; its prints and warnings dropped."""
        before = torch.get_default_dtype()
        torch.set_default_dtype(self.dtype)
        try:
            with warnings.catch_warnings(record=True), contextlib.redirect_stdout(io.StringIO()), torch.no_grad():
                yield
        finally:
            torch.set_default_dtype(before)

    def _held(self, x: Tensor) -> Tensor:
        """A tensor of the graph `(batch, 1, *rest)` as torch's modules take it, `(batch, *rest)`."""
        return x.reshape(len(x), *x.shape[2:])

    def _masks(self, masks: Tensor) -> list[Tensor]:
        return [self._held(mask.to(self.dtype)) for mask in self.query.gates.expand(masks).values()]

    def bound(self, masks: Tensor) -> Tensor:
        """Margins by CROWN, all circuits in one call. Shapes: `(batch, components)` to `(batch,)`."""
        batch = len(masks)
        lower, upper = (x.expand(batch, *x.shape[1:]).contiguous() for x in (self.lower, self.upper))
        with self._quiet():
            ball = self.lirpa.PerturbationLpNorm(norm=float("inf"), x_L=lower, x_U=upper)
            x = self.lirpa.BoundedTensor((lower + upper) / 2, ball)
            low, high = self.bounded.compute_bounds(x=(x, *self._masks(masks)), method="backward")
        return self.tolerance - torch.maximum(-low, high).flatten(1).amax(1).double()
