"""Other verifiers as processes: what they say is read, timed and checked. The peers here are shell scripts."""

from __future__ import annotations

import os
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from benchmarks.peers import base
from benchmarks.peers.base import Output
from benchmarks.peers.marabou import Marabou
from benchmarks.peers.neuralsat import NeuralSat
from benchmarks.peers.registry import PEERS, peers_in
from benchmarks.peers.vibecheck import Vibecheck
from benchmarks.peers.vnnlib import read_property
from benchmarks.peers.witness import assignment, replayed

VNNLIB = """; the sum of two inputs in [0, 1] exceeds 1.5, or is at most 0.1
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real)
(declare-const Y_1 Real)
(assert (>= X_0 0.0)) (assert (<= X_0 1.0))
(assert (>= X_1 0))
(assert (<= X_1 1e0))
(assert (or (and (>= Y_0 1.5)) (and (<= Y_0 0.1) (<= Y_0 Y_1))))
"""


@pytest.fixture
def query(tmp_path: Path) -> tuple[Path, Path]:
    """`Y = (X_0 + X_1, 0.1)`."""
    weight = numpy_helper.from_array(np.array([[1, 0], [1, 0]], np.float32), "w")
    bias = numpy_helper.from_array(np.array([0, 0.1], np.float32), "b")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["X", "w", "b"], ["Y"])],
        "sum",
        [helper.make_tensor_value_info("X", TensorProto.FLOAT, [1, 2])],
        [helper.make_tensor_value_info("Y", TensorProto.FLOAT, [1, 2])],
        [weight, bias],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    onnx.save(model, tmp_path / "query.onnx")
    (tmp_path / "query.vnnlib").write_text(VNNLIB)
    return tmp_path / "query.onnx", tmp_path / "query.vnnlib"


def pretend(folder: Path, script: str) -> Vibecheck:
    """A peer whose command is a shell script."""
    commands = folder / "vibecheck" / "bin"
    commands.mkdir(parents=True)
    for name, content in (("python", ""), ("vibecheck", script)):
        (commands / name).write_text(f"#!/bin/sh\n{content}\n")
        (commands / name).chmod(0o755)
    return Vibecheck(folder / "vibecheck")


def test_property(query: tuple[Path, Path]) -> None:
    asked = read_property(query[1])
    assert (asked.lower.tolist(), asked.upper.tolist()) == ([0, 0], [1, 1])
    assert len(asked.disjuncts) == 2
    assert asked.excess(np.array([1.75, 0.1])) == -0.25
    assert asked.excess(np.array([0.1, 0.1])) == 0
    assert asked.excess(np.array([0.05, 0.0])) == pytest.approx(0.05)
    assert asked.excess(np.array([np.nan, 0.1])) == np.inf


@pytest.mark.parametrize(
    "broken",
    ["(assert (<= Y_0 1)", "(assert (<= Y_0 1)))", "(assert (not (<= Y_0 1)))", "(check-sat)", "(assert (<= (+ Y_0 Y_1) 1))"],
)
def test_a_property_that_cannot_be_read_is_refused(tmp_path: Path, broken: str) -> None:
    path = tmp_path / "broken.vnnlib"
    path.write_text("(declare-const X_0 Real)\n(declare-const Y_0 Real)\n" + broken)
    with pytest.raises(ValueError):
        read_property(path)


def test_assignments() -> None:
    assert assignment("((X_0 0.5)\n (X_1 -1e-3)\n (Y_0 3))") == (0.5, -1e-3)
    assert assignment("((X_0 0.5) (X_2 1))") is None
    assert assignment("((X_0 half))") is None
    assert assignment("") is None


def test_replay(query: tuple[Path, Path]) -> None:
    exact = replayed(*query, (0.75, 0.75))
    assert exact.confirmed and exact.note == "witness confirmed"
    missed = replayed(*query, (0.74, 0.75))
    assert not missed.confirmed and missed.note.startswith("spurious: the witness misses by 1.0e-02")
    close = replayed(*query, (0.74999, 0.75))
    assert not close.confirmed and close.note.startswith("within tolerance: the witness misses by 1.0e-05")
    outside = replayed(*query, (3.0, 0.75))
    assert outside.confirmed and "moved 2.0e+00" in outside.note
    assert not replayed(*query, (0.75,)).confirmed
    assert not replayed(*query, (float("nan"), 0.75)).confirmed


