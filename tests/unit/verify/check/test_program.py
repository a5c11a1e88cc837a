"""The checker's own reading of ONNX: what it computes is what onnxruntime computes, and what it does not read it names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.conftest import ROOT
from verify.check.interval import Rejected
from verify.check.model import read_program
from verify.check.program import values

RNG = np.random.default_rng(0)


def _saved(path: Path, nodes: list[Any], shape: list[int], **constants: np.ndarray) -> Path:
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=8).SerializeToString())
    return path


def _floats(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def _node(kind: str, *inputs: str, **attributes: Any) -> list[Any]:
    return [helper.make_node(kind, ["x", *inputs], ["y"], **attributes)]


CASES: dict[str, tuple[list[Any], list[int], dict[str, np.ndarray]]] = {
    "gemm": (_node("Gemm", "w", "b", alpha=0.5, beta=2.0), [1, 4], {"w": _floats(4, 3), "b": _floats(3)}),
    "gemm turned": (_node("Gemm", "w", transB=1), [1, 4], {"w": _floats(3, 4)}),
    "matmul": (_node("MatMul", "w"), [1, 4], {"w": _floats(4, 3)}),
    "matmul left": ([helper.make_node("MatMul", ["w", "x"], ["y"])], [1, 4, 1], {"w": _floats(3, 4)}),
    "conv": (
        _node("Conv", "w", "b", strides=[2, 2], pads=[1, 0, 1, 1]),
        [1, 2, 5, 5],
        {"w": _floats(4, 2, 3, 2), "b": _floats(4)},
    ),
    "conv in groups": (_node("Conv", "w", group=2), [1, 4, 4, 4], {"w": _floats(4, 2, 2, 2)}),
    "conv of one axis": (_node("Conv", "w", dilations=[2]), [1, 2, 7], {"w": _floats(3, 2, 2)}),
    "average": (_node("AveragePool", kernel_shape=[2, 2], strides=[1, 1]), [1, 2, 4, 4], {}),
    "greatest": (_node("MaxPool", kernel_shape=[2, 2], strides=[2, 2]), [1, 2, 4, 4], {}),
    "greatest of odd ones, padded": (
        _node("MaxPool", kernel_shape=[3, 3], strides=[2, 1], pads=[1, 1, 0, 1], dilations=[1, 2]),
        [1, 2, 5, 6],
        {},
    ),
    "greatest of one axis": (_node("MaxPool", kernel_shape=[3], ceil_mode=1, strides=[2]), [1, 3, 6], {}),
    "mean": (_node("ReduceMean", "axes", keepdims=0), [1, 2, 3, 3], {"axes": np.array([2, 3])}),
    "normalised": (
        _node("BatchNormalization", "s", "b", "m", "v"),
        [1, 3, 2, 2],
        {"s": _floats(3), "b": _floats(3), "m": _floats(3), "v": np.abs(_floats(3)) + 1},
    ),
    "added": (_node("Add", "b"), [1, 4], {"b": _floats(4)}),
    "added, repeated": (_node("Add", "b"), [1, 1, 3], {"b": _floats(1, 4, 3)}),
    "taken from": ([helper.make_node("Sub", ["b", "x"], ["y"])], [1, 4], {"b": _floats(4)}),
    "divided": (_node("Div", "b"), [1, 4], {"b": _floats(4)}),
    "padded": (_node("Pad", "p", "c"), [1, 1, 2, 2], {"p": np.array([0, 0, 1, 0, 0, 0, 0, 2]), "c": np.array(0.5, np.float32)}),
    "turned": (_node("Transpose", perm=[0, 2, 1]), [1, 3, 4], {}),
    "reshaped": (_node("Reshape", "s"), [1, 3, 4], {"s": np.array([1, -1])}),
    "sliced": (_node("Slice", "b", "e", "a"), [1, 6], {"b": np.array([1]), "e": np.array([4]), "a": np.array([1])}),
    "leaky": (_node("LeakyRelu", alpha=0.2), [1, 6], {}),
    "curves": (
        [
            helper.make_node("Tanh", ["x"], ["t"]),
            helper.make_node("Sigmoid", ["t"], ["s"]),
            helper.make_node("Erf", ["s"], ["e"]),
            helper.make_node("Exp", ["e"], ["p"]),
            helper.make_node("Sqrt", ["p"], ["q"]),
            helper.make_node("Reciprocal", ["q"], ["y"]),
        ],
        [1, 6],
        {},
    ),
    "gelu": (
        [helper.make_node("Gelu", ["x"], ["g"]), helper.make_node("Gelu", ["g"], ["y"], approximate="tanh")],
        [1, 6],
        {},
    ),
    "layer norm": (_node("LayerNormalization", "w", "b", epsilon=1e-3), [1, 3, 6], {"w": _floats(6), "b": _floats(6)}),
    "layer norm without": (_node("LayerNormalization", "w"), [1, 3, 6], {"w": _floats(6)}),
    "normalised by hand": (
        [
            helper.make_node("ReduceMean", ["x", "last"], ["m"]),
            helper.make_node("Sub", ["x", "m"], ["d"]),
            helper.make_node("Pow", ["d", "two"], ["v"]),
            helper.make_node("ReduceMean", ["v", "last"], ["w"]),
            helper.make_node("Add", ["w", "eps"], ["o"]),
            helper.make_node("Sqrt", ["o"], ["s"]),
            helper.make_node("Div", ["d", "s"], ["y"]),
        ],
        [1, 3, 6],
        {"last": np.array([-1]), "two": np.array(2.0, np.float32), "eps": np.array([1e-3], np.float32)},
    ),
    "attention": (
        [
            helper.make_node("MatMul", ["x", "k"], ["keys"]),
            helper.make_node("Transpose", ["keys"], ["turned"], perm=[0, 2, 1]),
            helper.make_node("MatMul", ["x", "turned"], ["scores"]),
            helper.make_node("Where", ["mask", "scores", "low"], ["masked"]),
            helper.make_node("Softmax", ["masked"], ["pattern"]),
            helper.make_node("MatMul", ["pattern", "x"], ["y"]),
        ],
        [1, 3, 4],
        {"k": _floats(4, 4), "mask": np.tri(3, dtype=bool), "low": np.array(-np.inf, np.float32)},
    ),
    "masked by a sum": (
        [
            helper.make_node("Add", ["x", "mask"], ["m"]),
            helper.make_node("Softmax", ["m"], ["s"]),
            helper.make_node("Neg", ["s"], ["y"]),
        ],
        [1, 3, 3],
        {"mask": np.triu(np.full((3, 3), -np.inf, np.float32), 1)},
    ),
    "scaled by a sum": (
        [helper.make_node("ReduceSum", ["x", "last"], ["m"]), helper.make_node("Mul", ["m", "x"], ["y"])],
        [1, 3, 4],
        {"last": np.array([-1])},
    ),
    "rests": ([helper.make_node("Relu", ["x"], ["r"]), helper.make_node("Sub", ["x", "r"], ["y"])], [1, 6], {}),
}


@pytest.mark.parametrize("name", CASES)
def test_reads_what_onnxruntime_computes(name: str, tmp_path: Path) -> None:
    nodes, shape, constants = CASES[name]
    path = _saved(tmp_path / "m.onnx", nodes, shape, **constants)
    program = read_program(path)
    session = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    for _ in range(3):
        x = _floats(*shape)
        expected = np.asarray(session.run(None, {"x": x})[0])
        assert program.steps["y"].shape == expected.shape
        assert values(program, x.astype(np.float64).ravel())["y"] == pytest.approx(expected.ravel(), abs=1e-5)


def test_entries_of_a_matrix_are_the_stored_weights_themselves(tmp_path: Path) -> None:
    """Not what is left of them after something was added and taken away again."""
    w, b = _floats(4, 3) * np.float32(1e-9), _floats(3) * np.float32(1e9)
    op = read_program(_saved(tmp_path / "m.onnx", _node("Gemm", "w", "b"), [1, 4], w=w, b=b)).steps["y"].op
    assert np.array_equal(op.factors[0], w.T.astype(np.float64)) and np.array_equal(op.bias, b.astype(np.float64))  # type: ignore[union-attr]
    path = _saved(tmp_path / "m.onnx", _node("Add", "b"), [1, 1, 3], b=_floats(1, 4, 3) * np.float32(1e9))
    assert set(np.unique(read_program(path).steps["y"].op.factors[0])) == {0.0, 1.0}  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("nodes", "named"),
    [
        (_node("Floor"), "Floor"),
        (_node("Pow", "w"), "Pow"),
        (_node("LeakyRelu", alpha=-1.0), "slope"),
        ([helper.make_node("Add", ["x", "i"], ["s"]), helper.make_node("Relu", ["s"], ["y"])], "infinite"),
        (
            [
                helper.make_node("Add", ["x", "i"], ["s"]),
                helper.make_node("Softmax", ["s"], ["t"]),
                helper.make_node("Relu", ["t"], ["y"]),
            ],
            "infinite numbers alone",
        ),
        ([helper.make_node("Relu", ["w"], ["y"])], "does not depend"),
    ],
)
def test_names_what_it_does_not_read(nodes: list[Any], named: str, tmp_path: Path) -> None:
    path = _saved(tmp_path / "m.onnx", nodes, [1, 4], w=_floats(1, 4), i=np.full((1, 4), -np.inf, np.float32))
    with pytest.raises(Rejected, match=named):
        read_program(path)


def test_a_weight_that_is_not_finite_is_refused(tmp_path: Path) -> None:
    w = _floats(4, 3)
    w[1, 2] = np.inf
    with pytest.raises(Rejected):
        read_program(_saved(tmp_path / "m.onnx", _node("MatMul", "w"), [1, 4], w=w))


@pytest.mark.parametrize("name", ["digits_mlp", "digits_cnn"])
def test_reads_the_bundled_models(name: str) -> None:
    path = ROOT / "benchmarks" / "models" / f"{name}.onnx"
    program = read_program(path)
    x = RNG.random(program.shape).astype(np.float32)
    expected = ort.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"]).run(None, {program.input: x})[0]
    assert values(program, x.astype(np.float64).ravel())[program.output] == pytest.approx(
        np.asarray(expected).ravel(), abs=1e-4
    )
