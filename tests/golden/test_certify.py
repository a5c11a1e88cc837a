"""The main job through the installed command: verdicts, exit codes, the last line, the report."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from tests.golden.conftest import ROOT, Run, save_model, write

CASES = sorted(path.parent for path in (ROOT / "benchmarks" / "suites").glob("*/*/expected.json"))
EXIT = {"certified": 0, "falsified": 1, "unknown": 3}
LAST = {
    "certified": r"certified margin=\S+ time=\S+s",
    "falsified": r"falsified deviation=\S+ > tolerance=\S+",
    "unknown": r"unknown bound=\S+ reason=.+",
}


@pytest.mark.parametrize("folder", CASES, ids=lambda path: path.name)
def test_bundled_cases(folder: Path, run: Run, tmp_path: Path) -> None:
    expected = json.loads((folder / "expected.json").read_text())["verdict"]
    out = tmp_path / "report.json"
    done = run(folder / "circuit.json", "--spec", folder / "spec.yaml", "--out", out)
    assert done.returncode == EXIT[expected], done.stderr
    assert re.fullmatch(LAST[expected], done.stdout.strip().splitlines()[-1])
    report = json.loads(out.read_text())
    jsonschema.validate(report, json.loads((ROOT / "verify" / "schemas" / "report.schema.json").read_text()))
    assert report["verdict"] == expected and report["format"] == "certify.report/1"
    assert report["model_sha256"] and report["versions"]["torch"] and report["queries"]["asked"] >= 1
    if expected == "certified":
        assert report["margin"] >= 0 and report["deviation"] <= report["tolerance"] - report["margin"]
    else:
        assert report["witness"]["deviation"] > report["tolerance"]
    shown = run("show", out)
    assert shown.returncode == 0 and expected in shown.stdout


def _asked(folder: Path, circuit: dict[str, Any], spec: dict[str, Any]) -> tuple[Path, str, Path]:
    paths = write(folder, circuit, spec)
    return paths[0], "--spec", paths[1]


def test_json_is_the_report_and_nothing_else(run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    circuit, spec = write(tmp_path, *case)
    done = run(circuit, "--spec", spec, "--json", "--seed", 7)
    assert json.loads(done.stdout)["seed"] == 7 and done.returncode in (0, 1, 3)


def test_same_seed_same_answer(run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    case[1]["agreement"]["tolerance"] = 0.02
    circuit, spec = write(tmp_path, *case)
    first, second = (json.loads(run(circuit, "--spec", spec, "--json", "--seed", 3).stdout) for _ in range(2))
    for report in (first, second):
        del report["time_s"], report["rungs"]
        for claim in report["claims"]:
            del claim["time_s"]
    assert first == second


def test_several_centers_are_claims_and_their_conjunction(
    run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    circuit, spec = case
    np.savez(tmp_path / "inputs.npz", x=np.random.default_rng(1).uniform(size=(9, 6)))
    spec["input"]["center"] = {"file": "inputs.npz", "array": "x", "index": [0, 4, 8]}
    spec["agreement"]["tolerance"] = 50.0
    paths = write(tmp_path, circuit, spec)
    report = json.loads(run(paths[0], "--spec", paths[1], "--json").stdout)
    assert [claim["label"] for claim in report["claims"]] == ["index 0", "index 4", "index 8"]
    assert report["verdict"] == "certified" and report["margin"] == min(claim["margin"] for claim in report["claims"])


@pytest.mark.parametrize("patching", [{"kind": "zero"}, {"kind": "mean", "mean": {"relu_1": 0.3, "relu_2": [0.1] * 8}},
                                      {"kind": "box", "box": {"lower": {"relu_1": 0.0, "relu_2": 0.0},
                                                              "upper": {"relu_1": 0.2, "relu_2": 0.2}}}])  # fmt: skip
@pytest.mark.parametrize(
    "agreement",
    [
        {"metric": "logits", "norm": "l1", "tolerance": 9.0},
        {"metric": "logits", "norm": "l2", "tolerance": 9.0},
        {"metric": "logit_difference", "target": 0, "against": 2, "tolerance": 9.0},
        {"metric": "top1", "tolerance": 9.0},
        {"metric": "output", "outputs": [1], "tolerance": 9.0},
        {"metric": "feature", "site": "relu_2", "direction": [1, -1, 0.5, 0, 0, 2, 0, 0], "below": 9.0, "above": -9.0},
    ],
)
def test_every_agreement_and_patching(
    patching: object, agreement: object, run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]
) -> None:
    circuit, spec = case
    spec |= {"patching": patching, "agreement": agreement}
    paths = write(tmp_path, circuit, spec)
    done = run(paths[0], "--spec", paths[1])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("kind", ["reachable", "resample", "closed"])
def test_values_from_a_region(kind: str, run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    circuit, spec = case
    for tolerance, expected in ((9.0, 0), (1e-3, 1)):
        spec |= {"patching": {"kind": kind, kind: spec["input"]}, "agreement": {"metric": "logits", "tolerance": tolerance}}
        done = run(*_asked(tmp_path, circuit, spec), "--json")
        assert done.returncode == expected, done.stdout + done.stderr
        report = json.loads(done.stdout)
        assert report["claims"][0]["monotone"]["known"] == (kind == "closed")
    rows = [row for site in report["witness"]["patch_rows"].values() for row in site if row is not None]
    assert bool(rows) == (kind != "closed") and len(report["witness"]["patch_inputs"]) == len(set(rows))


@pytest.mark.parametrize(
    "region",
    [
        {"kind": "l2", "center": [0.5] * 6, "epsilon": 0.05, "clip": [0, 1]},
        {"kind": "box", "lower": [0.4] * 6, "upper": [0.5] * 6},
        {"kind": "hull", "points": [[0.1] * 6, [0.2] * 6, [0.1, 0.2, 0.1, 0.2, 0.1, 0.2]]},
    ],
)
def test_every_region(region: object, run: Run, tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    circuit, spec = case
    for tolerance, expected in ((9.0, 0), (1e-6, 1)):
        spec |= {"input": region, "agreement": {"metric": "logits", "tolerance": tolerance}}
        paths = write(tmp_path, circuit, spec)
        done = run(paths[0], "--spec", paths[1])
        assert done.returncode == expected, done.stdout + done.stderr


def test_help_is_quick_and_imports_no_torch(command: list[str], run: Run) -> None:
    assert run("--help").returncode == 0
    began = time.monotonic()
    run("--help")
    if time.monotonic() - began > 1:  # a shared machine: then count what is imported instead
        module = subprocess.run(
            [Path(command[0]).with_name("python"), "-X", "importtime", "-c", "import verify.cli"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert not re.search(r"\| +(torch|onnx|onnxruntime|pydantic)$", module.stderr, re.MULTILINE)


def test_show_lists_sites(run: Run) -> None:
    done = run("show", ROOT / "benchmarks" / "models" / "digits_cnn.onnx")
    assert done.returncode == 0
    for word in ("relu_1", "relu_3", "8 channels", "32 neurons"):
        assert word in done.stdout


def test_interrupted_leaves_a_report(command: list[str], tmp_path: Path, case: tuple[dict[str, Any], dict[str, Any]]) -> None:
    rng = np.random.default_rng(2)
    save_model(tmp_path / "small.onnx", [rng.normal(size=s) for s in ((6, 60), (60, 60), (60, 60), (60, 3))])
    circuit, spec = case
    circuit |= {"scope": {"relu_3": "neuron"}, "kept": {"relu_3": list(range(40))}}
    # Hopeless by bounds, and no witness: it searches until it is stopped.
    spec["input"] |= {"epsilon": 0.4}
    spec |= {"agreement": {"metric": "logits", "tolerance": 1e4}, "budget": {"time_s": 300}}
    spec["agreement"]["tolerance"] = 400.0
    paths = write(tmp_path, circuit, spec)
    out = tmp_path / "report.json"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [*command, str(paths[0]), "--spec", str(paths[1]), "--out", str(out)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=tmp_path,
    )  # fmt: skip
    time.sleep(6)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode in (0, 1, 130), said
    assert "Traceback" not in said
    if process.returncode == 130:
        report = json.loads(out.read_text())
        assert report["interrupted"] and report["verdict"] == "unknown"
    assert not list(tmp_path.glob("*.tmp"))
