"""Models of a few bytes that ask for more than any machine has: refused from their shapes, before anything is made."""

from __future__ import annotations

import resource
import time
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from specs.errors import InputError
from specs.models.onnx_file import parse

Node = onnx.NodeProto


def node(kind: str, inputs: list[str], output: str, **attributes: Any) -> Node:
    return helper.make_node(kind, inputs, [output], **attributes)


def model(nodes: list[Node], shape: list[int], **constants: Any) -> onnx.ModelProto:
    weights = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(nodes, "bomb", [x], [y], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)


def doubled(first: str, axis: int) -> list[Node]:
    names = [first, *(f"t{i}" for i in range(1, 41))]
    return [node("Concat", [a, a], b, axis=axis) for a, b in pairwise(names)]


FAR = np.array([100_000, 100_000])
ADDED = node("Add", ["x", "c"], "y")
ONE = np.ones(1, np.float32)
BOMBS: dict[str, onnx.ModelProto] = {
    "a constant": model([node("ConstantOfShape", ["s"], "c"), ADDED], [1, 4], s=FAR),
    "a constant, expanded": model([node("Expand", ["o", "s"], "c"), ADDED], [1, 4], s=FAR, o=ONE),
    "the input, expanded": model([node("Expand", ["x", "s"], "y")], [1, 1], s=FAR),
    "tiles": model([node("Tile", ["x", "s"], "y")], [1, 4], s=FAR),
    "a range": model(
        [node("Range", ["a", "b", "d"], "c"), ADDED], [1, 4], a=np.float32(0), b=np.float32(1e10), d=np.float32(1)
    ),
    "pads": model([node("Pad", ["x", "s"], "y")], [1, 4], s=np.array([0, 10**9, 0, 10**9])),
    "an input": model([node("Relu", ["x"], "y")], [1, 10**10]),
    "pads of a convolution": model(
        [node("Conv", ["x", "w"], "y", pads=[10**5] * 4)], [1, 1, 2, 2], w=np.ones((1, 1, 1, 1), np.float32)
    ),
    "an outer product": model(
        [node("MatMul", ["a", "b"], "c"), ADDED], [1, 4], a=np.ones((20_000, 1), np.float32), b=np.ones((1, 20_000), np.float32)
    ),
    "doubling": model([*doubled("x", 1), node("Relu", ["t40"], "y")], [1, 4]),
    "doubling a constant": model([*doubled("o", 0), node("ReduceSum", ["t40"], "c"), ADDED], [1, 4], o=ONE),
}


def with_functions(*calls: tuple[str, str]) -> onnx.ModelProto:
    """A model of functions that each call two others."""
    made = model([helper.make_node("F0", ["x"], ["y"], domain="f")], [1, 4])
    opsets = [helper.make_opsetid("", 13), helper.make_opsetid("f", 1)]
    for i, pair in enumerate(calls):
        body = [
            helper.make_node(name, [a], [b], domain="" if name == "Relu" else "f")
            for name, a, b in zip(pair, "ab", "bc", strict=True)
        ]
        made.functions.append(helper.make_function("f", f"F{i}", ["a"], ["c"], body, opsets))
    made.opset_import.append(helper.make_opsetid("f", 1))
    return made


def refused(bomb: onnx.ModelProto) -> str:
    content, began, before = bomb.SerializeToString(), time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert len(content) < 2**18
    with pytest.raises(InputError) as caught:
        parse(content, "bomb.onnx")
    assert time.process_time() - began < 5
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", BOMBS)
def test_tensors_too_large_are_refused_from_their_shapes(name: str) -> None:
    assert "numbers; at most 67108864" in refused(BOMBS[name])


def test_functions_that_grow_without_end() -> None:
    deep = with_functions(*((f"F{i}", f"F{i}") for i in range(1, 40)), ("Relu", "Relu"))
    assert "once its functions are written out" in refused(deep)
    said = refused(with_functions(("F1", "Relu"), ("F0", "Relu")))
    assert "leads back to itself" in said or "not a valid ONNX model" in said


def test_functions_of_a_usual_size_are_read() -> None:
    small = with_functions(("F1", "F2"), ("F2", "Relu"), ("Relu", "Relu"))
    assert len(parse(small.SerializeToString(), "small.onnx").model.graph.node) == 5
