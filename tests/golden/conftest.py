"""The installed command, run as a user runs it, and small models to run it on."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

ROOT = Path(__file__).resolve().parents[2]

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def command() -> list[str]:
    """The command that the set-up leaves beside this Python; else the module behind it."""
    installed = Path(sys.executable).with_name("certify")
    return [str(installed)] if installed.exists() else [sys.executable, "-m", "verify.cli"]


@pytest.fixture
def run(command: list[str], tmp_path: Path) -> Run:
    def run(*arguments: object, cwd: Path | None = None, timeout_s: float = 120) -> subprocess.CompletedProcess[str]:
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
        words = [*command, *map(str, arguments)]
        return subprocess.run(
            words, cwd=cwd or tmp_path, env=environment, capture_output=True, text=True, timeout=timeout_s, check=False
        )

    return run


def save_model(path: Path, weights: list[np.ndarray], extra: list[onnx.NodeProto] | None = None) -> None:
    """A ReLU network `x -> relu_1 -> ... -> y`; `extra` nodes go from `y` to the output `z`."""
    nodes: list[onnx.NodeProto] = []
    initializers: list[onnx.TensorProto] = []
    last = "x"
    for i, weight in enumerate(weights, 1):
        initializers.append(numpy_helper.from_array(weight.astype(np.float32), f"w{i}"))
        end = "y" if i == len(weights) else f"fc_{i}"
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [end], name=f"matmul_{i}"))
        if i < len(weights):
            nodes.append(helper.make_node("Relu", [end], [f"relu_{i}"], name=f"act_{i}"))
            last = f"relu_{i}"
    output = "z" if extra else "y"
    graph = helper.make_graph(
        [*nodes, *(extra or [])],
        "small",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, weights[0].shape[0]])],
        [helper.make_tensor_value_info(output, TensorProto.FLOAT, [1, weights[-1].shape[1]])],
        initializers,
    )
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


@pytest.fixture
def case(tmp_path: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A circuit and a spec, as dictionaries to be spoilt, of a model `small.onnx` in `tmp_path`."""
    rng = np.random.default_rng(0)
    save_model(tmp_path / "small.onnx", [rng.normal(size=s) / 3 for s in ((6, 8), (8, 8), (8, 3))])
    circuit: dict[str, Any] = {
        "format": "certify.circuit/1",
        "model": {"path": "small.onnx"},
        "scope": {"relu_1": "neuron", "relu_2": "neuron"},
        "kept": {"relu_1": [0, 1, 2, 3, 5], "relu_2": "all"},
    }
    spec: dict[str, Any] = {
        "format": "certify.spec/1",
        "input": {"kind": "linf", "center": [0.5, 0.4, 0.3, 0.2, 0.1, 0.6], "epsilon": 0.01, "clip": [0.0, 1.0]},
        "patching": {"kind": "zero"},
        "agreement": {"metric": "logits", "norm": "linf", "tolerance": 1.0},
        "budget": {"time_s": 20},
    }
    return circuit, spec


def write(folder: Path, circuit: object, spec: object) -> tuple[Path, Path]:
    """`circuit.json` and `spec.yaml` in a folder; text is written as it is."""
    paths = folder / "circuit.json", folder / "spec.yaml"
    for path, content in zip(paths, (circuit, spec), strict=True):
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return paths
