"""The command line: what is asked reaches the engine, bad requests are one line, and what stops it leaves a report."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from verify.cli import _code
from verify.commands import codes
from verify.render.progress import said
from verify.report import Report, read_report

ROOT = Path(__file__).resolve().parents[3]


def save(path: Path, *sizes: int) -> None:
    """A ReLU network with sites `relu_1`, `relu_2`, ...; its weights are small enough for every layer to matter."""
    rng = np.random.default_rng(2)
    nodes: list[Any] = []
    weights: list[Any] = []
    last = "x"
    for i, (n, m) in enumerate(pairwise(sizes), 1):
        weights.append(numpy_helper.from_array((rng.normal(size=(n, m)) / 4).astype(np.float32), f"w{i}"))
        end = "y" if i == len(sizes) - 1 else f"fc_{i}"
        nodes.append(helper.make_node("MatMul", [last, f"w{i}"], [end]))
        if end != "y":
            nodes.append(helper.make_node("Relu", [end], [f"relu_{i}"]))
            last = f"relu_{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, s]) for n, s in (("x", sizes[0]), ("y", sizes[-1]))]
    graph = helper.make_graph(nodes, "net", ends[:1], ends[1:], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(path))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """`model.onnx`, `circuit.json`, `spec.json`: a claim that is easily certified."""
    save(tmp_path / "model.onnx", 4, 6, 3)
    write(tmp_path, tolerance=2.0)
    return tmp_path


def write(folder: Path, *, tolerance: float, epsilon: float = 0.01, **spec: Any) -> None:
    size = onnx.load(str(folder / "model.onnx")).graph.input[0].type.tensor_type.shape.dim[1].dim_value
    circuit = {"format": "certify.circuit/1", "model": {"path": "model.onnx"}, "scope": {"relu_1": "neuron"},
               "kept": {"relu_1": [0, 1, 2, 3]}}  # fmt: skip
    entries = {"format": "certify.spec/1", "input": {"kind": "linf", "center": [0.5] * size, "epsilon": epsilon},
               "patching": {"kind": "zero"}, "agreement": {"metric": "logits", "tolerance": tolerance}}  # fmt: skip
    (folder / "circuit.json").write_text(json.dumps(circuit))
    (folder / "spec.json").write_text(json.dumps({**entries, **spec}))


def hard(folder: Path) -> list[str]:
    """A claim that takes minutes to decide. What to call for it, without `--out`."""
    save(folder / "model.onnx", 6, 60, 60, 60, 60, 3)
    write(folder, tolerance=5.0, epsilon=0.4, budget={"time_s": 300})
    circuit = json.loads((folder / "circuit.json").read_text())
    circuit |= {"scope": {"relu_3": "neuron"}, "kept": {"relu_3": list(range(55))}}
    (folder / "circuit.json").write_text(json.dumps(circuit))
    return [sys.executable, "-m", "verify.cli", str(folder / "circuit.json"), "--spec", str(folder / "spec.json")]


def call(*arguments: object) -> int:
    return _code([str(argument) for argument in arguments])


def test_certified_falsified_and_unknown_have_their_codes(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = folder / "circuit.json", "--spec", folder / "spec.json"
    assert call(*paths, "--quiet") == 0
    assert capsys.readouterr().out.startswith("certified margin=")
    assert call(*paths, "--quiet", "--timeout", "1e-9") == 3
    assert capsys.readouterr().out == "unknown bound=none reason=time budget used up\n"
    write(folder, tolerance=1e-6)
    assert call(*paths, "--quiet", "--out", folder / "report.json") == 1
    line = capsys.readouterr().out
    report = read_report(folder / "report.json")
    assert line == report.summary + "\n" and report.witness is not None and report.witness.deviation == report.deviation


def test_options_may_come_first_and_json_is_all_there_is(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call("--json", "--seed", 9, "--spec", folder / "spec.json", "--backend", "native", folder / "circuit.json") == 0
    report = json.loads(capsys.readouterr().out)
    assert report["seed"] == 9 and report["backend"] == "native" and report["claims"][0]["label"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["circuit.json"],
        ["circuit.json", "--spec"],
        ["circuit.json", "--spec", "spec.json", "--timeout", "0"],
        ["circuit.json", "--spec", "spec.json", "--timeout", "nan"],
        ["circuit.json", "--spec", "spec.json", "--timeout", "inf"],
        ["circuit.json", "--spec", "spec.json", "--timeout", "soon"],
        ["circuit.json", "--spec", "spec.json", "--seed", "-1"],
        ["circuit.json", "--spec", "spec.json", "--device", "tpu"],
        ["circuit.json", "--spec", "spec.json", "--certainly"],
        ["circuit.json", "other.json", "--spec", "spec.json"],
        ["circuit.json", "--spec", "spec.json", "--out", ""],
        ["circuit.json", "--spec", "spec.json", "--out", "."],
        ["circuit.json", "--spec", "spec.json", "--out", "circuit.json"],
        ["circuit.json", "--spec", "spec.json", "--out", "model.onnx"],
        ["circuit.json", "--spec", "spec.json", "--out", "circuit.json/report.json"],
        ["circuit.json", "--spec", "spec.json", "--out", "/dev/null"],
        ["circuit.json", "--spec", "spec.json", "--out", "/proc/report.json"],
        ["nosuchcommand", "--spec", "spec.json"],
        ["show"],
        ["show", "spec.json"],
        ["show", "missing.onnx"],
        ["show", "some.package:build"],
    ],
)
def test_a_bad_request_is_one_line(
    arguments: Sequence[str], folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    assert call(*arguments) == 2
    shown = capsys.readouterr()
    assert shown.out == "" and shown.err.count("\n") == 1 and "Traceback" not in shown.err
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(folder / "circuit.json", "--spec", folder / "spec.json", "--device", "cuda") == 2
    assert "cuda" in capsys.readouterr().err


def test_a_fault_of_ours_is_no_answer(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("planted")

    monkeypatch.setattr("verify.ladder.decide.Ladder.climb", broken)
    assert call(folder / "circuit.json", "--spec", folder / "spec.json", "--out", folder / "report.json") == 70
    shown = capsys.readouterr()
    assert "planted" in shown.err and shown.out == "" and not (folder / "report.json").exists()


def test_an_earlier_report_is_replaced(folder: Path) -> None:
    out = folder / "report.json"
    for before in ("", '{"format": "certify.report/1"}'):
        out.write_text(before)
        assert call(folder / "circuit.json", "--spec", folder / "spec.json", "--out", out, "--quiet") == 0
        assert read_report(out).verdict == "certified"


def test_show(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = folder / "report.json"
    call(folder / "circuit.json", "--spec", folder / "spec.json", "--out", out, "--quiet")
    capsys.readouterr()
    for file, words in (
        (folder / "model.onnx", ("relu_1", "6 neurons", "[1, 6]", "*")),
        (folder / "circuit.json", ("relu_1", "neuron", "0-3", "4")),
        (out, ("certified margin=", "4 of 6", "interval bounds")),
    ):
        assert call("show", file) == 0
        shown = capsys.readouterr().out
        assert all(word in shown for word in words), shown


def started(arguments: Sequence[str], folder: Path) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, cwd=folder,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell starts what runs in the background
    )  # fmt: skip


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=["SIGINT", "SIGTERM"])
@pytest.mark.parametrize("after_s", [0.5, 9.0], ids=["while loading", "while deciding"])
def test_stopped_it_leaves_a_report(number: signal.Signals, after_s: float, tmp_path: Path) -> None:
    process = started([*hard(tmp_path), "--out", "report.json"], tmp_path)
    # It has handlers once it has begun to import; before that a signal is not ours.
    time.sleep(after_s)
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    if process.returncode == -number and after_s < 1:
        pytest.skip("the machine is so slow that it had not begun")
    assert process.returncode == 130, err
    assert "Traceback" not in err
    report = read_report(tmp_path / "report.json")
    assert report.interrupted and report.verdict == "unknown" and report.reason == "interrupted"
    assert out == report.summary + "\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["circuit.json", "model.onnx", "report.json", "spec.json"]


def test_time_is_kept_and_progress_shown(tmp_path: Path) -> None:
    arguments = [*hard(tmp_path), "--timeout", "4", "--json"]
    process = started(arguments, tmp_path)
    out, err = process.communicate(timeout=120)
    report = json.loads(out)
    assert process.returncode == 3 and report["verdict"] == "unknown" and report["reason"] == "time budget used up"
    assert report["claims"][0]["time_s"] < 8
    assert report["margin"] is not None and report["deviation"] <= report["tolerance"]
    # A line every 5 s, and nothing else.
    assert all("s " in line for line in err.splitlines())


def test_importing_the_command_or_the_package_imports_nothing_heavy() -> None:
    code = (
        "import sys, verify, verify.cli\n"
        "assert 'certify' in dir(verify)\n"
        "print([m for m in ('torch', 'onnx', 'onnxruntime', 'pydantic', 'numpy', 'rich') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_progress_says_where_it_is() -> None:
    from verify.work.progress import Step

    assert said(Step(1, 5, "index 7", "linear bounds", -0.21, 0.4)) == (
        "claim 2 of 5 (index 7): linear bounds; proven margin -0.21; largest deviation 0.4"
    )
    assert said(Step(0, 1, "center", "quick attack", float("-inf"), None)) == "claim 1 of 1 (center): quick attack"


@pytest.mark.parametrize(
    ("verdict", "status", "code"),
    [
        ("certified", None, 0),
        ("certified", "proven", 0),
        ("certified", "refuted", 1),
        ("certified", "relative", 3),
        ("falsified", None, 1),
        ("unknown", None, 3),
    ],
)
def test_every_exit_code_of_the_contract_is_used(verdict: str, status: str | None, code: int) -> None:
    found = {"level": "local", "proven": status == "proven", "status": status, "reached": "none"} if status else None
    report = Report.model_validate({"verdict": verdict, "minimality": found, "backend": "native", "seed": 0, "time_s": 0.0})
    assert codes.code_of(report) == code and codes.INTERRUPTED == 130


def test_the_names_of_searches_are_those_that_there_are() -> None:
    from verify.cli import cli
    from verify.minimize.choose import ALGORITHMS
    from verify.minimize.orders import ORDERS

    choices = {option.name: option.type for option in cli.commands["discover"].params}
    assert set(choices["algorithm"].choices) == {"auto", *ALGORITHMS}  # pyright: ignore[reportAttributeAccessIssue]
    assert set(choices["order"].choices) == set(ORDERS)  # pyright: ignore[reportAttributeAccessIssue]
