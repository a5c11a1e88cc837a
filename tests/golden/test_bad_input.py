"""Bad input: one line that says where, exit code 2, nothing written, never a traceback."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

from tests.golden.conftest import Run, save_model, write

Case = tuple[dict[str, Any], dict[str, Any]]
Spoil = Callable[[dict[str, Any], dict[str, Any], Path], object]


def put(target: str, *path: str | int, value: object) -> Spoil:
    """Set one entry of the circuit or the spec."""

    def spoil(circuit: dict[str, Any], spec: dict[str, Any], _folder: Path) -> None:
        place: Any = circuit if target == "circuit" else spec
        for key in path[:-1]:
            place = place[key]
        place[path[-1]] = value

    return spoil


def nan_weights(_circuit: dict[str, Any], _spec: dict[str, Any], folder: Path) -> None:
    save_model(folder / "small.onnx", [np.full((6, 8), np.nan), np.ones((8, 3))])


def unsupported(_circuit: dict[str, Any], _spec: dict[str, Any], folder: Path) -> None:
    node = helper.make_node("Hardmax", ["y"], ["z"], name="odd_one")
    save_model(folder / "small.onnx", [np.ones((6, 8)), np.ones((8, 8)), np.ones((8, 3))], [node])


def truncated(_circuit: dict[str, Any], _spec: dict[str, Any], folder: Path) -> None:
    path = folder / "small.onnx"
    path.write_bytes(path.read_bytes()[:200])


def a_pickle(circuit: dict[str, Any], _spec: dict[str, Any], folder: Path) -> None:
    (folder / "model.pt").write_bytes(pickle.dumps({"weights": [1, 2]}))
    circuit["model"]["path"] = "model.pt"


def unread(_circuit: dict[str, Any], _spec: dict[str, Any], folder: Path) -> None:
    model = onnx.load(str(folder / "small.onnx"))
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, str(folder / "small.onnx"))


SPOILT: dict[str, tuple[Spoil, tuple[str, ...]]] = {
    "missing model": (put("circuit", "model", "path", value="smal.onnx"), ("circuit.json", "smal.onnx", "small.onnx")),
    "unknown key": (put("circuit", "scop", value={}), ("circuit.json", "scop", "scope")),
    "unknown key in spec": (put("spec", "input", "epsilom", value=1), ("spec.yaml", "epsilom", "epsilon")),
    "unknown site": (
        lambda c, _s, _f: (c["scope"].update(relu_9="neuron"), c["kept"].update(relu_9="all")),
        ("circuit.json", "relu_9", "relu_"),
    ),
    "index out of range": (
        put("circuit", "kept", "relu_1", value=[0, 1, 2, 612]),
        ("$.kept.relu_1[3]", "612", "has 8", "0..7"),
    ),
    "duplicate index": (put("circuit", "kept", "relu_1", value=[0, 1, 1]), ("$.kept.relu_1[2]",)),
    "site without kept": (lambda c, _s, _f: c["kept"].pop("relu_2"), ("circuit.json", "relu_2")),
    "no such granularity": (put("circuit", "scope", "relu_1", value="channel"), ("circuit.json", "channel")),
    "center of a wrong shape": (put("spec", "input", "center", value=[0.1, 0.2]), ("spec.yaml", "$.input.center", "2", "6")),
    "negative epsilon": (put("spec", "input", "epsilon", value=-0.1), ("spec.yaml", "$.input.epsilon")),
    "epsilon not a number": (lambda _c, s, _f: s["input"].update(epsilon="nan"), ("spec.yaml", "$.input.epsilon")),
    "empty region": (put("spec", "input", "clip", value=[2.0, 3.0]), ("spec.yaml", "empty")),
    "wrong hash": (put("circuit", "model", "sha256", value="0" * 64), ("circuit.json", "sha256")),
    "NaN in weights": (nan_weights, ("small.onnx",)),
    "unsupported operator": (unsupported, ("odd_one", "Hardmax")),
    "unknown operator": (unread, ("NoSuchOperator",)),
    "truncated model": (truncated, ("small.onnx",)),
    "a pickle": (a_pickle, ("model.pt",)),
    "code without leave": (put("circuit", "model", "path", value="some.package:build"), ("--allow-code",)),
    "mean of a wrong shape": (
        put("spec", "patching", value={"kind": "mean", "mean": {"relu_1": [1.0, 2.0], "relu_2": 0.0}}),
        ("spec.yaml", "relu_1"),
    ),
    "mean without a site": (put("spec", "patching", value={"kind": "mean", "mean": {"relu_1": 0.0}}), ("spec.yaml", "relu_2")),
    "no such output": (
        put("spec", "agreement", value={"metric": "output", "outputs": [7], "tolerance": 1}),
        ("spec.yaml", "$.agreement.outputs[0]", "7"),
    ),
    "negative tolerance": (put("spec", "agreement", "tolerance", value=-1), ("spec.yaml", "$.agreement.tolerance")),
    "unknown metric": (put("spec", "agreement", "metric", value="logit"), ("spec.yaml", "logit", "logits")),
    "no time": (put("spec", "budget", value={"time_s": 0}), ("spec.yaml", "time_s")),
}


@pytest.mark.parametrize("name", SPOILT)
def test_spoilt(name: str, run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = case
    spoil, words = SPOILT[name]
    spoil(circuit, spec, tmp_path)
    paths = write(tmp_path, circuit, spec)
    check(run, tmp_path, [paths[0], "--spec", paths[1], "--out", tmp_path / "report.json"], words)


@pytest.mark.parametrize(
    ("circuit", "spec", "words"),
    [
        ('{"format": "certify.circuit/1",\n "model": {"path": }', None, ("circuit.json", "line 2")),
        (None, "format: certify.spec/1\ninput: [unclosed\n", ("spec.yaml", "line")),
        (None, "a: &x [1]\nb: *x\n", ("spec.yaml",)),
        ('{"format": "certify.circuit/1", "format": "certify.circuit/1"}', None, ("circuit.json", "format")),
        ("[]", None, ("circuit.json",)),
        ("", None, ("circuit.json",)),
    ],
)
def test_malformed(circuit: str | None, spec: str | None, words: tuple[str, ...], run: Run, tmp_path: Path, case: Case) -> None:
    paths = write(tmp_path, circuit if circuit is not None else case[0], spec if spec is not None else case[1])
    check(run, tmp_path, [paths[0], "--spec", paths[1], "--out", tmp_path / "report.json"], words)


def test_missing_files_and_wrong_words(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = write(tmp_path, *case)
    folder = tmp_path / "folder"
    folder.mkdir()
    for arguments, words in (
        (["nowhere.json", "--spec", spec], ("nowhere.json",)),
        ([circuit, "--spec", "nowhere.yaml"], ("nowhere.yaml",)),
        ([circuit], ("--spec",)),
        ([circuit, "--spec", spec, "--timeout", "-1"], ("timeout",)),
        ([circuit, "--spec", spec, "--out", folder], ("folder",)),
        ([circuit, "--spec", spec, "--out", tmp_path / "no" / "such" / "report.json"], ("no/such",)),
        ([circuit, "--spec", spec, "--backend", "nativ"], ("nativ",)),
        ([circuit, "--spec", spec, "--no-such-option"], ("--no-such-option",)),
    ):
        check(run, tmp_path, arguments, words)


def check(run: Run, folder: Path, arguments: Sequence[object], words: tuple[str, ...]) -> None:
    before = sorted(folder.rglob("*"))
    done = run(*arguments, "--quiet")  # a slow machine would show progress
    said = done.stderr.strip()
    assert done.returncode == 2, f"{done.returncode}: {done.stdout}{said}"
    assert said and "\n" not in said and "Traceback" not in said, said
    for word in words:
        assert word in said, f"{word!r} is not in {said!r}"
    assert sorted(folder.rglob("*")) == before, "something was written"
    assert not done.stdout.strip() or json.loads(done.stdout) is not None