@pytest.mark.parametrize(
    ("script", "verdict", "confirmed"),
    [
        ("echo unsat", "unsat", None),
        ("echo unknown", "unknown", None),
        ("echo timed-out", "timeout", None),
        ("echo 'sat\n((X_0 1.0) (X_1 0.75))'", "sat", True),
        ("echo 'sat\n((X_0 0.2) (X_1 0.75))'", "sat", False),
        ("echo sat", "sat", None),
        ("echo no licence >&2; exit 3", "error", None),
    ],
)
def test_answers(query: tuple[Path, Path], tmp_path: Path, script: str, verdict: str, confirmed: bool | None) -> None:
    answer = pretend(tmp_path, script).solve(*query, 5)
    assert (answer.verdict, answer.replay.confirmed if answer.replay else None) == (verdict, confirmed)
    assert 0 < answer.time_s < 5
    if verdict == "error":
        assert answer.note == "no licence"


def test_what_overruns_is_ended_with_its_children(
    query: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(base, "GRACE_S", 0.2)
    child = tmp_path / "child"
    script = f"echo '[vibecheck] alpha-crown: worst=-0.25 open=2/2' >&2; sleep 60 & echo $! > {child}; wait"
    answer = pretend(tmp_path, script).solve(*query, 0.3)
    assert (answer.verdict, answer.bound) == ("timeout", -0.25)
    assert 0.5 <= answer.time_s < 5
    for _ in range(50):
        if not alive(int(child.read_text())):
            return
        time.sleep(0.1)
    raise AssertionError("its child was left running")


def alive(pid: int) -> bool:
    """Whether a process runs; one that ended and that nobody waited for does not."""
    try:
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_a_command_that_is_not_there_is_an_error(query: tuple[Path, Path], tmp_path: Path) -> None:
    assert Vibecheck(tmp_path / "nowhere").solve(*query, 1).verdict == "error"


def test_neuralsat_is_read(tmp_path: Path) -> None:
    peer = NeuralSat(tmp_path)
    (tmp_path / "result").write_text("sat\n((X_0 0.5)\n (X_1 0.25)\n (Y_0 1))")
    assert peer.read(Output(0, "", "", 1.0), tmp_path) == ("sat", "", (0.5, 0.25))
    passed_over = Output(0, "", "INFO [VNNLIB] Skipped parsing line: (assert (or (<= Y_0 0))).", 1.0)
    assert peer.read(passed_over, tmp_path)[0] == "error"
    (tmp_path / "result").write_text("invalid_counterexample\n")
    assert peer.read(Output(0, "", "", 1.0), tmp_path) == ("unknown", "invalid_counterexample", None)
    (tmp_path / "result").unlink()
    assert peer.read(Output(1, "", "Traceback\nKeyError: 'Sign'\n", 1.0), tmp_path) == ("error", "KeyError: 'Sign'", None)
    steps = "Iteration: 1   Visited: 40   Bound: -0.0943   Time\nIteration: 2   Visited: 80   Bound: -0.0213   Time"
    assert peer.bound(Output(None, "", steps, 1.0)) == -0.0213


def test_marabou_is_asked_and_read(query: tuple[Path, Path], tmp_path: Path) -> None:
    peer = Marabou(tmp_path)
    command = peer.command(*query, 7, tmp_path)
    assert command[0] == str(tmp_path / "bin" / "python") and Path(command[-1]).is_file()
    assert peer.read(Output(0, "killed", "", 1.0), tmp_path) == ("error", "killed", None)
    (tmp_path / "result.json").write_text('{"verdict": "sat", "witness": [1, 0.5]}')
    assert peer.read(Output(0, "", "", 1.0), tmp_path) == ("sat", "", (1, 0.5))


def test_what_is_installed(tmp_path: Path) -> None:
    pretend(tmp_path, "echo unsat")
    found, absent = peers_in(tmp_path)
    assert [peer.name for peer in found] == ["vibecheck"]
    assert sorted(absent) == sorted(set(PEERS) - {"vibecheck"})
