"""`certify vnnlib` through the installed command: the word, the exit code, the counterexample."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from tests.golden.conftest import Run, save_model

WEIGHTS = [np.array([[1.0, -1.0], [1.0, 1.0]]), np.array([[1.0], [-1.0]])]
"""`y = relu(a + b) - relu(b - a)`: between -1 and 2 on the box [-1, 1]^2, and the difference of two convex functions."""

HEAD = "(declare-const X_0 Real)(declare-const X_1 Real)(declare-const Y_0 Real)\n" + "".join(
    f"(assert (>= X_{i} -1.0))(assert (<= X_{i} 1.0))\n" for i in range(2)
)
CASES = {
    "unsat": ("(assert (>= Y_0 2.0001))", "unsat", 0),
    "sat": ("(assert (or (<= Y_0 -3) (>= (+ Y_0 X_0) 2.9)))", "sat", 1),
    "on the boundary": ("(assert (>= Y_0 2.0))", "sat", 1),
    "only inputs": ("(assert (<= (+ X_0 X_1) -1.9))", "sat", 1),
    "alternatives of inputs": ("(assert (or (and (<= X_0 -0.5) (>= Y_0 0.9)) (and (>= X_0 2) (<= Y_0 0))))", "unsat", 0),
    "no such input": ("(assert (>= X_0 3))(assert (<= Y_0 0))", "unsat", 0),
    "nothing asserted of the output": ("", "sat", 1),
}


def values(text: str) -> dict[str, float]:
    return {name: float(number) for name, number in re.findall(r"\(([^\s()]+) ([-\d.]+)\)", text)}


@pytest.mark.parametrize("name", CASES)
def test_queries_of_version_1(name: str, run: Run, tmp_path: Path) -> None:
    assertion, word, code = CASES[name]
    save_model(tmp_path / "net.onnx", WEIGHTS)
    (tmp_path / "q.vnnlib").write_text(HEAD + assertion)
    done = run("vnnlib", "net.onnx", "q.vnnlib", "--timeout", 60, "--out", "answer.txt")
    assert (done.returncode, done.stdout) == (code, f"{word}\n"), done.stderr
    written = (tmp_path / "answer.txt").read_text()
    assert written.splitlines()[0] == word
    if word == "sat":
        found = values(written)
        x = np.array([[found["X_0"], found["X_1"]]], dtype=np.float32)
        session = onnxruntime.InferenceSession((tmp_path / "net.onnx").read_bytes(), providers=["CPUExecutionProvider"])
        y = session.run(None, {"x": x})[0]
        assert abs(x).max() <= 1 and np.float32(found["Y_0"]) == np.asarray(y).reshape(-1)[0]


def test_a_strict_condition_is_not_met_on_the_boundary(run: Run, tmp_path: Path) -> None:
    """No proof reaches a supremum exactly, rounding charged; but nothing there is a counterexample."""
    save_model(tmp_path / "net.onnx", WEIGHTS)
    (tmp_path / "q.vnnlib").write_text(HEAD + "(assert (> Y_0 2.0))")
    done = run("vnnlib", "net.onnx", "q.vnnlib", "--timeout", 3, "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (3, "unknown\n", "")


TWO = """(vnnlib-version <2.0>)
(declare-network f (declare-input X float32 [1, 2]) (declare-output Y float32 [1, 1]))
(declare-network g {relation} (declare-input V float32 [1, 2]) (declare-output W float32 [1, 1]))
(assert (and (>= X[0,0] -1.0) (<= X[0,0] 1.0) (>= X[0,1] -1.0) (<= X[0,1] 1.0)))
(assert (and (== V[0,0] X[0,0]) (== V[0,1] X[0,1])))
(assert (>= Y[0,0] (+ W[0,0] 0.01)))
"""


def test_two_networks(run: Run, tmp_path: Path) -> None:
    """The same network on the same input gives the same; another one does not."""
    save_model(tmp_path / "f.onnx", WEIGHTS)
    save_model(tmp_path / "g.onnx", [WEIGHTS[0], WEIGHTS[1] * 0.5])
    (tmp_path / "same.vnnlib").write_text(TWO.format(relation="(equal-to f)"))
    (tmp_path / "other.vnnlib").write_text(TWO.format(relation=""))
    same = run("vnnlib", "same.vnnlib", "--network", "f=f.onnx", "--timeout", 60)
    assert (same.returncode, same.stdout) == (0, "unsat\n"), same.stderr
    given = ("--network", "f=f.onnx", "--network", "g=g.onnx", "--out", "answer.txt")
    other = run("vnnlib", "other.vnnlib", *given, "--timeout", 60)
    assert (other.returncode, other.stdout) == (1, "sat\n"), other.stderr
    found = values((tmp_path / "answer.txt").read_text())
    assert found["Y[0,0]"] >= found["W[0,0]"] + 0.01 and found["V[0,1]"] == found["X[0,1]"]
    missing = run("vnnlib", "other.vnnlib", "--network", "f=f.onnx")
    assert missing.returncode == 2 and missing.stderr.count("\n") == 1 and "--network g=" in missing.stderr


def test_bad_requests_write_nothing(run: Run, tmp_path: Path) -> None:
    save_model(tmp_path / "net.onnx", WEIGHTS)
    (tmp_path / "q.vnnlib").write_text(HEAD)
    (tmp_path / "keep.txt").write_text("notes")
    for words in (
        ("net.onnx",),
        ("net.onnx", "none.vnnlib"),
        ("net.onnx", "q.vnnlib", "--out", "keep.txt"),
        ("q.vnnlib", "net.onnx"),
    ):
        done = run("vnnlib", *words)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert (tmp_path / "keep.txt").read_text() == "notes"
