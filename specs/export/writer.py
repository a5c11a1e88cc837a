"""An ONNX graph under construction, from the few operators that every verifier reads."""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from bounds.ops.base import Shape

__all__ = ["INPUT", "OUTPUT", "Writer", "WriterError"]

INPUT, OUTPUT = "X", "Y"

_OPSET, _IR = 13, 8

_DENSE = 1 << 22
"""Entries up to which elements are picked by a matrix of zeros and ones: all verifiers read it, not all read Slice, Gather or a
product with anything but one number."""


class WriterError(ValueError):
    """What cannot be written as ONNX. `place` names the tensor, `found` and `needed` say what is wrong with it."""

    def __init__(self, place: str, found: str, needed: str) -> None:
        super().__init__(f"{place}: {found}; {needed}")
        self.place, self.found, self.needed = place, found, needed


class Writer:
    """One input `X` of shape `(1, inputs)`, one output `Y`; float32. Tensors have the shapes of a `bounds.graph.Graph`, without
    its batch axis.

    `rounded` names the first tensor made with a constant that float32 cannot hold. Methods that take `name` give the name of
    the tensor that they make, which is `name` or like it, or that of a tensor that holds the same already.
    """

    def __init__(self, inputs: int) -> None:
        self.rounded: str | None = None
        self._nodes: list[onnx.NodeProto] = []
        self._initializers: dict[str, onnx.TensorProto] = {}
        self._known: dict[tuple[str, Shape, bytes], str] = {}
        self._shapes: dict[str, Shape] = {INPUT: (1, inputs)}
        self._flat: dict[str, str] = {}

    def shape(self, x: str) -> Shape:
        """Shape of a tensor made here."""
        return self._shapes[x]

    def number(self, value: float, place: str) -> float:
        """A float for an attribute. Raises: WriterError: as `constant`."""
        self._judge(torch.tensor(value, dtype=torch.float64), place)
        return value

    def constant(self, value: Tensor, place: str) -> str:
        """An initializer: floats as float32, integers as int64; equal ones are one. Raises: WriterError: NaN, infinite or too
        large for float32."""
        if value.is_floating_point():
            self._judge(value, place)
            array = value.detach().cpu().float().numpy()
        else:
            array = value.detach().cpu().long().numpy()
        array = np.ascontiguousarray(array).reshape(tuple(value.shape))
        key = (str(array.dtype), tuple(value.shape), hashlib.sha256(array.tobytes()).digest())
        if key not in self._known:
            name = f"constant_{len(self._known)}"
            self._known[key] = name
            self._initializers[name] = numpy_helper.from_array(array, name)
        return self._known[key]

    def node(self, kind: str, inputs: Sequence[str], name: str, shape: Shape, **attributes: Any) -> str:
        """One ONNX operator with one result."""
        name = self._fresh(name)
        self._nodes.append(helper.make_node(kind, list(inputs), [name], name=name, **attributes))
        self._shapes[name] = shape
        return name

    # shapes ------------------------------------------------------------------------------------------------------------------

    def flat(self, x: str) -> str:
        """All elements in row-major order. Shape: `(1, size)`."""
        shape = self._shapes[x]
        if len(shape) == 2 and shape[0] == 1:
            return x
        if x not in self._flat:
            size = math.prod(shape)
            if len(shape) > 2 and shape[0] == 1:
                self._flat[x] = self.node("Flatten", [x], f"{x}_flat", (1, size), axis=1)
            else:
                self._flat[x] = self._reshape(x, (1, size), f"{x}_flat")
        return self._flat[x]

    def shaped(self, x: str, shape: Shape, name: str) -> str:
        """The same elements in another shape of that size."""
        if self._shapes[x] == shape:
            return x
        if len(shape) == 2 and shape[0] == 1:
            return self.flat(x)
        made = self._reshape(x, shape, name)
        self._flat[made] = self.flat(x)
        return made

    def _reshape(self, x: str, shape: Shape, name: str) -> str:
        # A leading 1 is written -1, as for a batch axis of any length: some verifiers run batches through.
        target = [-1, *shape[1:]] if shape[:1] == (1,) and 0 not in shape else list(shape)
        return self.node("Reshape", [x, self.constant(torch.tensor(target, dtype=torch.long), name)], name, shape)

    # affine ------------------------------------------------------------------------------------------------------------------

    def linear(self, x: str, weight: Tensor, bias: Tensor | None, name: str) -> str:
        """`x W^T + b` over the last axis. Shapes: `weight` `(out, in)`, `bias` `(out,)`."""
        shape = (*self._shapes[x][:-1], weight.shape[0])
        if bias is not None and len(shape) == 2:
            constants = [self.constant(weight, name), self.constant(bias, name)]
            return self.node("Gemm", [x, *constants], name, shape, alpha=1.0, beta=1.0, transA=0, transB=1)
        product = name if bias is None else f"{name}_product"
        y = self.node("MatMul", [x, self.constant(weight.T, name)], product, shape)
        return y if bias is None else self.node("Add", [y, self.constant(bias, name)], name, shape)

    def scale(self, x: str, weight: Tensor | None, bias: Tensor | None, name: str) -> str:
        """`w x + b`, elementwise; either may be None. Shapes: both broadcast to that of `x`."""
        shape = self._shapes[x]
        if weight is not None:
            x = self.node("Mul", [x, self.constant(weight, name)], name if bias is None else f"{name}_product", shape)
        return x if bias is None else self.node("Add", [x, self.constant(bias, name)], name, shape)

    def add(self, a: str, b: str, name: str) -> str:
        """`a + b`, of one shape."""
        return self.node("Add", [a, b], name, self._shapes[a])

    def take(self, x: str, index: Tensor, fill: Tensor | None, name: str) -> str:
        """Elements of `x` by their flat positions, 0 at -1; plus `fill`. Shapes: `index` (long) that of the result."""
        shape, flat = tuple(index.shape), self.flat(x)
        size, wanted = self._shapes[flat][1], index.flatten()
        count = wanted.numel()
        if fill is None and torch.equal(wanted, torch.arange(size)):
            return self.shaped(flat, shape, name)
        if size * count <= _DENSE:
            matrix = torch.zeros((count, size), dtype=torch.float64)
            present = (wanted >= 0).nonzero().squeeze(1)
            matrix[present, wanted[present]] = 1
            bias = None if fill is None else fill.expand(shape).flatten()
            return self.shaped(self.linear(flat, matrix, bias, f"{name}_picked"), shape, name)
        picked = self._picked(flat, wanted, name)
        absent = (wanted < 0).reshape(1, -1)
        keep = (~absent).double() if bool(absent.any()) else None
        bias = None if fill is None else fill.expand(shape).reshape(1, -1)
        return self.shaped(self.scale(picked, keep, bias, f"{name}_filled"), shape, name)

    def _picked(self, flat: str, index: Tensor, name: str) -> str:
        """As `take`, with any element where `index` is -1."""
        count, first = index.numel(), int(index[0])
        if first >= 0 and torch.equal(index, torch.arange(first, first + count)):
            given = [self.constant(torch.tensor([n]), name) for n in (first, first + count, 1)]  # start, end, axis
            return self.node("Slice", [flat, *given], f"{name}_slice", (1, count))
        where = self.constant(index.clamp_min(0), name)
        return self.node("Gather", [flat, where], f"{name}_gather", (1, count), axis=1)

    def masked(self, x: str, keep: Tensor, fill: Tensor | None, name: str) -> str:
        """`x` where `keep`, 0 elsewhere; plus `fill`. Shapes: all that of `x`."""
        shape = self._shapes[x]
        if len(shape) == 2 and shape[0] == 1 and shape[1] ** 2 <= _DENSE:
            return self.take(x, torch.where(keep, torch.arange(shape[1]), -1), fill, name)
        if len(shape) == 4 and shape[0] == 1 and _by_channel(keep) and (fill is None or _by_channel(fill)):
            weight = torch.diag(keep[0, :, 0, 0].double()).reshape(shape[1], shape[1], 1, 1)
            bias = [] if fill is None else [self.constant(fill[0, :, 0, 0], name)]
            whole = {"kernel_shape": [1, 1], "strides": [1, 1], "pads": [0, 0, 0, 0], "dilations": [1, 1], "group": 1}
            return self.node("Conv", [x, self.constant(weight, name), *bias], name, shape, **whole)
        return self.scale(x, keep.double(), fill, name)

    # the end -----------------------------------------------------------------------------------------------------------------

    def model(self, output: str) -> onnx.ModelProto:
        """The graph as far as `output`, a tensor of shape `(1, outputs)` called `Y`, needs it."""
        assert output == OUTPUT, "the last tensor made must be called Y"
        needed, nodes = {output}, list[onnx.NodeProto]()
        for node in reversed(self._nodes):
            if node.output[0] in needed:
                nodes.append(node)
                needed.update(node.input)
        ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, self._shapes[name]) for name in (INPUT, output)]
        constants = [tensor for name, tensor in self._initializers.items() if name in needed]
        graph = helper.make_graph(nodes[::-1], "certify", ends[:1], ends[1:], constants)
        opset = helper.make_opsetid("", _OPSET)
        return helper.make_model(graph, producer_name="certify", opset_imports=[opset], ir_version=_IR)

    def _fresh(self, name: str) -> str:
        """A name of letters, digits and underscores that is not taken."""
        plain = re.sub(r"[^A-Za-z0-9_]", "_", name)
        found, number = plain, 1
        while found in self._shapes:
            number += 1
            found = f"{plain}_{number}"
        return found

    def _judge(self, value: Tensor, place: str) -> None:
        rounded = value.float()
        if not bool(rounded.isfinite().all()):
            worst = float(value[~rounded.isfinite()].flatten()[0])
            raise WriterError(f"tensor {place!r}", f"a constant of {worst:g}", "numbers that float32 can hold")
        if self.rounded is None and not torch.equal(rounded.to(value.dtype), value):
            self.rounded = place


def _by_channel(value: Tensor) -> bool:
    """Whether a tensor holds one value a channel. Shape: `(1, channels, height, width)`."""
    return bool((value == value[:, :, :1, :1]).all())
