"""Models read by the checker: an ONNX file as steps over flat float64 vectors. Trusted base.

What an affine operator computes is asked of ONNX's own reference evaluator: run in float64 on unit vectors it gives its matrix,
entry by entry and exactly, as all other products are with 0. Constants that a file states in parts (batch normalisation,
divisors, `alpha * W`) are folded in float64: the model is the function of those. A maximum of several is read as ReLUs, by
`max(a, b) = a + max(b - a, 0)`; some other operators as `_RECIPES` says. The rest is refused by name.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import os
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from verify.check.interval import Rejected
from verify.check.operators import Affine, Curve, Product, Relu, Softmax
from verify.check.program import Program, Step

__all__ = ["read_program"]

MAX_BYTES, MAX_ENTRIES = 2**31, 2**27

_SAME = {"Add", "Sub", "Mul", "Div", "BatchNormalization", "Identity", "Dropout", "Cast", "Where", "Neg"}
_CURVES = ("Tanh", "Sigmoid", "Erf", "Exp", "Sqrt", "Reciprocal")
_MATRIX = {"Gemm", "MatMul", "Conv", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Pad", "Expand"} | _SAME
_MOVED = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather"}
_RECIPES = {
    "Div": "c = Reciprocal w; y = Mul x c",
    "Pow 2": "y = Mul x x",
    "Pow 3": "c = Mul x x; y = Mul c x",
    "Pow 0.5": "y = Sqrt x",
    "Gelu none": f"c = Mul x {0.5**0.5!r}; d = Erf c; e = Add d 1; f = Mul x e; y = Mul f 0.5",
    "Gelu tanh": f"c = Mul x x; d = Mul c x; e = Mul d 0.044715; f = Add x e; g = Mul f {(2 / math.pi) ** 0.5!r}; h = Tanh g; "
    "i = Add h 1; j = Mul x i; y = Mul j 0.5",
    "LayerNormalization": "c = MatMul x mean; d = Sub x c; e = Mul d d; f = MatMul e mean; g = Add f epsilon; h = Sqrt g; "
    "i = Reciprocal h; j = Mul d i; k = Mul j w; y = Add k b",
}
"""Operators as steps of others: x, w and b are what they read, y what they compute; `mean` averages the last axis."""


def read_program(path: Path) -> Program:
    """Read a model. Raises: Rejected: no such file, not ONNX, or something in it that the checker does not read."""
    if not os.path.isfile(path):
        raise Rejected(f"model {str(path)[:200]!r} is no file")
    try:
        with open(path, "rb") as stream:
            content = stream.read(MAX_BYTES)
        proto = onnx.load_model_from_string(content)
    except OSError as error:
        raise Rejected(f"model {path} cannot be read ({error.strerror})") from None
    except Exception as error:  # protobuf's own classes differ between versions
        raise Rejected(f"model {path} is no ONNX file ({str(error)[:120]})") from None
    if any(t.data_location == onnx.TensorProto.EXTERNAL for t in proto.graph.initializer):
        raise Rejected("weights in files of their own are not read by the checker")
    return _read(content)


@lru_cache(maxsize=1)
def _read(content: bytes) -> Program:
    """The program of a file's bytes; the last one is kept, as a suite checks many claims about one model. Nobody changes it."""
    return _Reader(onnx.load_model_from_string(content)).read(hashlib.sha256(content).hexdigest())


