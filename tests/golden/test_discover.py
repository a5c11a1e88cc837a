"""`certify discover`, and `certify` with a level of minimality, as a user runs them."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.golden.conftest import ROOT, Run, write

Case = tuple[dict[str, Any], dict[str, Any]]
LINE = r"certified margin=\S+ time=\S+s size=\d+ minimality=(none|quasi|local|subset|cardinal) status=(proven|refuted|relative)"
SCHEMA = json.loads((ROOT / "verify" / "schemas" / "report.schema.json").read_text())


def searched(folder: Path, case: Case, **spec: Any) -> Path:
    """A spec for `discover`."""
    path = folder / "search.json"
    path.write_text(json.dumps({**case[1], "model": {"path": "small.onnx"}, **spec}))
    return path


@pytest.mark.parametrize("level", ["none", "quasi", "local", "subset", "cardinal"])
def test_what_is_found_is_certified_and_stands_where_it_says(run: Run, tmp_path: Path, case: Case, level: str) -> None:
    spec = searched(tmp_path, case, minimality=level, agreement={"metric": "logits", "tolerance": 0.3})
    done = run("discover", "--spec", spec, "--out", "found.json", "--report", "r.json", "--quiet")
    assert done.returncode == 0 and re.fullmatch(LINE, done.stdout.strip()), done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(report, SCHEMA)
    found = report["minimality"]
    assert found["proven"] and found["level"] == level and found["lower"] <= found["upper"] == report["circuit"]["size"]
    assert level != "cardinal" or found["lower"] == found["upper"]
    assert not (tmp_path / "found.json.journal").exists(), "nothing is left to resume"
    again = run("found.json", "--spec", spec, "--out", "again.json", "--quiet")
    assert again.returncode == 0, again.stderr + again.stdout
    shown = run("show", "found.json")
    assert shown.returncode == 0 and "certify discover" in shown.stdout


def test_a_circuit_that_is_not_minimal_comes_with_a_smaller_one(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = case
    spec |= {"minimality": "local", "agreement": {"metric": "logits", "tolerance": 5.0}}
    paths = write(tmp_path, circuit, spec)
    done = run(paths[0], "--spec", paths[1], "--out", "r.json", "--quiet")
    assert done.returncode == 1 and done.stdout.strip().endswith("minimality=local status=refuted")
    smaller = json.loads((tmp_path / "r.json").read_text())["minimality"]["smaller"]
    (tmp_path / "smaller.json").write_text(json.dumps({**circuit, "kept": smaller}))
    spec["minimality"] = "none"
    (tmp_path / "plain.json").write_text(json.dumps(spec))
    assert run("smaller.json", "--spec", "plain.json", "--quiet").returncode == 0


def test_all_minimal_circuits_and_a_figure(run: Run, tmp_path: Path, case: Case) -> None:
    spec = searched(tmp_path, case, minimality="subset", scope={"relu_2": "neuron"})
    done = run("discover", "--spec", spec, "--out", "c.json", "--report", "r.json", "--all", "--plot", "p.svg", "--quiet")
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "r.json").read_text())
    jsonschema.validate(report, SCHEMA)
    found = report["enumeration"]
    assert found["complete"] and report["circuit"]["kept"] in found["circuits"]
    assert set(found["core"]) <= set(found["union"]) and (tmp_path / "p.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--out", "nowhere/c.json"], "--out"),
        (["--out", "c.json", "--plot", "p.gif"], "--plot"),
        (["--out", "c.json", "--algorithm", "guess"], "guess"),
        (["--out", "c.json", "--algorithm", "quickxplain"], "zero patching"),
        (["--out", "search.json"], "search.json"),
        (["--out", "c.json", "--start", "missing.json"], "missing.json"),
    ],
)
def test_bad_requests_are_one_line(run: Run, tmp_path: Path, case: Case, words: list[str], said: str) -> None:
    spec = searched(tmp_path, case, minimality="local")
    done = run("discover", "--spec", spec, *words)
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and said in done.stderr, done.stderr
    assert not done.stdout and "Traceback" not in done.stderr


def test_a_spec_without_a_model(run: Run, tmp_path: Path, case: Case) -> None:
    (tmp_path / "s.json").write_text(json.dumps(case[1]))
    done = run("discover", "--spec", "s.json", "--out", "c.json")
    assert done.returncode == 2 and "$.model" in done.stderr
    assert run("discover", "--spec", "s.json", "--model", "small.onnx", "--out", "c.json", "--quiet").returncode == 0
    assert json.loads((tmp_path / "c.json").read_text())["model"]["path"] == "small.onnx"


def test_a_start_that_is_not_faithful_is_falsified(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = case
    spec["agreement"]["tolerance"] = 0.01
    write(tmp_path, circuit, spec)
    done = run("discover", "--spec", "spec.yaml", "--start", "circuit.json", "--out", "c.json", "--report", "r.json", "--quiet")
    assert done.returncode == 1 and done.stdout.startswith("falsified") and not (tmp_path / "c.json").exists()
    assert json.loads((tmp_path / "r.json").read_text())["witness"] is not None


DIGITS = {
    "format": "certify.spec/1",
    "model": {"path": str(ROOT / "benchmarks/models/digits_mlp.onnx")},
    "input": {
        "kind": "linf",
        "center": {"file": str(ROOT / "benchmarks/models/digits.npz"), "array": "images", "index": 0},
        "epsilon": 0.03,
        "clip": [0.0, 1.0],
    },
    "patching": {"kind": "zero"},
    "agreement": {"metric": "logits", "tolerance": 3.0},
    "minimality": "local",
    "budget": {"time_s": 600},
}


def _killed_and_resumed(command: list[str], folder: Path, moments: list[float], number: int) -> dict[str, Any]:
    """Run a search, end it by a signal at each moment, resume it; the last run ends by itself. Its report."""
    words = [*command, "discover", "--spec", "digits.json", "--out", "c.json", "--report", "r.json", "--quiet", "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    for moment in moments:
        process = subprocess.Popen(
            words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        time.sleep(moment)
        process.send_signal(number)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors, errors
        # Ended by the signal itself, where it came before the command could take it: 130 too, to a shell.
        assert process.returncode in (0, 130, -signal.SIGKILL, -signal.SIGINT, -signal.SIGTERM)
        journal = folder / "c.json.journal"
        if journal.exists():
            decided = [
                json.loads(line).get("kept") for line in journal.read_bytes().splitlines(keepends=True) if line[-1:] == b"\n"
            ]
            asked = [kept for kept in decided if kept is not None]
            assert len(asked) == len(set(asked)), "a decided question was asked again"
    last = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False, timeout=900)
    assert last.returncode == 0, last.stderr
    return json.loads((folder / "r.json").read_text())


def _check_stops(command: list[str], folder: Path, moments: Callable[[float], list[float]], number: int) -> None:
    """`moments` are chosen knowing how long the search takes that nothing stops."""
    (folder / "digits.json").write_text(json.dumps(DIGITS))
    began = time.monotonic()
    whole = _killed_and_resumed(command, folder, [], number)
    found = _killed_and_resumed(command, folder, moments(time.monotonic() - began), number)
    assert found["circuit"]["kept"] == whole["circuit"]["kept"]
    assert found["minimality"]["status"] == whole["minimality"]["status"] == "proven"
    assert not list(folder.glob("*.part")) and not (folder / "c.json.journal").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_stopped_search_goes_on_where_it_was(command: list[str], tmp_path: Path, number: int) -> None:
    _check_stops(command, tmp_path, lambda _: [3.2, 4.0], number)


@pytest.mark.slow
def test_stops_at_200_moments(command: list[str], tmp_path: Path) -> None:
    draw = random.Random(0)
    for _ in range(20):
        number = draw.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        _check_stops(command, tmp_path, lambda time_s: [draw.uniform(0.1, 1.0) * time_s for _ in range(10)], number)


def test_a_frontier(run: Run, tmp_path: Path, case: Case) -> None:
    spec = searched(tmp_path, case, minimality="local")
    words = ["frontier", "--spec", spec, "--over", "tolerance", "--out", "f", "--quiet"]
    done = run(*words, "--values", "0.2,0.4,0.8")
    assert done.returncode == 0 and len(done.stdout.splitlines()) == 3, done.stderr
    rows = [line.split(",") for line in (tmp_path / "f" / "frontier.csv").read_text().splitlines()[1:]]
    sizes = [int(row[2]) for row in rows]
    assert sizes == sorted(sizes, reverse=True) and all(row[1] == "certified" for row in rows)
    assert (tmp_path / "f" / "frontier.svg").read_text().startswith("<?xml")
    again = run(*words, "--values", "0.2")
    assert again.returncode == 2 and "--out" in again.stderr
    assert run(*words[:-3], "--out", "g", "--values", "0.2;1").returncode == 2


def test_scores_of_wang_et_al_are_called_so(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = write(tmp_path, *case)
    done = run("wang", circuit, "--spec", spec, "--json")
    (claim,) = json.loads(done.stdout)["claims"]
    assert done.returncode == 0 and set(claim["wang_minimality"]) >= {"relu_1[0]", "relu_2[7]"}
    assert "nothing here is proven" in run("wang", circuit, "--spec", spec).stdout
