"""What goes wrong around a run: disks that fill up, directories that take nothing, models cut short, two runs at once."""

from __future__ import annotations

import fcntl
import json
import os
import resource
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.golden.conftest import ROOT, Run

CASE = ROOT / "benchmarks" / "suites" / "digits" / "mlp_certified"
WORDS = (CASE / "circuit.json", "--spec", CASE / "spec.yaml", "--quiet")
ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
QUERY = "(declare-const X_0 Real)(declare-const Y_0 Real)\n" + "".join(
    f"(assert (>= X_{i} 0.0))(assert (<= X_{i} 0.1))" for i in range(64)
)


def started(command: Sequence[str], *words: object, limit: Callable[[], None] | None = None) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*command, *map(str, words)],
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=limit,
    )


def no_file_over(size: int) -> Callable[[], None]:
    """A disk that is full after so many bytes."""
    return lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))


@pytest.mark.parametrize("before", [None, '{"format": "an earlier report"}\n'])
def test_a_full_disk_keeps_the_answer_and_the_file_that_was_there(
    before: str | None, command: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    if before is not None:
        out.write_text(before)
    done = started(command, *WORDS, "--out", out, limit=no_file_over(64))
    stdout, stderr = done.communicate(timeout=300)
    assert (done.returncode, stdout.split(" ")[0]) == (74, "certified"), stderr
    assert stderr.count("\n") == 1 and "could not be written (File too large)" in stderr
    assert [path.name for path in tmp_path.iterdir()] == ([] if before is None else ["report.json"])
    assert before is None or out.read_text() == before


def test_a_full_disk_and_a_counterexample(command: list[str], tmp_path: Path) -> None:
    query = tmp_path / "q.vnnlib"
    declared = "".join(f"(declare-const X_{i} Real)" for i in range(1, 64)) + "".join(
        f"(declare-const Y_{i} Real)" for i in range(1, 10)
    )
    query.write_text(QUERY.replace("\n", declared, 1))
    model = ROOT / "benchmarks" / "models" / "digits_mlp.onnx"
    done = started(command, "vnnlib", model, query, "--quiet", "--out", tmp_path / "answer", limit=no_file_over(64))
    stdout, stderr = done.communicate(timeout=300)
    assert (done.returncode, stdout) == (74, "sat\n"), stderr
    assert [path.name for path in tmp_path.iterdir()] == ["q.vnnlib"]


@pytest.mark.parametrize("place", ["/proc/report.json", "/dev/full", "/nowhere/report.json"])
def test_a_place_that_takes_no_file_is_refused_before_anything_runs(place: str, run: Run) -> None:
    began = time.monotonic()
    done = run(*WORDS, "--out", place)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    assert time.monotonic() - began < 60


def test_a_model_cut_short(run: Run, tmp_path: Path) -> None:
    circuit = json.loads((CASE / "circuit.json").read_text())
    circuit["model"] = {"path": "cut.onnx"}
    (tmp_path / "circuit.json").write_text(json.dumps(circuit))
    whole = (ROOT / "benchmarks" / "models" / "digits_mlp.onnx").read_bytes()
    for size in (0, 1, len(whole) // 2, len(whole) - 1):
        (tmp_path / "cut.onnx").write_bytes(whole[:size])
        done = run(tmp_path / "circuit.json", "--spec", CASE / "spec.yaml", "--out", tmp_path / "report.json")
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert not (tmp_path / "report.json").exists()


def test_two_runs_on_one_file_leave_one_whole_report(command: list[str], tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    runs = [started(command, *WORDS, "--out", out, "--seed", seed) for seed in (1, 2)]
    for run in runs:
        stdout, stderr = run.communicate(timeout=300)
        assert run.returncode == 0 and stdout.startswith("certified"), stderr
    assert json.loads(out.read_text())["seed"] in (1, 2)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


@pytest.mark.parametrize(
    ("after_s", "number"), [(0.05, signal.SIGTERM), (1.0, signal.SIGTERM), (2.0, signal.SIGTERM), (1.5, signal.SIGKILL)]
)
def test_a_signal_at_any_moment_leaves_no_half_written_file(
    after_s: float, number: signal.Signals, command: list[str], tmp_path: Path
) -> None:
    out = tmp_path / "report.json"
    out.write_text('{"format": "an earlier report"}')
    run = started(command, *WORDS, "--out", out)
    time.sleep(after_s)
    run.send_signal(number)
    stdout, stderr = run.communicate(timeout=300)
    report = json.loads(out.read_text())
    assert report["format"] == "an earlier report" or report["format"].startswith("certify.report/")
    if run.returncode == 130:
        assert "Traceback" not in stderr
        # Stopped after it had begun to take care of signals, the run says what is known.
        assert stdout == "" or (stdout.startswith("unknown") and report["interrupted"])
    elif run.returncode == 0:
        assert stdout.startswith("certified") and report["verdict"] == "certified"
    else:
        assert run.returncode == -number
    if number == signal.SIGTERM:
        assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_a_certificate_that_was_killed_half_way_is_cleared_away(command: list[str], run: Run, tmp_path: Path) -> None:
    cert = tmp_path / "cert"
    words = (*WORDS, "--certificate", cert)
    killed = False
    for _ in range(20):
        running = started(command, *words)
        while running.poll() is None and not any(tmp_path.glob(".cert.*.part/proof.npz")):
            time.sleep(0.001)
        running.kill()
        running.communicate(timeout=60)
        if killed := any(tmp_path.glob(".cert.*.part")):
            break
    assert killed and not (cert / "certificate.json").exists()
    other = tmp_path / ".cert.0123abcd.part"
    other.mkdir()
    (other / "notes.txt").write_text("mine")
    done = run(*words)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == [other.name, "cert"] and (other / "notes.txt").exists()
    assert run("check", cert).returncode == 0


def test_a_certificate_that_another_run_writes_is_left_alone(run: Run, tmp_path: Path) -> None:
    beside = tmp_path / ".cert.0123abcd.part"
    beside.mkdir()
    lock = os.open(beside, os.O_RDONLY)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert run(*WORDS, "--certificate", tmp_path / "cert").returncode == 0
        assert sorted(path.name for path in tmp_path.iterdir()) == [beside.name, "cert"]
    finally:
        os.close(lock)
    assert run(*WORDS, "--certificate", tmp_path / "cert").returncode == 0
    assert [path.name for path in tmp_path.iterdir()] == ["cert"]