class _Reader:
    """From nodes to steps. `constants` holds what does not depend on the input."""

    def __init__(self, proto: onnx.ModelProto) -> None:
        graph = proto.graph
        self.proto = proto
        self.opset = max((i.version for i in proto.opset_import if i.domain in ("", "ai.onnx")), default=0)
        self.constants: dict[str, NDArray[Any]] = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
        inputs = [i for i in graph.input if i.name not in self.constants]
        if len(inputs) != 1 or len(graph.output) != 1 or proto.functions or self.opset < 7:
            raise Rejected("the checker reads models of one input and one output, without functions, of opset 7 or later")
        self.input, kind = inputs[0].name, inputs[0].type.tensor_type
        dims = [d.dim_value if d.dim_value > 0 else 0 for d in kind.shape.dim]
        shape = tuple(1 if i == 0 and not d else d for i, d in enumerate(dims))
        self.dtype: Any = helper.tensor_dtype_to_np_dtype(kind.elem_type)
        self.numbers: Any = None
        if self.dtype.kind == "i":
            tables = [self.constants.get(node.input[0]) for node in graph.node if self.input in node.input]
            if not tables or tables[0] is None or tables[0].ndim != 2:
                raise Rejected("the checker reads numbers of tokens that rows of a stored table are gathered by, and no others")
            self.numbers, self.dtype, shape = self.dtype, tables[0].dtype, (*shape, len(tables[0]))
        if 0 in shape or np.prod(shape, dtype=np.float64) > MAX_ENTRIES or self.dtype.name not in ("float32", "float64"):
            raise Rejected("the checker reads inputs of fixed shape, in float32 or float64")
        self.shapes, self.axes = {self.input: shape}, dict[str, int | None]({self.input: None})
        self.steps: dict[str, Step] = {}
        self.masked: dict[str, NDArray[np.bool_]] = {}
        self.folded = False

    def read(self, sha256: str) -> Program:
        graph, name = self.proto.graph, self.proto.graph.output[0].name
        producers = {out: node for node in graph.node for out in node.output}
        output = name
        while name in producers and producers[name].op_type == "Identity":
            name = producers[name].input[0]
        if name in producers and producers[name].op_type in ("Softmax", "LogSoftmax") and not producers[name].domain:
            output = producers[name].input[0]
        wanted = {output}
        for node in reversed(graph.node):
            wanted |= set(node.input) if wanted & set(node.output) else set()
        for node in graph.node:
            if wanted & set(node.output):
                self._node(node)
        if output not in self.steps:
            raise Rejected("the output does not depend on the input")
        shape = self.shapes[self.input]
        return Program(self.input, shape, self.dtype, self.steps, output, self.proto, sha256, self.folded, self.numbers)

    def _node(self, node: onnx.NodeProto) -> None:
        given = [name for name in node.input if name]
        varying = [name for name in given if name not in self.constants]
        kind = node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"
        if any(a.HasField("g") or a.graphs for a in node.attribute) or len(set(node.output)) != len(node.output):
            raise Rejected(f"node {node.name!r} ({kind}) is not one that the checker reads")
        if not varying or (kind == "Shape" and varying[0] in self.shapes):
            found = self._run(node, {name: np.zeros(self.shapes[name], np.float32) for name in varying})
            self.constants.update(zip([name for name in node.output if name], found, strict=True))
            return
        missing = [name for name in varying if name not in self.shapes]
        out, x = node.output[0], varying[0]
        if missing or out in self.shapes or out in self.constants:
            raise Rejected(f"node {node.name!r} ({kind}): tensors out of order, or assigned twice")
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        shapes, axis = [self.shapes[name] for name in varying], self.axes[x]
        if self.numbers is not None and self.input in varying:
            table, rows = self.constants.get(node.input[0]), shapes[-1][-1]
            if kind != "Gather" or attributes.get("axis", 0) or table is None or table.shape != (rows, table.size // rows):
                raise Rejected(f"node {node.name!r} ({kind}) does more than gather rows for numbers of tokens")
            kind, node = "MatMul", helper.make_node("MatMul", [self.input, node.input[0]], [out], node.name)
        if any(name in self.masked for name in varying) and kind != "Softmax":
            raise Rejected(f"node {node.name!r} ({kind}) reads infinite numbers")
        if kind in ("Relu", "LeakyRelu") and len(given) == 1:
            slope = float(attributes.get("alpha", 0.01)) if kind == "LeakyRelu" else 0.0
            if not 0 <= slope <= 1:
                raise Rejected(f"node {node.name!r}: LeakyRelu of slope {slope}")
            self._add(Step(out, Relu(slope), (x,), shapes[0], axis))
        elif kind in _CURVES and len(given) == 1:
            self._add(Step(out, Curve(cast(Any, kind)), (x,), shapes[0], axis))
        elif kind == "Softmax" and (self.opset >= 13 or attributes.get("axis", 1) in (-1, len(shapes[0]) - 1)):
            along = attributes.get("axis", -1) % len(shapes[0])
            masked = self.masked.get(x, np.zeros(shapes[0], bool))
            if masked.all(along).any():
                raise Rejected(f"node {node.name!r}: a softmax of infinite numbers alone")
            self._add(Step(out, Softmax(shapes[0], along, masked), (x,), shapes[0], axis))
        elif kind == "Concat" or (kind in ("Add", "Sub") and len(varying) > 1):
            self._merged(node, out, varying)
        elif kind in ("Mul", "MatMul") and len(varying) == 2 and min(map(len, shapes)) > 1:
            product = Product((shapes[0], shapes[1]), kind == "MatMul")
            shape = (np.matmul if product.matrix else np.multiply)(*map(np.zeros, shapes)).shape
            self._add(Step(out, product, tuple(varying), shape, axis if shape == shapes[0] else None))
        elif kind == "MaxPool" and len(node.output) == 1 and shapes[0][0] == 1 and len(shapes[0]) > 2:
            self._maxima(node, out, x)
        elif len(varying) == 1 and kind in _MOVED | _MATRIX and self._plain(node, kind, attributes, x):
            self._affine(node, kind, out, x)
        elif recipe := self._recipe(node, kind, attributes):
            for part in recipe:
                self._node(part)
        else:
            raise Rejected(f"node {node.name!r}: the checker does not read operator {kind}, or not this use of it")

    def _plain(self, node: onnx.NodeProto, kind: str, attributes: dict[str, Any], x: str) -> bool:
        """Whether the node is affine in its one varying operand, and in inference mode."""
        first = {"Div", "Conv", "BatchNormalization", "Dropout", "Reshape", "Pad", "Expand", "Slice", "Gather"}
        training = kind == "Dropout" and len(node.input) > 2 and bool(self.constants.get(node.input[2], np.array(0)).any())
        to_float = kind != "Cast" or attributes["to"] in (onnx.TensorProto.FLOAT, onnx.TensorProto.DOUBLE)
        inference = not training and not attributes.get("training_mode", 0) and (kind != "Where" or node.input[0] != x)
        return (kind not in first or node.input[0] == x) and list(node.input).count(x) == 1 and to_float and inference

    def _affine(self, node: onnx.NodeProto, kind: str, out: str, x: str) -> None:
        """Enter an affine node as it was found to be; at a random point it must then do what ONNX's reference does."""
        self.folded |= kind in ("BatchNormalization", "Cast")
        self._probed(node, kind, out, x)
        at = np.random.default_rng(0).uniform(-1, 1, self.shapes[x])
        op, said = self.steps[out].op, self._run(node, {x: at})[0].ravel()
        ours, there = op.forward(at.ravel()) + op.bias if isinstance(op, Affine) else said, ~np.isneginf(said)
        masked = self.masked.get(out, np.zeros(1, bool)).ravel()
        atol = 1e-9 * (1 + np.abs(said[there]).max(initial=0.0))
        if (masked == there).any() or not np.allclose(ours[there], said[there], rtol=1e-9, atol=atol):
            raise Rejected(f"node {node.name!r} ({kind}) is not affine as the checker reads it")

    def _merged(self, node: onnx.NodeProto, out: str, varying: list[str]) -> None:
        """Enter a node that puts each element of its operands, or its negative, into some places of a sum."""
        probe = onnx.NodeProto()
        probe.CopyFrom(node)
        for i, at in enumerate(k for k, name in enumerate(node.input) if name in varying):
            probe.input[at] = f"#{i}"  # one tensor may be read twice
        zeros = {f"#{i}": np.zeros(self.shapes[x]) for i, x in enumerate(varying)}
        bias, factors = self._run(probe, zeros)[0], list[NDArray[Any]]()
        for i, x in enumerate(varying):
            n = math.prod(self.shapes[x])
            counted = np.arange(1.0, n + 1)
            found = (self._run(probe, zeros | {f"#{i}": counted.reshape(self.shapes[x])})[0] - bias).ravel()
            if np.array_equal(np.abs(found), counted):
                factors.append(np.sign(found))
            elif n * found.size > MAX_ENTRIES:
                raise Rejected(f"node {node.name!r}: a tensor of {n} elements among {found.size} is too large for the checker")
            else:
                factors.append((np.abs(found)[:, None] == counted) * np.sign(found)[:, None])
        same = len({(self.axes[x], self.shapes[x]) for x in varying}) == 1 and bias.shape == self.shapes[varying[0]]
        axis = self.axes[varying[0]] if same else None
        self._add(Step(out, Affine(tuple(factors), bias.ravel()), tuple(varying), bias.shape, axis))

    def _recipe(self, node: onnx.NodeProto, kind: str, attributes: dict[str, Any]) -> list[onnx.NodeProto]:
        """A node as several others, or none where there is no recipe for it."""
        out, x = node.output[0], node.input[0]
        width = self.shapes[x][-1] if x in self.shapes else 1
        constant = self.constants.get(node.input[1]) if kind == "Pow" else None
        if kind == "Pow":
            kind = f"Pow {constant.item():g}" if constant is not None and constant.size == 1 else kind
        elif kind == "Gelu":
            kind = f"Gelu {attributes.get('approximate', b'none').decode()}"
        elif kind == "LayerNormalization" and attributes.get("axis", -1) not in (-1, len(self.shapes[x]) - 1):
            return []
        given = {"mean": np.full((width, 1), 1 / width), "epsilon": attributes.get("epsilon", 1e-5), "w": 1.0, "b": 0.0}
        names = {key: name for key, name in zip("xwb", node.input, strict=False) if name} | {"y": out}
        found: list[onnx.NodeProto] = []
        for result, (part, *operands) in ((left, right.split()) for left, _, right in _steps(_RECIPES.get(kind, ""))):
            for key in (result, *operands):
                if key not in names:
                    names[key] = f"{out}#{key}"
                    if names[key] in self.constants:
                        raise Rejected(f"tensor {out!r}: a name that it needs is taken")
                    if key in given or not key.isalpha():
                        self.constants[names[key]] = np.asarray(given.get(key, key), np.float64)
            found.append(helper.make_node(part, [names[key] for key in operands], [names[result]], node.name))
        self.folded |= bool(found)
        return found

    def _probed(self, node: onnx.NodeProto, kind: str, out: str, x: str) -> None:
        before = self.shapes[x]
        n = int(np.prod(before))
        zero = self._run(node, {x: np.zeros(before)})[0]
        shape, bias = zero.shape, zero.ravel()
        if kind in _MOVED:
            index = self._run(node, {x: np.arange(n).reshape(before)})[0].ravel()
            if len(np.unique(index)) == len(index):
                self._add(Step(out, Affine((np.ones(n),), np.zeros(len(index)), index), (x,), shape, None))
                return
        if kind in _SAME and shape == before:
            if kind in ("Mul", "Div", "Neg"):
                factor = self._run(node, {x: np.ones(before)})[0].ravel()
            elif kind == "BatchNormalization":
                none = {name: np.zeros_like(self.constants[name], np.float64) for name in node.input[2:4]}
                factor = self._run(node, {x: np.ones(before), **none})[0].ravel()
            elif kind == "Where":
                factor = (self._run(node, {x: np.ones(before)})[0].ravel() != bias) * 1.0
            else:
                factor = np.full(n, -1.0 if kind == "Sub" and node.input[1] == x else 1.0)
            self._add(Step(out, Affine((factor,), bias), (x,), shape, self.axes[x]))
            return
        if n * max(n, len(bias)) > MAX_ENTRIES:
            raise Rejected(f"node {node.name!r} ({kind}): a matrix of {len(bias)} x {n} is too large for the checker")
        # What is added is left out, so that every entry is a stored weight and no rounded sum.
        added = {"Gemm": node.input[2:], "Conv": node.input[2:], "Add": node.input, "Sub": node.input}.get(kind, ())
        none = {name: np.zeros_like(self.constants[name], np.float64) for name in added if name and name != x}
        units = np.eye(n).reshape(n, *before)
        if before[0] == 1:
            columns = self._run(node, {x: units.reshape(n, *before[1:]), **none})[0].reshape(n, -1)
        else:
            columns = np.stack([self._run(node, {x: unit, **none})[0].ravel() for unit in units])
        if kind == "Pad":
            columns = columns - bias
        channels = 1 if kind in ("Conv", "AveragePool", "GlobalAveragePool") else None
        self._add(Step(out, Affine((np.ascontiguousarray(columns.T),), bias), (x,), shape, channels))

    def _maxima(self, node: onnx.NodeProto, out: str, x: str) -> None:
        """Enter a pooling as maxima of pairs, round by round. Which elements a window holds is asked of ONNX's reference, one
        channel for all; at a random point all must then be as it says."""
        before = self.shapes[x]
        channels, n = before[1], int(np.prod(before[2:]))
        if n * n > MAX_ENTRIES:
            raise Rejected(f"node {node.name!r} (MaxPool): {n} elements a channel are too many for the checker")
        inside = self._run(node, {x: np.eye(n).reshape(n, 1, *before[2:])})[0].reshape(n, -1).T > 0
        width = int(inside.sum(1).max())
        # Each window's elements, the last one repeated where it has fewer than others.
        found = [np.flatnonzero(row) for row in inside if row.any()]
        each = np.stack([np.pad(row, (0, width - len(row)), mode="edge") for row in found]) if found else np.zeros((0, 0))
        rows: NDArray[Any] = (each + n * np.arange(channels)[:, None, None]).reshape(-1, width).T.astype(np.int64)
        at = np.random.default_rng(0).uniform(-1, 1, before)
        said = self._run(node, {x: at})[0]
        if width < 2 or rows.shape[1] != said.size or not (at.ravel()[rows].max(0) == said.ravel()).all():
            raise Rejected(f"node {node.name!r} (MaxPool) is not what the checker reads it as")
        stack, spare, numbers = x, list[tuple[str, NDArray[Any]]](), itertools.count()
        while len(rows) > 1 or spare:
            half = len(rows) // 2
            if len(rows) > 1 and len(rows) % 2:
                spare.append((stack, rows[-1]))
            if half:
                a, b = (stack, rows[:half]), (stack, rows[half : 2 * half])
            else:
                a, b = (stack, rows[0]), spare.pop(0)
            last = half <= 1 and not spare
            stack = self._larger(a, b, out, next(numbers), said.shape if last else None, self.axes[x])
            rows = np.arange(a[1].size).reshape(-1, said.size)

    def _larger(
        self,
        a: tuple[str, NDArray[Any]],
        b: tuple[str, NDArray[Any]],
        out: str,
        number: int,
        shape: tuple[int, ...] | None,
        axis: int | None,
    ) -> str:
        """Enter `max(a, b) = b + max(a - b, 0)` of elements of two tensors (maybe one and the same). Returns its name."""
        size, sources = a[1].size, list(dict.fromkeys((a[0], b[0])))
        gap, over, name = (f"{out}#{tag}{number}" for tag in ("gap", "relu", "max"))
        name = name if shape is None else out
        held = [int(np.prod(self.shapes[source])) for source in sources]
        if {gap, over, name} & (set(self.shapes) | set(self.constants)) or size * sum(held) > MAX_ENTRIES:
            raise Rejected(f"tensor {out!r}: a maximum too large for the checker, or names that it needs are taken")
        apart = [np.zeros((size, n)) for n in held]
        np.add.at(apart[sources.index(a[0])], (np.arange(size), a[1].ravel()), 1.0)
        np.add.at(apart[sources.index(b[0])], (np.arange(size), b[1].ravel()), -1.0)
        taken = np.zeros((size, int(np.prod(self.shapes[b[0]]))))
        taken[np.arange(size), b[1].ravel()] = 1.0
        self._add(Step(gap, Affine(tuple(apart), np.zeros(size)), tuple(sources), (size,), None))
        self._add(Step(over, Relu(0.0), (gap,), (size,), None))
        plus = Affine((taken, np.ones(size)), np.zeros(size))
        self._add(Step(name, plus, (b[0], over), shape or (size,), None if shape is None else axis))
        return name

    def _run(self, node: onnx.NodeProto, feeds: dict[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """The node's results, constants in float64, or as they are where nothing varies."""
        varies = bool(feeds) and node.op_type != "Shape"
        for name in node.input:
            if name and name not in feeds:
                value = self.constants[name]
                feeds = {**feeds, name: value.astype(np.float64) if varies and value.dtype.kind == "f" else value}
        values = [onnx.ValueInfoProto(name=name) for name in feeds], [onnx.ValueInfoProto(name=n) for n in node.output if n]
        try:
            graph = helper.make_graph([node], "one", *values)
            with np.errstate(all="ignore"):  # what is not finite is refused below
                found: Any = ReferenceEvaluator(graph, opsets={"": self.opset}).run(None, feeds)
        except Exception as error:  # whatever the reference raises, the node cannot be followed
            raise Rejected(f"node {node.name!r} ({node.op_type}) cannot be evaluated ({str(error)[:120]})") from None
        arrays = [np.asarray(value) for value in found]
        if any(value.dtype.kind == "f" and value.dtype != np.float64 for value in arrays) and varies:
            raise Rejected(f"node {node.name!r} ({node.op_type}) is not evaluated in float64")
        return arrays

    def _add(self, step: Step) -> None:
        op = step.op
        if isinstance(op, Affine):
            if (masked := np.isneginf(op.bias)).any():
                self.masked[step.name] = masked.reshape(step.shape)
                op = Affine(op.factors, np.where(masked, 0.0, op.bias), op.index)
            if not all(np.isfinite(f).all() for f in (*op.factors, op.bias)):
                raise Rejected(f"tensor {step.name!r}: a weight that is not finite")
        self.steps[step.name] = replace(step, op=op)
        self.shapes[step.name], self.axes[step.name] = step.shape, step.axis


def _steps(recipe: str) -> list[tuple[str, str, str]]:
    return [step.partition(" = ") for step in recipe.split("; ") if step]
