"""Model and circuit side by side as one torch module, written in the operators that auto_LiRPA reads well.

Tensors are held without the model's own leading axis of length one, as torch has them: `(batch, *held)`. What no gate is
upstream of is computed once and read by both halves.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bounds.backends.base import BackendRefusal
from bounds.graph import Node
from bounds.ops import (
    Concat,
    Conv,
    Dense,
    LeakyRelu,
    Maximum,
    Reduce,
    Relu,
    Reshape,
    Scale,
    Sigmoid,
    Sum,
    Take,
    Tanh,
    Transpose,
)
from bounds.ops.base import Op, Shape
from bounds.query import Query

__all__ = ["Siamese", "held"]


def held(shape: Shape) -> Shape:
    """Axes under which a tensor of the graph is held, after the batch axis."""
    return shape[1:] if len(shape) > 1 and shape[0] == 1 else shape


class _TakeOp(torch.autograd.Function):
    """`x[:, index]` with zeros where the index is -1, seen by the library as one operator."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, index: Tensor) -> Tensor:  # pyright: ignore
        return torch.where(index >= 0, x.index_select(1, index.clamp_min(0)), 0.0)

    @staticmethod
    def symbolic(g: Any, x: Any, index: Any) -> Any:
        found = g.op("certify::Take", x, index)
        found.setType(x.type().with_sizes([None, index.type().sizes()[0]]))
        return found


