"""Nodes of an ONNX graph that is being written, each named after its one result."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import helper, numpy_helper
from torch import Tensor

from specs.transformers.checkpoint import Norm

__all__ = ["Nodes"]


class Nodes:
    """What has been written so far. Methods take and return names of tensors; float constants are written as float32."""

    def __init__(self, epsilon: float) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self._epsilon = epsilon
        self._named: set[str] = set()

    def node(self, kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> str:
        self.nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        return name

    def constant(self, value: Tensor, name: str) -> str:
        """A constant; one that is there already keeps its value."""
        if name not in self._named:
            self._named.add(name)
            array = value.contiguous().numpy()
            array = array.astype(np.float32) if value.is_floating_point() else array
            self.constants.append(numpy_helper.from_array(array, name))
        return name

    def reshape(self, x: str, shape: Sequence[int], name: str) -> str:
        return self.node("Reshape", [x, self.constant(torch.tensor(shape), f"{name}.shape")], name)

    def gather(self, x: str, index: Tensor, axis: int, name: str) -> str:
        return self.node("Gather", [x, self.constant(index, f"{name}.index")], name, axis=axis)

    def linear(self, x: str, weight: Tensor, bias: Tensor | None, name: str, stem: str) -> str:
        """`x W + b`. Shapes: `weight` `(in, out)`."""
        product = self.constant(weight, f"{stem}.weight")
        if bias is None:
            return self.node("MatMul", [x, product], name)
        product = self.node("MatMul", [x, product], f"{name}.product")
        return self.node("Add", [product, self.constant(bias, f"{stem}.bias")], name)

    def capped(self, x: str, cap: float | None, name: str) -> str:
        """`cap tanh(x / cap)`; `x` itself without a cap."""
        if cap is None:
            return x
        size = self.constant(torch.tensor(cap), f"{name}.cap")
        bent = self.node("Tanh", [self.node("Div", [x, size], f"{name}.share")], f"{name}.bent")
        return self.node("Mul", [bent, size], name)

    def norm(self, x: str, kind: Norm | None, name: str, weight: Tensor | None, bias: Tensor | None, width: int) -> str:
        """A normalisation over the last axis, of `width` numbers, with TransformerLens's `NAME.hook_normalized`; `x` itself
        where `kind` is None. RMS's weight comes after the hook, that of LN before."""
        if kind is None:
            return x
        result = f"{name}.hook_normalized"
        if kind in ("LN", "LNPre"):
            ends = [self.constant(torch.ones(width) if weight is None else weight, f"{name}.w")]
            ends += [] if bias is None else [self.constant(bias, f"{name}.b")]
            return self.node("LayerNormalization", [x, *ends], result, axis=-1, epsilon=self._epsilon)
        square = self.node("Mul", [x, x], f"{name}.square")
        axes = self.constant(torch.tensor([-1]), f"{name}.axes")
        mean = self.node("ReduceMean", [square, axes], f"{name}.mean", keepdims=1)
        epsilon = self.constant(torch.tensor(self._epsilon), f"{name}.epsilon")
        scale = self.node("Sqrt", [self.node("Add", [mean, epsilon], f"{name}.shifted")], f"{name}.hook_scale")
        unit = self.node("Div", [x, scale], result)
        return unit if weight is None else self.node("Mul", [unit, self.constant(weight, f"{name}.w")], f"{name}.weighted")
