"""Whatever is asked, a verdict with a certificate is confirmed by the checker; regions, patching and metrics in turn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import verify
from tests.unit.verify.check.questions import LINF, written
from verify.check.certificate import confirm

HULL = {"kind": "hull", "points": [[0.1, 0.1, 0.1, 0.1], [0.3, 0.4, 0.3, 0.2], [0.5, 0.1, 0.2, 0.9]]}
REGIONS: dict[str, dict[str, Any]] = {
    "linf": LINF,
    "l2": {**LINF, "kind": "l2", "epsilon": 0.2},
    "box": {"kind": "box", "lower": [0.1] * 4, "upper": [0.3, 0.4, 0.3, 0.2]},
    "hull": HULL,
}
PATCHING: dict[str, dict[str, Any]] = {
    "zero": {"kind": "zero"},
    "constant": {"kind": "constant", "constant": {"act_0": 0.1, "act_1": [0.1] * 8}},
    "box": {"kind": "box", "lower": {"act_0": 0.0, "act_1": -0.1}, "upper": {"act_0": 0.2, "act_1": 0.1}},
    "reachable": {"kind": "reachable", "reachable": LINF},
    "reachable hull": {"kind": "reachable", "reachable": HULL},
    "closed": {"kind": "closed", "closed": {"kind": "box", "lower": [0.0] * 4, "upper": [1.0] * 4}},
}
METRICS: dict[str, dict[str, Any]] = {
    "linf": {},
    "l1": {"norm": "l1"},
    "l2": {"norm": "l2"},
    "difference": {"metric": "logit_difference", "target": 0, "against": 1},
    "top1": {"metric": "top1"},
    "output": {"metric": "output", "outputs": [2]},
}
CASES = [("linf", "zero", metric) for metric in METRICS]
CASES += [(region, "zero", "linf") for region in REGIONS if region != "linf"]
CASES += [("linf", patching, "linf") for patching in PATCHING if patching != "zero"] + [("hull", "reachable", "top1")]


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu", "Sigmoid", "Tanh"])
@pytest.mark.parametrize(("region", "patching", "metric"), CASES)
def test_both_verdicts_are_confirmed(region: str, patching: str, metric: str, activation: str, tmp_path: Path) -> None:
    parts: dict[str, Any] = {"agreement": METRICS[metric], "activation": activation, "seed": 7}
    deviation = 0.0
    for tolerance, verdict in ((0.0, "falsified"), (None, "certified")):
        given = 1.5 * deviation + 0.3 if tolerance is None else tolerance
        circuit, spec = written(tmp_path, REGIONS[region], PATCHING[patching], given, **parts)
        report = verify.certify(circuit, spec=spec, certificate=tmp_path / "cert", timeout_s=20)
        if metric == "top1" and report.verdict == "certified":
            verdict = "certified"
        assert report.verdict == verdict, report.reason
        assert report.certificate is not None and confirm(tmp_path / "cert").verdict == verdict
        deviation = max(deviation, report.deviation or 0.0)


@pytest.mark.parametrize("patching", ["zero", "reachable", "closed"])
def test_float32_claims_are_confirmed_as_such(patching: str, tmp_path: Path) -> None:
    circuit, spec = written(tmp_path, LINF, PATCHING[patching], 5.0)
    report = verify.certify(circuit, spec=spec, certificate=tmp_path / "cert", float32=True, timeout_s=20)
    assert report.verdict == "certified" and confirm(tmp_path / "cert").float32


def test_a_claim_for_each_center_and_all_are_proven(tmp_path: Path) -> None:
    import numpy as np

    np.savez(tmp_path / "centers.npz", x=np.random.default_rng(0).random((3, 4)))
    center = {"file": "centers.npz", "array": "x", "index": [0, 2]}
    circuit, spec = written(tmp_path, {**LINF, "center": center}, tolerance=2.0)
    report = verify.certify(circuit, spec=spec, certificate=tmp_path / "cert", timeout_s=20)
    assert report.verdict == "certified" and confirm(tmp_path / "cert").claims == 2
    np.savez(tmp_path / "centers.npz", x=np.random.default_rng(1).random((3, 4)))
    with pytest.raises(Exception, match="file of numbers"):
        confirm(tmp_path / "cert")


def pooled(folder: Path) -> tuple[Path, Path]:
    """A convolution, ReLUs and a pooled maximum that lost one element."""
    import json

    import numpy as np
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    rng = np.random.default_rng(2)
    weights = {"w": rng.normal(size=(2, 1, 3, 3)), "v": rng.normal(size=(8, 3))}
    nodes = [
        helper.make_node("Conv", ["x", "w"], ["c"]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("MaxPool", ["r"], ["p"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Flatten", ["p"], ["f"]),
        helper.make_node("MatMul", ["f", "v"], ["y"]),
    ]
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 6, 6]), ("y", [1, 3]))]
    stored = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in weights.items()]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], stored)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "net.onnx")
    circuit = {"model": {"path": "net.onnx"}, "scope": {"p": "neuron"}, "kept": {"p": [0, 1, 2, 3, 4, 6, 7]}}
    spec = {
        "input": {"kind": "linf", "center": rng.random((1, 6, 6)).tolist(), "epsilon": 0.2},
        "patching": {"kind": "constant", "constant": {"p": [0.3] * 8}},
        "agreement": {"metric": "logits", "tolerance": 1.0},
        "budget": {"time_s": 60},
    }
    for name, said in (("circuit", circuit), ("spec", spec)):
        (folder / f"{name}.json").write_text(json.dumps({"format": f"certify.{name}/1", **said}))
    return folder / "circuit.json", folder / "spec.json"


def test_a_pooled_maximum_is_followed(tmp_path: Path) -> None:
    circuit, spec = pooled(tmp_path)
    record = spec.read_text()
    deviation = 0.0
    for share, verdict in ((0.0, "falsified"), (0.5, "falsified"), (2.0, "certified")):
        spec.write_text(record.replace('"tolerance": 1.0', f'"tolerance": {share * deviation}'))
        report = verify.certify(circuit, spec=spec, certificate=tmp_path / "cert", timeout_s=30)
        assert report.verdict == verdict and confirm(tmp_path / "cert").verdict == verdict, report.reason
        deviation = max(deviation, report.deviation or 0.0)
