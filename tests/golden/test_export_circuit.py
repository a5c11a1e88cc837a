"""`certify export eap|circuitkit|onnx` through the command: what is written is the circuit, and comes back as it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from specs.encode import encode
from specs.load import read_circuit, read_spec
from specs.models.runtime import Intervention
from tests.golden.conftest import ROOT, Run
from verify.cli import main
from verify.model import model_of

MODEL = ROOT / "benchmarks" / "models" / "digits_cnn.onnx"
SUITE = ROOT / "benchmarks" / "suites" / "digits"
MAP = {
    "a0.h0": ["relu_1", 0], "a0.h1": ["relu_1", 1], "m0": ["relu_1", [2, 3, 4, 5, 6, 7]], "a1.h0": ["relu_2", 0],
    "a1.h1": ["relu_2", [1, 2, 3, 4, 5, 6]], "m1": ["relu_2", 7],
}  # fmt: skip


@pytest.fixture
def inside(capsys: pytest.CaptureFixture[str]) -> Run:
    """As `run`, in this process."""

    def inside(*arguments: object) -> subprocess.CompletedProcess[str]:
        words = [str(argument) for argument in arguments]
        with pytest.raises(SystemExit) as stopped:
            main(words)
        captured = capsys.readouterr()
        code: Any = stopped.value.code
        return subprocess.CompletedProcess(words, code, captured.out, captured.err)

    return inside


@pytest.fixture
def circuit(tmp_path: Path) -> Path:
    kept = {"relu_1": [0, 2, 3, 4, 5, 6, 7], "relu_2": [0, 7]}
    entries = {"format": "certify.circuit/1", "model": {"path": str(MODEL)}, "kept": kept}
    (tmp_path / "circuit.json").write_text(json.dumps(entries | {"scope": dict.fromkeys(kept, "channel")}))
    (tmp_path / "map.json").write_text(json.dumps(MAP))
    return tmp_path / "circuit.json"


def report(file: Path, changes: dict[str, Any]) -> dict[str, Any]:
    from hashlib import sha256

    stated = json.loads(file.read_text())
    minimality: dict[str, Any] = {
        "level": "local",
        "proven": False,
        "status": "relative",
        "reached": "quasi",
        "unresolved": ["relu_2[7]"],
    }
    minimality |= {"core": ["relu_1[0]", *(f"relu_1[{i}]" for i in range(2, 8))]}
    found: dict[str, Any] = {
        "verdict": "certified",
        "margin": 0.5,
        "backend": "native",
        "seed": 0,
        "time_s": 1.0,
        "minimality": minimality,
    }
    found["circuit"] = {"size": 9, "scope_size": 16, "scope": stated["scope"], "kept": stated["kept"]}
    return {**found, "model_sha256": sha256(MODEL.read_bytes()).hexdigest(), **changes}


@pytest.mark.parametrize("tool", ["eap", "circuitkit"])
def test_a_circuit_comes_back_with_its_proofs(tool: str, circuit: Path, inside: Run, tmp_path: Path) -> None:
    paths = {name: tmp_path / f"{name}.json" for name in ("report", "map", "out", "back")}
    paths["report"].write_text(json.dumps(report(circuit, {})))
    done = inside(
        "export", tool, circuit, "--report", paths["report"], "--map", paths["map"], "--out", paths["out"]
    )  # fmt: skip
    assert done.returncode == 0 and "nodes=6 kept=4 verdict=certified" in done.stdout, done.stderr
    written = json.loads(paths["out"].read_text())
    proofs = {"a0.h0": "core", "a0.h1": "unneeded", "m0": "core", "a1.h0": "kept", "a1.h1": "unneeded", "m1": "undecided"}
    if tool == "eap":
        assert {name: written["nodes"][name]["proof"] for name in MAP} == proofs
        assert not written["edges"]["a0.h1->m0"]["in_graph"] and written["edges"]["a0.h0->a1.h0<q>"]["in_graph"]
        assert len(written["edges"]) == 46  # those of a transformer of two layers with two heads
    else:
        assert written["metadata"]["algorithm_params"]["certify"]["proof"] == proofs
    listed = ["--listed", "both"] if tool == "circuitkit" else []
    done = inside("import", tool, paths["out"], "--model", MODEL, "--map", paths["map"], "--out", paths["back"], *listed)
    assert done.returncode == 0, done.stderr
    assert json.loads(paths["back"].read_text())["kept"] == json.loads(circuit.read_text())["kept"]


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"model_sha256": "0" * 64}, "another model"),
        ({"circuit": {"size": 0, "scope_size": 16, "scope": {"relu_1": "channel"}, "kept": {}}}, "another scope"),
    ],
)
def test_a_report_of_something_else_proves_nothing(
    changes: dict[str, Any], said: str, circuit: Path, inside: Run, tmp_path: Path
) -> None:
    (tmp_path / "report.json").write_text(json.dumps(report(circuit, changes)))
    done = inside("export", "eap", circuit, "--report", tmp_path / "report.json", "--out", tmp_path / "out.json")
    assert done.returncode == 2 and said in done.stderr and not (tmp_path / "out.json").exists()


@pytest.mark.parametrize("name", ["cnn_channel_certified", "mlp_mean_certified"])
def test_the_pruned_model_is_the_circuit(name: str, inside: Run, tmp_path: Path) -> None:
    case, out = SUITE / name, tmp_path / "pruned.onnx"
    done = inside("export", "onnx", case / "circuit.json", "--spec", case / "spec.yaml", "--out", out)
    assert done.returncode == 0 and "ablated=" in done.stdout, done.stderr
    circuit, spec = read_circuit(case / "circuit.json"), read_spec(case / "spec.yaml")
    model = model_of(circuit, spec, None, False)
    problem = encode(circuit, spec, model)
    gates, graph = problem.claims[0].query.gates, model.graph
    kept = {site: elements[0].numpy() for site, elements in gates.expand(problem.mask).items()}
    patch = {gate.tensor: gate.patch.lower.numpy() for gate in gates.gates}
    session = onnxruntime.InferenceSession(out.read_bytes(), providers=["CPUExecutionProvider"])
    for seed in range(5):
        x = torch.rand(graph.input_shape, generator=torch.Generator().manual_seed(seed)).numpy()
        found = np.asarray(session.run(None, {"input": x})[0])
        original = model.runtime.intervened(x, Intervention(kept, patch))
        assert np.allclose(found, original, atol=1e-4)
    again = inside("export", "onnx", case / "circuit.json", "--spec", case / "spec.yaml", "--out", out)
    assert again.returncode == 2 and "--force" in again.stderr


def test_patching_without_one_value_has_no_pruned_model(inside: Run, tmp_path: Path) -> None:
    case = SUITE / "mlp_certified"
    spec = (case / "spec.yaml").read_text().replace("../../../models", str(MODEL.parent))
    lines = [line for line in spec.splitlines() if "kind: zero" not in line]
    at = lines.index("patching:")
    lines[at : at + 1] = [
        "patching:",
        "  kind: box",
        "  lower: {relu_1: 0.0, relu_2: 0.0}",
        "  upper: {relu_1: 1.0, relu_2: 1.0}",
    ]
    (tmp_path / "spec.yaml").write_text("\n".join(lines) + "\n")
    out = tmp_path / "out.onnx"
    done = inside("export", "onnx", case / "circuit.json", "--spec", tmp_path / "spec.yaml", "--out", out)
    assert done.returncode == 2 and "'box'" in done.stderr and "zero, mean or constant" in done.stderr, done.stderr
    assert not out.exists()