class Siamese(nn.Module):
    """Forms of both outputs, from the input and one tensor of patch values for each gate in `patched`.

    Shapes: `x` `(batch, *held(input_shape))`; patch values `(batch, *held(shape))`; result `(batch, forms)`. `set_mask` states
    the circuit. Raises: BackendRefusal: an operator has no translation.
    """

    def __init__(self, query: Query) -> None:
        super().__init__()
        self.query = query
        graph = query.graph
        self._names: dict[str, int] = {}
        self.gated: dict[str, int] = {}
        self.patched: list[str] = []
        for i, gate in enumerate(query.gates.gates):
            if gate.tensor not in graph.node:
                raise BackendRefusal(f"lirpa: gate at {gate.tensor!r}, which no operator computes")
            shape = (1, *held(graph.shape(gate.tensor)))
            self.gated[gate.tensor] = i
            for kind in ("keep", "fixed", "free"):
                self.register_buffer(f"{kind}{i}", torch.zeros(shape, dtype=graph.dtype))
            if gate.source is None and bool((gate.patch.lower < gate.patch.upper).any()):
                self.patched.append(gate.tensor)
        self._differs = self._downstream()
        for node in graph.nodes:
            self._store(node)
        margins = query.margins
        self.circuit = _weight(margins.circuit.flatten(1))
        self.model = _weight(margins.model.flatten(1))
        self.offset = _weight(margins.offset)

    def set_mask(self, mask: Tensor) -> dict[str, Tensor]:
        """State one circuit. Shape: `(gates.size,)`. Returns what the mask buffers hold by name."""
        kept = self.query.gates.expand(mask.unsqueeze(0))
        values: dict[str, Tensor] = {}
        for name, i in self.gated.items():
            gate = self.query.gates.gates[i]
            patch, keep = gate.patch, kept[name][0]
            point = (patch.lower == patch.upper) & (gate.source is None)
            parts = {"keep": keep, "fixed": torch.where(~keep & point, patch.lower, 0.0), "free": ~keep & ~point}
            for kind, value in parts.items():
                buffer = self.get_buffer(f"{kind}{i}")
                values[f"{kind}{i}"] = buffer.copy_(value.reshape(buffer.shape))
        return values

    def _downstream(self) -> frozenset[str]:
        """Tensors that differ between the halves as their readers see them."""
        found: set[str] = set()
        for node in self.query.graph.nodes:
            if node.name in self.gated or found.intersection(node.inputs):
                found.add(node.name)
        return frozenset(found)

    def forward(self, x: Tensor, *patches: Tensor) -> Tensor:
        graph = self.query.graph
        model, circuit = {graph.input: x}, {graph.input: x}
        for node in graph.nodes:
            model[node.name] = self._apply_op(node, model)
        given = dict(zip(self.patched, patches, strict=True))
        given |= {name: model[source] for name, source in self.query.gates.sources.items()}
        for node in graph.nodes:
            y = model[node.name]
            if self._differs.intersection(node.inputs):
                y = self._apply_op(node, circuit)
            if node.name in self.gated:
                y = self._gate(node.name, y, given)
            circuit[node.name] = y
        shape = held(graph.shape(graph.output))
        ours, theirs = (_as(half[graph.output], shape, (math.prod(shape),)) for half in (circuit, model))
        return F.linear(ours, self.circuit, self.offset) + F.linear(theirs, self.model)

    def _gate(self, name: str, y: Tensor, given: Mapping[str, Tensor]) -> Tensor:
        i = self.gated[name]
        y = y * self.get_buffer(f"keep{i}") + self.get_buffer(f"fixed{i}")
        return y + given[name] * self.get_buffer(f"free{i}") if name in given else y

    # constants ---------------------------------------------------------------------------------------------------------------

    def _store(self, node: Node) -> None:
        """Hold a node's constants: weights as parameters, what is multiplied or picked by as buffers."""
        op, i = node.op, len(self._names)
        self._names[node.name] = i
        match op:
            case Dense() | Conv():
                weight = op.weight.unsqueeze(2) if isinstance(op, Conv) and len(op.space) == 1 else op.weight
                self.register_parameter(f"weight{i}", _weight(weight))
                self.register_parameter(f"bias{i}", None if op.bias is None else _weight(op.bias))
            case Scale():
                for kind, value in (("weight", op.weight), ("bias", op.bias)):
                    wide = None if value is None else value.expand(node.shape).reshape(1, *held(node.shape)).clone()
                    self.register_buffer(f"{kind}{i}", wide)
            case Take():
                fill = op.fill
                wide = None if fill is None else fill.expand(node.shape).reshape(1, *held(node.shape)).clone()
                self.register_buffer(f"bias{i}", wide)
                self.register_buffer(f"index{i}", op.index.flatten().clone())
            case Transpose():
                before = self.query.graph.shape(node.inputs[0])
                places = torch.arange(math.prod(before)).reshape(1, *before)
                self.register_buffer(f"index{i}", op.forward(places).flatten().clone())
            case _:
                return

    def _constant(self, kind: str, node: Node) -> Any:
        return getattr(self, f"{kind}{self._names[node.name]}")

    # operators ---------------------------------------------------------------------------------------------------------------

    def _apply_op(self, node: Node, values: Mapping[str, Tensor]) -> Tensor:
        graph, inputs = self.query.graph, [values[name] for name in node.inputs]
        x, before = inputs[0], graph.shape(node.inputs[0])
        match node.op:
            case Dense():
                rows = before[-1:] if math.prod(before) == before[-1] else held(before)
                y = F.linear(_as(x, held(before), rows), self._constant("weight", node), self._constant("bias", node))
                return _as(y, (*rows[:-1], node.shape[-1]), held(node.shape))
            case Conv():
                return self._convolve(node.op, node, x)
            case Scale():
                w, b = self._constant("weight", node), self._constant("bias", node)
                y = x if w is None else x * w
                return y if b is None else y + b
            case Take():
                y, b = self._take(node, x), self._constant("bias", node)
                return y if b is None else y + b
            case Maximum():
                return inputs[0] + inputs[1]
            case Sum(signs):
                total = inputs[0] if signs[0] > 0 else -inputs[0]
                for sign, other in zip(signs[1:], inputs[1:], strict=True):
                    total = total + other if sign > 0 else total - other
                return total
            case Concat(axis):
                parts = [_as(v, held(graph.shape(n)), graph.shape(n)) for v, n in zip(inputs, node.inputs, strict=True)]
                return _as(torch.cat(parts, axis + 1), node.shape, held(node.shape))
            case Reshape():
                return _as(x, held(before), held(node.shape))
            case Transpose():  # not by the library's own operator: after it, 0.3 fails on views of what is not contiguous
                return self._take(node, x)
            case Reduce(axes, _, mean):
                dims = [a + 1 for a in axes]
                full = _as(x, held(before), before)
                y = full.mean(dims, keepdim=True) if mean else full.sum(dims, keepdim=True)
                return _as(y, node.shape, held(node.shape))
            case Relu():
                return torch.relu(x)
            case LeakyRelu(slope) if 0 < slope < 1:
                return F.leaky_relu(x, slope)
            case Sigmoid():
                return torch.sigmoid(x)
            case Tanh():
                return torch.tanh(x)
            case op:
                raise BackendRefusal(f"lirpa: auto_LiRPA is not trusted with {_named(op)} (tensor {node.name!r})")

    def _take(self, node: Node, x: Tensor) -> Tensor:
        before = self.query.graph.shape(node.inputs[0])
        y: Any = _TakeOp.apply(_as(x, held(before), (math.prod(before),)), self._constant("index", node))
        return _as(y, (math.prod(node.shape),), held(node.shape))

    def _convolve(self, op: Conv, node: Node, x: Tensor) -> Tensor:
        before = self.query.graph.shape(node.inputs[0])
        if before[0] != 1:
            raise BackendRefusal(f"lirpa: convolution over a batch of its own (tensor {node.name!r})")
        if len(op.space) == 1:
            x = x.reshape(-1, *before[1:2], 1, *op.space)
            stride, padding, dilation = (1, *op.stride), (0, *op.padding), (1, *op.dilation)
        else:
            stride, padding, dilation = op.stride, op.padding, op.dilation
        weight, bias = self._constant("weight", node), self._constant("bias", node)
        y = F.conv2d(x, weight, bias, stride, padding, dilation, op.groups)
        return y.reshape(-1, *held(node.shape)) if len(op.space) == 1 else y


def _weight(value: Tensor) -> nn.Parameter:
    return nn.Parameter(value.detach().clone(), requires_grad=False)


def _named(op: Op) -> str:
    return f"{type(op).__name__}({op.slope})" if isinstance(op, LeakyRelu) else type(op).__name__


def _as(x: Tensor, before: Shape, after: Shape) -> Tensor:
    """`x` under another shape; nothing is traced where it is the same."""
    return x if before == after else x.reshape(-1, *after)
