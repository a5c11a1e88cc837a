"""ONNX operators in the forms of many opsets: our graph beside onnxruntime, as it is and under interventions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from specs.errors import InputError
from specs.model import Model
from specs.models.onnx_file import parse
from specs.models.onnx_import import read_graph
from specs.models.onnx_runtime import OnnxRuntime
from specs.models.runtime import Intervention

Array = npt.NDArray[Any]
_RANDOM = np.random.default_rng(0)
IMAGE = (1, 4, 7, 6)


def _w(*shape: int) -> Array:
    return _RANDOM.normal(size=shape).astype(np.float32)


def _i(*values: int) -> Array:
    return np.array(values, dtype=np.int64)


def _model(
    nodes: Sequence[onnx.NodeProto],
    shape: Sequence[Any],
    constants: Mapping[str, Array],
    opset: int,
    outputs: Sequence[str] = ("y",),
    listed: bool = False,
) -> onnx.ModelProto:
    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)]
    tensors = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    if listed:
        inputs += [helper.make_tensor_value_info(t.name, t.data_type, t.dims) for t in tensors]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    graph = helper.make_graph(list(nodes), "g", inputs, ends, tensors)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def _read(model: onnx.ModelProto) -> Model:
    file = parse(model.SerializeToString(), "m.onnx")
    reading = read_graph(file, "m.onnx")
    runtime = OnnxRuntime(file.original, file.model, file.input, reading.output)
    return Model(reading.graph, runtime, "m.onnx", "", file.dtype, reading.dropped_softmax, reading.operators)


def _node(op: str, inputs: Sequence[str], name: str = "y", **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(op, inputs, [name], **attributes)


CASES: dict[str, tuple[int, Sequence[int], onnx.NodeProto, dict[str, Array]]] = {
    "clip attributes": (8, (1, 5), _node("Clip", ["x"], min=-0.5, max=0.25), {}),
    "clip one attribute": (8, (1, 5), _node("Clip", ["x"], max=0.25), {}),
    "clip inputs": (13, (1, 5), _node("Clip", ["x", "a", "b"]), {"a": np.float32(-0.5), "b": np.float32(0.25)}),  # type: ignore[dict-item]
    "clip upper input": (13, (1, 5), _node("Clip", ["x", "", "b"]), {"b": np.float32(0.25)}),  # type: ignore[dict-item]
    "clip to nothing": (13, (1, 5), _node("Clip", ["x"]), {}),
    "clip crossed": (13, (1, 5), _node("Clip", ["x", "a", "b"]), {"a": np.float32(2), "b": np.float32(1)}),  # type: ignore[dict-item]
    "prelu": (13, (1, 5), _node("PRelu", ["x", "a"]), {"a": np.array([0.2], np.float32)}),
    "sign": (13, (1, 5), _node("Sign", ["x"]), {}),
    "pad attribute": (8, IMAGE, _node("Pad", ["x"], pads=[0, 0, 1, 2, 0, 0, 0, 1], value=0.5), {}),
    "pad inputs": (13, IMAGE, _node("Pad", ["x", "p", "v"]), {"p": _i(0, 1, 1, 2, 0, 0, -1, 1), "v": np.float32(2)}),  # type: ignore[dict-item]
    "pad axes": (18, IMAGE, _node("Pad", ["x", "p", "", "a"]), {"p": _i(1, 2, 0, 1), "a": _i(-1, 2)}),
    "pad reflect": (13, IMAGE, _node("Pad", ["x", "p"], mode="reflect"), {"p": _i(0, 0, 1, 2, 0, 0, 0, 1)}),
    "slice attributes": (8, IMAGE, _node("Slice", ["x"], starts=[1, -3], ends=[3, 100], axes=[1, 3]), {}),
    "slice inputs": (
        13,
        IMAGE,
        _node("Slice", ["x", "s", "e", "a", "t"]),
        {"s": _i(-1, 1), "e": _i(-100, 6), "a": _i(2, 3), "t": _i(-2, 2)},
    ),
    "gather": (13, IMAGE, _node("Gather", ["x", "i"], axis=2), {"i": _i(0, -1, 0)}),
    "gather one": (13, IMAGE, _node("Gather", ["x", "i"], axis=1), {"i": np.array(2)}),
    "squeeze attribute": (8, (1, 4, 1, 6), _node("Squeeze", ["x"], axes=[2]), {}),
    "squeeze input": (13, (1, 4, 1, 6), _node("Squeeze", ["x", "a"]), {"a": _i(-2)}),
    "squeeze all": (13, (1, 4, 1, 6), _node("Squeeze", ["x"]), {}),
    "unsqueeze attribute": (11, (1, 4), _node("Unsqueeze", ["x"], axes=[0, 3]), {}),
    "unsqueeze input": (13, (1, 4), _node("Unsqueeze", ["x", "a"]), {"a": _i(-1)}),
    "reshape": (13, IMAGE, _node("Reshape", ["x", "s"]), {"s": _i(0, 2, -1)}),
    "flatten": (13, IMAGE, _node("Flatten", ["x"], axis=-2), {}),
    "transpose": (13, IMAGE, _node("Transpose", ["x"], perm=[0, 2, 3, 1]), {}),
    "transpose default": (13, IMAGE, _node("Transpose", ["x"]), {}),
    "expand": (13, (1, 4, 1), _node("Expand", ["x", "s"]), {"s": _i(2, 1, 3)}),
    "tile": (13, (1, 4), _node("Tile", ["x", "r"]), {"r": _i(2, 2)}),
    "depth to space": (13, IMAGE, _node("DepthToSpace", ["x"], blocksize=2), {}),
    "reduce sum attribute": (11, IMAGE, _node("ReduceSum", ["x"], axes=[1, -1], keepdims=0), {}),
    "reduce sum input": (13, IMAGE, _node("ReduceSum", ["x", "a"]), {"a": _i(-1)}),
    "reduce sum all": (13, IMAGE, _node("ReduceSum", ["x"], keepdims=0), {}),
    "reduce sum none": (13, IMAGE, _node("ReduceSum", ["x"], noop_with_empty_axes=1), {}),
    "reduce mean input": (18, IMAGE, _node("ReduceMean", ["x", "a"], keepdims=0), {"a": _i(2, 3)}),
    "conv": (8, IMAGE, _node("Conv", ["x", "w", "b"], pads=[1, 0, 2, 1], strides=[2, 1]), {"w": _w(5, 4, 3, 2), "b": _w(5)}),
    "conv groups": (13, IMAGE, _node("Conv", ["x", "w"], group=2, dilations=[2, 1]), {"w": _w(6, 2, 3, 2)}),
    "conv upper": (13, IMAGE, _node("Conv", ["x", "w"], auto_pad="SAME_UPPER", strides=[2, 3]), {"w": _w(3, 4, 4, 2)}),
    "conv lower": (13, IMAGE, _node("Conv", ["x", "w"], auto_pad="SAME_LOWER", strides=[2, 3]), {"w": _w(3, 4, 4, 2)}),
    "conv valid": (13, IMAGE, _node("Conv", ["x", "w"], auto_pad="VALID"), {"w": _w(3, 4, 4, 2)}),
    "conv line": (13, (1, 4, 9), _node("Conv", ["x", "w"], strides=[2], pads=[1, 2]), {"w": _w(3, 4, 3)}),
    "batch norm": (
        9,
        IMAGE,
        _node("BatchNormalization", ["x", "s", "b", "m", "v"], epsilon=1e-3),
        {"s": _w(4), "b": _w(4), "m": _w(4), "v": np.abs(_w(4))},
    ),
    "batch norm dense": (
        13,
        (1, 4),
        _node("BatchNormalization", ["x", "s", "b", "m", "v"]),
        {"s": _w(4), "b": _w(4), "m": _w(4), "v": np.abs(_w(4))},
    ),
    "max pool": (8, IMAGE, _node("MaxPool", ["x"], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]), {}),
    "max pool ceil": (12, IMAGE, _node("MaxPool", ["x"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {}),
    "max pool ceil pads": (
        12,
        IMAGE,
        _node("MaxPool", ["x"], kernel_shape=[2, 2], strides=[3, 3], pads=[1, 1, 1, 1], ceil_mode=1),
        {},
    ),
    "max pool dilated": (12, IMAGE, _node("MaxPool", ["x"], kernel_shape=[2, 3], dilations=[3, 2]), {}),
    "max pool same": (12, IMAGE, _node("MaxPool", ["x"], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER"), {}),
    "max pool line": (12, (1, 3, 9), _node("MaxPool", ["x"], kernel_shape=[3], strides=[2]), {}),
    "average pool": (8, IMAGE, _node("AveragePool", ["x"], kernel_shape=[3, 2], strides=[2, 2], pads=[1, 0, 1, 1]), {}),
    "average pool counted": (
        11,
        IMAGE,
        _node("AveragePool", ["x"], kernel_shape=[3, 3], pads=[1, 1, 1, 1], count_include_pad=1),
        {},
    ),
    "average pool ceil": (19, IMAGE, _node("AveragePool", ["x"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1), {}),
    "average pool ceil counted": (
        19,
        IMAGE,
        _node("AveragePool", ["x"], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], ceil_mode=1, count_include_pad=1),
        {},
    ),
    "average pool same": (
        11,
        IMAGE,
        _node("AveragePool", ["x"], kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_LOWER"),
        {},
    ),
    "global average": (11, IMAGE, _node("GlobalAveragePool", ["x"]), {}),
    "global max": (11, IMAGE, _node("GlobalMaxPool", ["x"]), {}),
    "gemm": (13, (1, 4), _node("Gemm", ["x", "w", "b"], alpha=0.5, beta=2.0, transB=1), {"w": _w(3, 4), "b": _w(3)}),
    "gemm turned": (13, (4, 2), _node("Gemm", ["x", "w", "b"], transA=1), {"w": _w(4, 3), "b": _w(2, 1)}),
    "gemm left": (13, (4, 2), _node("Gemm", ["w", "x", "b"], transA=1), {"w": _w(4, 3), "b": _w(2)}),
    "gemm left turned": (13, (2, 4), _node("Gemm", ["w", "x"], transB=1), {"w": _w(3, 4)}),
    "matmul left": (13, (2, 4, 3), _node("MatMul", ["w", "x"]), {"w": _w(5, 4)}),
    "matmul wider": (13, (2, 4), _node("MatMul", ["x", "w"]), {"w": _w(1, 4, 3)}),
    "matmul vector": (13, (2, 4), _node("MatMul", ["x", "w"]), {"w": _w(4)}),
    "matmul left vector": (13, (2, 4, 3), _node("MatMul", ["w", "x"]), {"w": _w(4)}),
    "matmul of vector": (13, (4,), _node("MatMul", ["x", "w"]), {"w": _w(1, 4, 3)}),
    "matmul left of vector": (13, (4,), _node("MatMul", ["w", "x"]), {"w": _w(3, 4)}),
    "add wider": (13, (1, 4), _node("Add", ["w", "x"]), {"w": _w(3, 1, 4)}),
    "sub from": (13, (1, 4), _node("Sub", ["w", "x"]), {"w": _w(4)}),
    "sub": (13, (1, 4), _node("Sub", ["x", "w"]), {"w": _w(4)}),
    "mul": (13, (1, 4), _node("Mul", ["w", "x"]), {"w": _w(1)}),
    "div": (13, (1, 4), _node("Div", ["x", "w"]), {"w": _w(4)}),
    "neg": (13, (1, 4), _node("Neg", ["x"]), {}),
    "sum": (13, (1, 4), _node("Sum", ["w", "x", "x", "v"]), {"w": _w(4), "v": _w(2, 1)}),
    "twice": (13, (1, 4), _node("Add", ["x", "x"]), {}),
    "cast": (13, (1, 4), _node("Cast", ["x"], to=TensorProto.FLOAT), {}),
    "dropout": (12, (1, 4), _node("Dropout", ["x"]), {}),
    "concat": (13, (1, 4), _node("Concat", ["x", "w", "x"], axis=-1), {"w": _w(1, 2)}),
}


@pytest.mark.parametrize("case", CASES)
def test_operator_agrees_with_onnxruntime(case: str) -> None:
    opset, shape, node, constants = CASES[case]
    model = _read(_model([node], shape, {name: np.asarray(value) for name, value in constants.items()}, opset))
    model.check(-2.0, 2.0)
    # Once more between two nodes, where patches reach it and what it computes is read.
    around = [_node("Mul", ["x", "half"], "before"), *[_renamed(node)], _node("Relu", ["inner"], "y")]
    _read(
        _model(around, shape, {"half": np.float32(0.5).reshape(1), **{k: np.asarray(v) for k, v in constants.items()}}, opset)
    ).check(-2.0, 2.0)


def _renamed(node: onnx.NodeProto) -> onnx.NodeProto:
    copy = onnx.NodeProto()
    copy.CopyFrom(node)
    copy.input[:] = ["before" if name == "x" else name for name in node.input]
    copy.output[:] = ["inner"]
    return copy


@pytest.mark.parametrize(
    ("opset", "attributes", "inputs", "constants"),
    [
        (11, {"split": [1, 3]}, [], {}),
        (13, {}, ["s"], {"s": _i(1, 3)}),
        (13, {}, [], {}),
        (18, {"num_outputs": 2}, [], {}),
    ],
)
def test_split(opset: int, attributes: dict[str, Any], inputs: list[str], constants: dict[str, Array]) -> None:
    split = helper.make_node("Split", ["x", *inputs], ["a", "b"], axis=1, **attributes)
    model = _read(_model([split, _node("Concat", ["b", "a", "b"], axis=1)], (1, 4, 3), constants, opset))
    model.check(-1.0, 1.0)
    assert [site.name for site in model.sites()] == ["a", "b"]


def test_shape_plumbing_folds_at_batch_one() -> None:
    nodes = [
        _node("Shape", ["x"], "shape"),
        _node("Gather", ["shape", "zero"], "batch", axis=0),
        _node("Unsqueeze", ["batch", "axes"], "b"),
        _node("Concat", ["b", "rest"], "target", axis=0),
        _node("Reshape", ["x", "target"], "flat"),
        _node("ConstantOfShape", ["target2"], "zeros"),
        _node("Add", ["flat", "zeros"], "sum"),
        _node("Relu", ["sum"], "y"),
    ]
    constants = {"zero": np.array(0), "axes": _i(0), "rest": _i(-1), "target2": _i(1, 12)}
    model = _read(_model(nodes, ("N", 3, 4), constants, 13, listed=True))
    assert model.graph.input_shape == (1, 3, 4)
    assert [site.name for site in model.sites()] == ["flat", "sum"]
    model.check(-1.0, 1.0)


@pytest.mark.parametrize("last", ["Softmax", "LogSoftmax"])
def test_softmax_at_the_end_is_dropped(last: str) -> None:
    nodes = [_node("MatMul", ["x", "w"], "logits"), _node(last, ["logits"], "p"), _node("Identity", ["p"])]
    model = _read(_model(nodes, (1, 4), {"w": _w(4, 3)}, 13))
    assert model.dropped_softmax and model.graph.output == "logits" and model.sites() == ()
    model.check()


def test_intervention_reaches_every_reader() -> None:
    nodes = [
        _node("Conv", ["x", "w"], "c"),
        _node("Relu", ["c"], "r"),
        _node("Identity", ["r"], "i"),
        _node("Add", ["r", "i"], "s"),
        _node("GlobalAveragePool", ["s"], "g"),
        _node("Flatten", ["g"]),
    ]
    model = _read(_model(nodes, IMAGE, {"w": _w(3, 4, 2, 2)}, 8))
    shape = model.graph.shape("r")
    kept, patch = np.ones(shape, dtype=bool), np.full(shape, 5.0)
    kept[:, 1] = False
    y = model.runtime.intervened(np.zeros(IMAGE), Intervention({"r": kept}, {"r": patch}))
    assert np.array_equal(y, np.array([[0.0, 10.0, 0.0]]))
    group, count = model.group("r", "channel")
    assert count == 3 and np.array_equal(np.asarray(group == 1), ~kept)
    site = {site.name: site for site in model.sites()}["r"]
    assert site.granularities == {"neuron": 90, "channel": 3, "layer": 1} and site.operator == "Relu" and site.after_activation


def test_local_functions_are_inlined() -> None:
    function = helper.make_function(
        "own", "Twice", ["a"], ["b"], [helper.make_node("Add", ["a", "a"], ["b"])], [helper.make_opsetid("", 13)]
    )
    model = _model([helper.make_node("Twice", ["x"], ["t"], domain="own"), _node("Relu", ["t"])], (1, 3), {}, 13)
    model.functions.append(function)
    model.opset_import.append(helper.make_opsetid("own", 1))
    _read(model).check(-1.0, 1.0)


REFUSED = {
    "operator not supported": ([_node("Atan", ["x"])], {}),
    "node #0 (Atan -> 'y')": ([_node("Atan", ["x"])], {}),
    "divisor holds 0": ([_node("Div", ["x", "w"])], {"w": np.zeros((1, 4), np.float32)}),
    "'w' holds nan at [0, 1]": ([_node("Mul", ["x", "w"])], {"w": np.array([[1, np.nan, 1, 1]], np.float32)}),
    "cast to INT64": ([_node("Cast", ["x"], "i", to=TensorProto.INT64), _node("Cast", ["i"], to=TensorProto.FLOAT)], {}),
    "does not fit": ([_node("MatMul", ["x", "w"])], {"w": _w(5, 3)}),
    "do not broadcast": ([_node("Add", ["x", "w"])], {"w": _w(3)}),
    "operands do not fit": ([_node("Reshape", ["x", "s"])], {"s": _i(3, -1)}),
    "does not depend on the input": ([_node("Neg", ["w"])], {"w": _w(3)}),
    "further result 'mask' is read": (
        [
            helper.make_node("Dropout", ["x"], ["d", "mask"]),
            _node("Cast", ["mask"], "m", to=TensorProto.FLOAT),
            _node("Add", ["d", "m"]),
        ],
        {},
    ),
    "RandomNormal": ([_node("RandomNormal", [], "n", shape=[1, 4]), _node("Add", ["x", "n"])], {}),
}


@pytest.mark.parametrize("message", REFUSED)
def test_refusal_is_one_line_that_names_the_place(message: str) -> None:
    nodes, constants = REFUSED[message]
    with pytest.raises(InputError) as error:
        _read(_model(nodes, (1, 4), constants, 13))
    assert message in str(error.value) and "\n" not in str(error.value) and str(error.value).startswith("m.onnx")


def _cyclic() -> onnx.ModelProto:
    return _model([_node("Add", ["x", "b"], "a"), _node("Relu", ["a"], "b"), _node("Relu", ["b"])], (1, 4), {}, 13)


def _two_inputs() -> onnx.ModelProto:
    model = _model([_node("Relu", ["x"])], (1, 4), {}, 13)
    model.graph.input.append(helper.make_tensor_value_info("z", TensorProto.FLOAT, [1]))
    return model


def _outside() -> onnx.ModelProto:
    model = _model([_node("Add", ["x", "w"])], (1, 4), {"w": _w(4)}, 13)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="../secret")
    return model


@pytest.mark.parametrize(
    ("message", "content"),
    [
        ("not an ONNX file", b"\xff\xffnonsense"),
        ("not a valid ONNX model", b""),
        ("not a valid ONNX model", _cyclic().SerializeToString()),
        ("2 inputs ('x', 'z')", _two_inputs().SerializeToString()),
        (
            "2 outputs ('a', 'b')",
            _model([_node("Relu", ["x"], "a"), _node("Neg", ["x"], "b")], (1, 4), {}, 13, ("a", "b")).SerializeToString(),
        ),
        ("only its first dimension", _model([_node("Relu", ["x"])], ("N", "T"), {}, 13).SerializeToString()),
        ("ONNX opset 6", _model([_node("Relu", ["x"])], (1, 4), {}, 6).SerializeToString()),
        ("external data must lie", _outside().SerializeToString()),
    ],
)
def test_broken_files_are_input_errors(message: str, content: bytes, tmp_path: Any) -> None:
    with pytest.raises(InputError) as error:
        file = parse(content, "m.onnx", tmp_path)
        read_graph(file, "m.onnx")
    assert message in str(error.value) and "\n" not in str(error.value)
