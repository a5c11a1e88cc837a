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


@pytest.mark.parametrize("activation", ["Relu", "LeakyRelu"])
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
