"""Circuits of edges through the installed command: shown, certified, falsified, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.golden.conftest import Run

_WEIGHTS = {
    "embed": np.array([[1, 0.5], [-0.5, 1]], dtype=np.float32),
    "up": np.array([[1, -1, 0.5], [0.5, 1, -1]], dtype=np.float32),
    "down": np.array([[0.1, 0], [0, -0.1], [0.2, 0.1]], dtype=np.float32),
    "out": np.array([[1, -1], [0.5, 1]], dtype=np.float32),
}
_CENTER = np.array([[0.75, 0.5]], dtype=np.float32)


def written(folder: Path, scope: dict[str, str], kept: dict[str, Any], tolerance: float) -> tuple[Path, Path]:
    """A network with one skip connection, `out(e + d)` for `d = down(relu(up(e)))`, a circuit and a spec."""
    nodes = [
        helper.make_node("MatMul", ["x", "embed"], ["e"]),
        helper.make_node("MatMul", ["e", "up"], ["u"]),
        helper.make_node("Relu", ["u"], ["r"]),
        helper.make_node("MatMul", ["r", "down"], ["d"]),
        helper.make_node("Add", ["e", "d"], ["s"]),
        helper.make_node("MatMul", ["s", "out"], ["y"]),
    ]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 2])] for name in "xy"]
    constants = [numpy_helper.from_array(value, name) for name, value in _WEIGHTS.items()]
    graph = helper.make_graph(nodes, "skip", ends[0], ends[1], constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(folder / "skip.onnx"))
    circuit = {"format": "certify.circuit/1", "model": {"path": "skip.onnx"}, "scope": scope, "kept": kept}
    spec = {
        "format": "certify.spec/1",
        "input": {"kind": "linf", "center": _CENTER.tolist(), "epsilon": 0.05},
        "patching": {"kind": "zero"},
        "agreement": {"metric": "logits", "tolerance": tolerance},
    }
    for name, content in (("circuit.json", circuit), ("spec.yaml", spec)):
        (folder / name).write_text(json.dumps(content))
    return folder / "circuit.json", folder / "spec.yaml"


def by_hand(x: np.ndarray[Any, Any]) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    """What the output reads: the embedding and the branch."""
    e = x @ _WEIGHTS["embed"]
    return e, np.maximum(e @ _WEIGHTS["up"], 0) @ _WEIGHTS["down"]


def test_edges_of_a_skip_are_listed(run: Run, tmp_path: Path) -> None:
    written(tmp_path, {"y": "edge"}, {"y": [0]}, 0.5)
    done = run("show", tmp_path / "skip.onnx")
    assert done.returncode == 0 and "0 e, 1 d" in done.stdout and "2 edges" in done.stdout
    done = run("show", tmp_path / "circuit.json", "--svg", tmp_path / "edges.svg")
    assert done.returncode == 0
    drawing = (tmp_path / "edges.svg").read_text()
    assert "y[0]: e -&gt; y, kept" in drawing and "y[1]: d -&gt; y, ablated" in drawing


def test_an_edge_that_matters_little_is_certified_away(run: Run, tmp_path: Path) -> None:
    circuit, spec = written(tmp_path, {"y": "edge", "u": "edge"}, {"y": [0], "u": "none"}, 0.5)
    done = run(circuit, "--spec", spec, "--json")
    assert done.returncode == 0, done.stderr
    corners = _CENTER + 0.05 * np.array([[[a, b]] for a in (-1, 1) for b in (-1, 1)], dtype=np.float32)
    worst = max(float(np.abs(by_hand(x)[1] @ _WEIGHTS["out"]).max()) for x in corners)
    assert 0 <= json.loads(done.stdout)["margin"] <= 0.5 - worst + 1e-6


def test_an_edge_that_matters_is_falsified_on_the_original(run: Run, tmp_path: Path) -> None:
    circuit, spec = written(tmp_path, {"y": "edge"}, {"y": [1]}, 0.5)
    done = run(circuit, "--spec", spec, "--json")
    assert done.returncode == 1, done.stderr
    witness = json.loads(done.stdout)["witness"]
    e, d = by_hand(np.array(witness["input"], dtype=np.float32))
    assert np.allclose(witness["circuit_output"], d @ _WEIGHTS["out"], atol=1e-6)
    assert np.allclose(witness["model_output"], (e + d) @ _WEIGHTS["out"], atol=1e-6)


def test_a_feature_of_a_site_of_edges_is_refused(run: Run, tmp_path: Path) -> None:
    circuit, spec = written(tmp_path, {"u": "edge"}, {"u": "all"}, 0.5)
    entries = json.loads(spec.read_text())
    entries["agreement"] = {"metric": "feature", "site": "u", "element": 0, "above": 0.0}
    spec.write_text(json.dumps(entries))
    done = run(circuit, "--spec", spec)
    assert done.returncode == 2 and "in scope by edges" in done.stderr


@pytest.mark.parametrize(
    ("scope", "said"),
    [
        ({"y": "edge", "s": "neuron"}, "$.scope.s: it lies between y"),
        ({"r": "edge", "u": "neuron"}, "$.scope.u: it lies between r"),
        ({"e": "edge"}, "no granularity 'edge'"),
    ],
)
def test_scopes_that_mean_nothing_are_refused(scope: dict[str, str], said: str, run: Run, tmp_path: Path) -> None:
    circuit, spec = written(tmp_path, scope, dict.fromkeys(scope, "all"), 0.5)
    done = run(circuit, "--spec", spec)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
