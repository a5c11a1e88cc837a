"""Models read by the checker: an ONNX file as steps over flat float64 vectors. Trusted base.

What an affine operator computes is asked of ONNX's own reference evaluator: run in float64 on unit vectors it gives its matrix,
entry by entry and exactly, as all other products are with 0. Constants that a file states in parts (batch normalisation,
divisors, `alpha * W`) are folded in float64: the model is the function of those. A maximum of several is read as ReLUs, by
`max(a, b) = b + max(a - b, 0)`, and some other operators as `recipe` says. The rest is refused by name.
"""

from __future__ import annotations

import hashlib
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
from verify.check.recipe import pooled, recipe

__all__ = ["read_program"]

MAX_BYTES, MAX_ENTRIES = 2**31, 2**27

_SAME = {"Add", "Sub", "Mul", "Div", "BatchNormalization", "Identity", "Dropout", "Cast", "Where", "Neg"}
_CURVES = ("Tanh", "Sigmoid", "Erf", "Exp", "Sqrt", "Reciprocal")
_MATRIX = {"Gemm", "MatMul", "Conv", "AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Pad", "Expand"} | _SAME
_MOVED = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Gather"}


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
        if not varying or (
            kind == "Shape" and varying[0] in self.shapes and (self.numbers is None or varying[0] != self.input)
        ):
            found = self._run(node, {name: np.zeros(self.shapes[name], np.float32) for name in varying})
            self.constants.update(zip([name for name in node.output if name], found, strict=True))
            return
        out, x = node.output[0], varying[0]
        if not self.shapes.keys() >= set(varying) or out in self.shapes or out in self.constants:
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
        elif (cooked := recipe(kind, attributes, shapes[0], self.constants.get(given[-1])))[0]:
            self.folded = True
            self._cooked(node, *cooked)
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

    def _cooked(self, node: onnx.NodeProto, text: str, given: dict[str, Any]) -> None:
        """Enter the steps of a recipe. Tensors between are called after the node's result."""
        out = node.output[0]
        names = {key: name for key, name in zip("xwb", node.input, strict=False) if name} | {"y": out}
        for line in text.split("; "):
            result, _, kind, *operands = line.split()
            for key in (result, *operands):
                if key not in names:
                    names[key] = f"{out}#{key}"
                    if names[key] in self.constants or names[key] in self.shapes:
                        raise Rejected(f"tensor {out!r}: a name that it needs is taken")
                    if key in given or not key[0].isalpha():
                        value = np.asarray(given.get(key, key))
                        self.constants[names[key]] = value if value.dtype.kind == "i" else value.astype(np.float64)
            self._node(helper.make_node(kind, [names[key] for key in operands], [names[result]], node.name))

    def _probed(self, node: onnx.NodeProto, kind: str, out: str, x: str) -> None:
        before, n = self.shapes[x], math.prod(self.shapes[x])
        zero = self._run(node, {x: np.zeros(before)})[0]
        shape, bias = zero.shape, zero.ravel()
        if kind in _MOVED:
            index = self._run(node, {x: np.arange(n).reshape(before)})[0].ravel()
            if len(np.unique(index)) == len(index):
                self._add(Step(out, Affine((np.ones(n),), np.zeros(len(index)), index), (x,), shape, None))
                return
        # What is added is left out, so that every entry is a stored weight and no rounded sum.
        added = {"Gemm": (2,), "Conv": (2,), "BatchNormalization": (2, 3), "Add": (0, 1), "Sub": (0, 1), "Where": (1, 2)}
        probe, none = onnx.NodeProto(), dict[str, NDArray[Any]]()
        probe.CopyFrom(node)
        for k in (k for k in added.get(kind, ()) if k < len(node.input) and node.input[k] not in ("", x)):
            probe.input[k] = f"#{k}"  # the same constant may be read elsewhere too
            none[f"#{k}"] = np.zeros_like(self.constants[node.input[k]], np.float64)
        if kind in _SAME and shape == before:
            factor = self._run(probe, {x: np.ones(before), **none})[0].ravel()
            self._add(Step(out, Affine((factor,), bias), (x,), shape, self.axes[x]))
            return
        if n * max(n, len(bias)) > MAX_ENTRIES:
            raise Rejected(f"node {node.name!r} ({kind}): a matrix of {len(bias)} x {n} is too large for the checker")
        units = np.eye(n).reshape(n, *before)
        if before[0] == 1:
            columns = self._run(probe, {x: units.reshape(n, *before[1:]), **none})[0].reshape(n, -1)
        else:
            columns = np.stack([self._run(probe, {x: unit, **none})[0].ravel() for unit in units])
        if kind == "Pad":
            columns = columns - bias
        channels = 1 if kind in ("Conv", "AveragePool", "GlobalAveragePool") else None
        self._add(Step(out, Affine((np.ascontiguousarray(columns.T),), bias), (x,), shape, channels))

    def _maxima(self, node: onnx.NodeProto, out: str, x: str) -> None:
        """Enter a pooling as maxima of pairs, round by round. Which elements a window holds is asked of ONNX's reference, one
        channel for all; at a random point all must then be as it says."""
        before, channels, n = self.shapes[x], self.shapes[x][1], math.prod(self.shapes[x][2:])
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
        self._cooked(node, *pooled(rows, said.shape))
        self._add(replace(self.steps[out], axis=self.axes[x]))

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
