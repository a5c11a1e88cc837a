"""`verify.certify` from Python: files, records, modules and code; bad input is an InputError, a stop carries the report."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import verify
from specs.errors import InputError
from specs.load import read_circuit, read_spec
from verify.verdict import TIME_UP


class Small(nn.Module):
    """Four inputs, a site `relu` of six, three outputs."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last = nn.Linear(4, 6), nn.Linear(6, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(torch.relu(self.first(x)))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`model.pt2`, and `circuit.json` and `spec.json` for it: easily certified."""
    torch.export.save(torch.export.export(Small().eval(), (torch.zeros(1, 4),)), tmp_path / "model.pt2")
    write(tmp_path, tolerance=9.0, kept=[0, 1, 2, 3])
    return tmp_path


def write(folder: Path, *, tolerance: float, kept: Any, model: str = "model.pt2") -> None:
    circuit = {"format": "certify.circuit/1", "model": {"path": model}, "scope": {"relu": "neuron"}, "kept": {"relu": kept}}
    spec = {"format": "certify.spec/1", "input": {"kind": "linf", "center": [0.5] * 4, "epsilon": 0.01},
            "patching": {"kind": "zero"}, "agreement": {"metric": "logits", "tolerance": tolerance}}  # fmt: skip
    (folder / "circuit.json").write_text(json.dumps(circuit))
    (folder / "spec.json").write_text(json.dumps(spec))


def test_files_and_records_give_the_same_report(folder: Path) -> None:
    circuit, spec = folder / "circuit.json", folder / "spec.json"
    reports = [verify.certify(circuit, spec=str(spec)), verify.certify(read_circuit(circuit), spec=read_spec(spec))]
    assert reports[0].verdict == reports[1].verdict == "certified"
    assert reports[0].margin == reports[1].margin and reports[0].witness is None
    report = verify.certify(circuit, spec, folder / "model.pt2")
    assert report.model_sha256 == reports[0].model_sha256


def test_a_module(folder: Path) -> None:
    module = Small()
    write(folder, tolerance=1e-4, kept="none")
    report = verify.certify(folder / "circuit.json", folder / "spec.json", module)
    assert report.verdict == "falsified" and report.witness is not None
    with torch.no_grad():
        assert torch.allclose(module(torch.tensor(report.witness.input)), torch.tensor(report.witness.model_output))
        assert torch.allclose(module.last.bias, torch.tensor(report.witness.circuit_output))


def test_code_runs_only_where_it_is_allowed(folder: Path) -> None:
    (folder / "certify_test_code.py").write_text(
        "from torch.nn import Linear, ReLU, Sequential\n\n\n"
        "def build():\n    return Sequential(Linear(4, 6), ReLU(), Linear(6, 3))\n"
    )
    write(folder, tolerance=9.0, kept="all", model="certify_test_code:build")
    paths = folder / "circuit.json", folder / "spec.json"
    with pytest.raises(InputError, match="--allow-code"):
        verify.certify(*paths)
    assert "certify_test_code" not in sys.modules
    assert verify.certify(*paths, allow_code=True).verdict == "certified"


@pytest.mark.parametrize(
    "options", [{"timeout_s": 0}, {"timeout_s": float("nan")}, {"device": "tpu"}, {"backend": "nativ"}], ids=str
)
def test_bad_options(options: dict[str, Any], folder: Path) -> None:
    with pytest.raises(InputError):
        verify.certify(folder / "circuit.json", folder / "spec.json", **options)


def test_a_step_that_overruns_is_interrupted(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without being asked to: nothing else uses the timer here."""

    def hang(*_: object) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            pass

    monkeypatch.setattr("verify.ladder.rungs.AttackRung.run", hang)
    began = time.monotonic()
    report = verify.certify(folder / "circuit.json", folder / "spec.json", timeout_s=0.5)
    assert report.verdict == "unknown" and report.reason == TIME_UP and time.monotonic() - began < 20


def test_interrupted_from_python(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("verify.ladder.decide.Ladder.climb", stop)
    with pytest.raises(verify.Interrupted) as raised:
        verify.certify(folder / "circuit.json", folder / "spec.json")
    assert raised.value.report.interrupted and isinstance(raised.value, KeyboardInterrupt)
    assert [claim.reason for claim in raised.value.report.claims] == ["interrupted"]
