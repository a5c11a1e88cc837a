"""`certify export vnnlib` through the installed command: files, the stable line, errors, and answers that agree with ours."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from benchmarks.peers.vnnlib import Property, read_property
from tests.golden.conftest import ROOT, Run, write

Case = tuple[dict[str, Any], dict[str, Any]]

LINE = r"exported (\S+\.onnx) (\S+\.vnnlib) inputs=(\d+) patched=(\d+) outputs=(\d+) clauses=(\d+)"
SUITE = ROOT / "benchmarks" / "suites" / "digits"


def exported(run: Run, *arguments: object) -> list[tuple[Path, Path, int, int, int, int]]:
    """What the lines on standard output say."""
    done = run("export", "vnnlib", *arguments)
    assert done.returncode == 0, done.stderr
    found = [re.fullmatch(LINE, line) for line in done.stdout.splitlines()]
    rows = [match.groups() for match in found if match]
    assert len(rows) == len(found) > 0, done.stdout
    return [(Path(a), Path(b), *map(int, sizes)) for a, b, *sizes in rows]  # pyright: ignore[reportReturnType]


def excess(network: Path, stated: Property, x: np.ndarray) -> float:
    """As `Property.excess`, at one input of the network: below 0 inside a disjunct."""
    session = onnxruntime.InferenceSession(network.read_bytes(), providers=["CPUExecutionProvider"])
    y: Any = session.run(None, {"X": x.reshape(1, -1).astype(np.float32)})[0]
    return stated.excess(y.reshape(-1).astype(np.float64))


@pytest.mark.parametrize("name", ["mlp_falsified", "cnn_channel_falsified"])
def test_our_counterexample_is_one_of_the_exported_query(name: str, run: Run, tmp_path: Path) -> None:
    circuit, spec = SUITE / name / "circuit.json", SUITE / name / "spec.yaml"
    ((network, property, inputs, patched, _, clauses),) = exported(run, circuit, "--spec", spec, "--out", tmp_path / "out")
    assert (network.name, property.name, inputs, patched, clauses) == ("query.onnx", "query.vnnlib", 64, 0, 20)
    stated = read_property(property)
    witness = json.loads(run(circuit, "--spec", spec, "--json").stdout)["witness"]
    x = np.array(witness["input"]).reshape(-1)
    assert (stated.lower <= x).all() and (x <= stated.upper).all()
    found = excess(network, stated, x)
    assert found < 0  # Y is at most minus the tolerance: how far beyond is how far the deviation is
    tolerance = json.loads(run(circuit, "--spec", spec, "--json").stdout)["tolerance"]
    assert found == pytest.approx(tolerance - witness["deviation"], abs=1e-4)


def test_a_proven_claim_has_no_counterexample_among_samples(run: Run, tmp_path: Path) -> None:
    case = SUITE / "cnn_channel_certified"
    rows = exported(run, case / "circuit.json", "--spec", case / "spec.yaml", "--out", tmp_path / "out")
    network, stated = rows[0][0], read_property(rows[0][1])
    rng = np.random.default_rng(0)
    for x in rng.uniform(stated.lower, stated.upper, (50, 64)):
        assert excess(network, stated, x) > 0


def test_patched_intervals_are_inputs(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = case
    spec["patching"] = {"kind": "box", "lower": {"relu_1": -0.5, "relu_2": 0.0}, "upper": {"relu_1": 3.0, "relu_2": 0.0}}
    spec["agreement"]["tolerance"] = 0.5
    paths = write(tmp_path, circuit, spec)
    ((network, property, inputs, patched, *_),) = exported(run, paths[0], "--spec", paths[1], "--out", "out")
    assert (inputs, patched) == (6 + 3, 3)  # relu_1 keeps 5 of 8
    stated = read_property(tmp_path / property)
    assert stated.lower[6:].tolist() == [-0.5] * 3 and stated.upper[6:].tolist() == [3.0] * 3
    assert "; X_6 .. X_8: patched at relu_1, elements 4, 6-7" in (tmp_path / property).read_text()
    report = json.loads(run(paths[0], "--spec", paths[1], "--json").stdout)
    assert report["verdict"] == "falsified"
    patch = np.array(report["witness"]["patch"]["relu_1"]).reshape(-1)
    x = np.concatenate([np.array(report["witness"]["input"]).reshape(-1), patch[[4, 6, 7]]])
    assert excess(tmp_path / network, stated, x) < 0


@pytest.mark.parametrize(
    ("agreement", "sizes"),
    [
        ({"metric": "logits", "norm": "l1", "tolerance": 9.0}, (1, 1)),
        ({"metric": "logits", "norm": "l2", "tolerance": 9.0}, (1, 1)),
        ({"metric": "logit_difference", "target": 0, "against": 2, "tolerance": 9.0}, (2, 2)),
        ({"metric": "output", "outputs": [1], "tolerance": 9.0}, (2, 2)),
        ({"metric": "top1"}, None),
    ],
    ids=lambda value: value.get("norm", value["metric"]) if isinstance(value, dict) else "",
)
def test_every_agreement(agreement: Any, sizes: Any, run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = case
    spec["agreement"] = agreement
    paths = write(tmp_path, circuit, spec)
    ((network, property, _, _, outputs, clauses),) = exported(run, paths[0], "--spec", paths[1], "--out", "out")
    assert sizes is None or (outputs, clauses) == sizes
    stated = read_property(tmp_path / property)
    assert len(stated.disjuncts) == clauses and stated.disjuncts[0][0].shape[1] == outputs
    kinds = {node.op_type for node in onnx.load(str(tmp_path / network)).graph.node}
    assert kinds <= {"Gemm", "MatMul", "Add", "Relu", "Concat", *(["Mul"] if agreement.get("norm") == "l2" else [])}


def test_several_centers_are_several_pairs(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = case
    np.savez(tmp_path / "inputs.npz", x=np.random.default_rng(1).uniform(size=(9, 6)))
    spec["input"]["center"] = {"file": "inputs.npz", "array": "x", "index": [0, 4]}
    paths = write(tmp_path, circuit, spec)
    rows = exported(run, paths[0], "--spec", paths[1], "--out", "out")
    assert [row[0].name for row in rows] == ["index_0.onnx", "index_4.onnx"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == sorted(path.name for row in rows for path in row[:2])


def test_bad_requests_are_one_line_and_write_nothing(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = write(tmp_path, *case)
    ball = tmp_path / "ball.json"
    ball.write_text(json.dumps(case[1] | {"input": {"kind": "l2", "center": [0.5] * 6, "epsilon": 0.1}}))
    exported(run, circuit, "--spec", spec, "--out", "taken")
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    for arguments, words in (
        ([circuit, "--spec", ball, "--out", "new"], ("ball.json $.input.kind", "'l2'", "boxes", "linf")),
        ([circuit, "--spec", spec, "--out", "taken"], ("query.onnx exists", "--force")),
        ([circuit, "--spec", spec, "--out", spec], ("spec.yaml is no directory",)),
        ([circuit, "--spec", spec, "--out", "no/such"], ("no is no directory",)),
        ([circuit, "--spec", spec], ("--out",)),
        ([circuit, "--out", "new"], ("--spec",)),
        (["nowhere.json", "--spec", spec, "--out", "new"], ("nowhere.json",)),
    ):
        done = run("export", "vnnlib", *arguments)
        said = done.stderr.strip()
        assert done.returncode == 2 and not done.stdout and "\n" not in said and "Traceback" not in said, said
        assert all(word in said for word in words), said
    for arguments in (["export"], ["export", "smtlib"]):
        done = run(*arguments)
        assert done.returncode == 2 and "\n" not in done.stderr.strip(), done.stderr
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert len(exported(run, circuit, "--spec", spec, "--out", "taken", "--force")) == 1


VERSION_2 = [
    ("zero", {"metric": "logits", "tolerance": 0.05}),
    ("zero", {"metric": "output", "outputs": [1], "tolerance": 2.0}),
    ("mean", {"metric": "logit_difference", "target": 0, "against": 1, "tolerance": 2.0}),
    ("mean", {"metric": "top1"}),
]


@pytest.mark.parametrize(("kind", "agreement"), VERSION_2)
def test_two_networks_in_version_2_get_our_verdict(
    run: Run, tmp_path: Path, case: Case, kind: str, agreement: dict[str, Any]
) -> None:
    circuit, spec = case
    patching = {"kind": kind, **({"mean": {"relu_1": 0.05, "relu_2": 0.1}} if kind == "mean" else {})}
    paths = write(tmp_path, circuit, {**spec, "patching": patching, "agreement": agreement})
    done = run("export", "vnnlib", paths[0], "--spec", paths[1], "--out", "two", "--version", 2)
    assert done.returncode == 0 and re.fullmatch(r"exported \S+ \S+ \S+ clauses=\d+", done.stdout.strip()), done.stderr
    networks = [word for name in ("model", "circuit") for word in ("--network", f"{name}=two/{name}.onnx")]
    theirs = run("vnnlib", "two/query.vnnlib", *networks, "--timeout", 60, "--quiet")
    ours = run(paths[0], "--spec", paths[1], "--quiet")
    assert theirs.returncode == ours.returncode in (0, 1), theirs.stderr + ours.stderr


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        (
            {
                "patching": {
                    "kind": "box",
                    "box": {"lower": {"relu_1": 0.0, "relu_2": 0.0}, "upper": {"relu_1": 1.0, "relu_2": 1.0}},
                }
            },
            "patching of kind 'box'",
        ),
        ({"agreement": {"metric": "logits", "norm": "l1", "tolerance": 1.0}}, "use --version 1"),
    ],
)
def test_what_version_2_does_not_state(run: Run, tmp_path: Path, case: Case, changed: dict[str, Any], said: str) -> None:
    paths = write(tmp_path, case[0], {**case[1], **changed})
    done = run("export", "vnnlib", paths[0], "--spec", paths[1], "--out", "two", "--version", 2)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "two").exists()
