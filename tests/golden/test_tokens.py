"""Claims about token sequences through the installed command, on the bundled induction model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.golden.conftest import ROOT, Run, write

SITES = ("blocks.0.attn.hook_z", "blocks.1.attn.hook_z")
ROWS = [[3, 5, 1, 0, 2, 3], [0, 1, 2, 3, 4, 0], [7, 7, 2, 6, 4, 2]]  # A B ... A
TOP1 = {"metric": "top1", "tolerance": 0.0}


def asked(
    folder: Path, region: dict[str, Any], kept: tuple[list[int], list[int]], agreement: dict[str, Any] = TOP1
) -> tuple[Path, Path]:
    model = ROOT / "benchmarks" / "models" / "induction.onnx"
    circuit = {
        "format": "certify.circuit/1",
        "model": {"path": str(model)},
        "scope": dict.fromkeys(SITES, "head"),
        "kept": dict(zip(SITES, kept, strict=True)),
    }
    spec = {
        "format": "certify.spec/1",
        "input": {"kind": "tokens", **region},
        "patching": {"kind": "zero"},
        "agreement": agreement,
        "budget": {"time_s": 60},
    }
    return write(folder, circuit, spec)


@pytest.mark.parametrize(
    ("region", "kept", "code"),
    [
        ({"sequences": {"file": "rows.npz", "array": "ids"}}, ([2], [0]), 0),
        ({"sequences": ROWS}, ([0, 1, 3], [0, 1, 2, 3]), 1),
        ({"positions": [[3], [5], [1], [0], [4], [3]], "epsilon": 0.001}, ([2], [0]), 0),  # a ball around one sequence
    ],
)
def test_heads_of_induction(
    tmp_path: Path, run: Run, region: dict[str, Any], kept: tuple[list[int], list[int]], code: int
) -> None:
    np.savez(tmp_path / "rows.npz", ids=np.array(ROWS))
    circuit, spec = asked(tmp_path, region, kept)
    done = run(circuit, "--spec", spec, "--out", "report.json")
    assert done.returncode == code, done.stdout + done.stderr
    report = json.loads((tmp_path / "report.json").read_text())
    if code == 1:
        rows = np.array(report["witness"]["input"]).reshape(6, 8)
        assert rows.argmax(1).tolist() in ROWS and np.array_equal(rows.sum(1), np.ones(6))


@pytest.mark.parametrize(("kept", "verdict"), [(([2], [0]), "certified"), (([0, 1, 3], [0, 1, 2, 3]), "falsified")])
def test_a_certificate_is_the_claim_itself(tmp_path: Path, run: Run, kept: tuple[list[int], list[int]], verdict: str) -> None:
    circuit, spec = asked(tmp_path, {"sequences": ROWS}, kept)
    done = run(circuit, "--spec", spec, "--certificate", "proof")
    assert done.stdout.startswith(verdict), done.stdout + done.stderr
    checked = run("check", "proof")
    assert checked.returncode == 0 and checked.stdout.startswith(f"confirmed {verdict} claims=1"), checked.stdout
    assert sum(file.stat().st_size for file in (tmp_path / "proof").iterdir()) < 4000
    asked(tmp_path, {"sequences": [*ROWS, [0, 1, 2, 3, 4, 1]]}, kept)
    assert run("check", "proof").stdout.startswith("rejected spec")


def test_what_certificates_do_not_cover_is_said_first(tmp_path: Path, run: Run) -> None:
    circuit, spec = asked(tmp_path, {"sequences": ROWS, "epsilon": 0.001}, ([2], [0]))
    done = run(circuit, "--spec", spec, "--certificate", "proof")
    assert done.returncode == 2 and len(done.stderr.strip().splitlines()) == 1 and not (tmp_path / "proof").exists()


def test_a_token_that_there_is_not(tmp_path: Path, run: Run) -> None:
    circuit, spec = asked(tmp_path, {"positions": [[0], [1], [2], [3], [4], [8]]}, ([2], [0]))
    done = run(circuit, "--spec", spec)
    assert done.returncode == 2
    assert done.stderr.strip().endswith("spec.yaml $.input.positions[5][0]: token 8; the vocabulary has 8; use 0..7")
