"""Files found, hashed and compared with their own runtime."""

from __future__ import annotations

import hashlib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from bounds.ops import Relu, Tanh
from specs.errors import InputError
from specs.model import Model, load_model
from specs.models.runtime import NOTHING, Array, Intervention, Runtime


def _write(path: Path) -> Path:
    weight = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    nodes = [
        helper.make_node("Gemm", ["x", "w"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["relu_1"]),
        helper.make_node("MatMul", ["relu_1", "w"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", 4])] for n in "xy"]
    graph = helper.make_graph(nodes, "g", ends[0], ends[1], [numpy_helper.from_array(weight, "w")])
    path.write_bytes(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8).SerializeToString())
    return path


@pytest.fixture
def net(tmp_path: Path) -> Path:
    return _write(tmp_path / "net.onnx")


def _load(path: str, base: Path, **options: Any) -> Model:
    return load_model(path, shown="circuit.json", where="$.model.path", base=base, **options)


def test_loads_and_hashes(net: Path) -> None:
    digest = hashlib.sha256(net.read_bytes()).hexdigest()
    model = _load("net.onnx", net.parent, sha256=digest.upper())
    assert model.sha256 == digest and model.source == "net.onnx" and model.dtype == torch.float32
    assert model.graph.input_shape == (1, 4) and [s.name for s in model.sites()] == ["h", "relu_1"]
    assert model.graph.dtype == torch.float64
    assert _load("net.onnx", net.parent, input_shape=(3, 4)).graph.input_shape == (3, 4)


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("ned.onnx", "circuit.json $.model.path: no file 'ned.onnx'; a model is needed; use 'net.onnx'"),
        ("nowhere/net.onnx", "circuit.json $.model.path: no file 'nowhere/net.onnx'"),
        ("net.pth", "is a pickle"),
        ("net.yaml", ".onnx, .pt2 or package.module:callable is needed"),
        ("folder.onnx", "cannot be read"),
    ],
)
def test_bad_paths(net: Path, path: str, message: str) -> None:
    (net.parent / "folder.onnx").mkdir()
    with pytest.raises(InputError) as error:
        _load(path, net.parent)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_other_hash_and_other_shape(net: Path) -> None:
    with pytest.raises(InputError, match=r"abababababab... is stated"):
        _load("net.onnx", net.parent, sha256="ab" * 32)
    with pytest.raises(InputError, match=r"the model states"):
        _load("net.onnx", net.parent, input_shape=(1, 5))


def test_sites_that_are_not_there(net: Path) -> None:
    model = _load("net.onnx", net.parent)
    with pytest.raises(InputError, match=r"c.json [$].scope: the model has no site 'relu_2'; use 'relu_1'"):
        model.group("relu_2", "neuron", shown="c.json", where="$.scope")
    with pytest.raises(InputError, match=r"has no granularity 'channel'; use 'neuron'"):
        model.group("relu_1", "channel")
    with pytest.raises(InputError, match=r"no site 'y'"):
        model.group("y", "neuron")
    group, count = model.group("h", "neuron")
    assert count == 6 and group.tolist() == [[0, 1, 2, 3, 4, 5]]


def test_wrong_reading_is_found(net: Path) -> None:
    model = _load("net.onnx", net.parent)
    nodes = tuple(replace(n, op=Tanh()) if isinstance(n.op, Relu) else n for n in model.graph.nodes)
    with pytest.raises(InputError, match=r"our reading gives .* at output \d, the model's own runtime"):
        replace(model, graph=replace(model.graph, nodes=nodes)).check()


class _Deaf(Runtime):
    """Runs the model and ignores every intervention."""

    def __init__(self, inner: Runtime) -> None:
        self._inner = inner

    def outputs(self, x: Array) -> Array:
        return self._inner.outputs(x)

    def activations(self, x: Array, sites: Collection[str], under: Intervention = NOTHING) -> dict[str, Array]:
        return self._inner.activations(x, sites)

    def intervened(self, x: Array, under: Intervention) -> Array:
        return self._inner.outputs(x)


def test_wrong_intervention_is_found(net: Path) -> None:
    model = _load("net.onnx", net.parent)
    with pytest.raises(InputError, match=r"with patches at h, relu_1"):
        replace(model, runtime=_Deaf(model.runtime)).check()
