"""`certify bench`, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.golden.conftest import Run


@pytest.fixture(scope="module")
def smoke(command: list[str], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one run of the smallest bundled suite, with what the command said."""
    import os
    import subprocess

    from tests.golden.conftest import ROOT

    folder = tmp_path_factory.mktemp("bench")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words = [*command, "bench", "smoke", "--out", "smoke"]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr + done.stdout
    assert done.stdout.strip().splitlines()[-1] == "bench smoke: 8 rows, 0 failed; smoke/index.html"
    assert "8 of 8 runs, 0 failed" in done.stderr
    return folder


def rows(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]


def test_smoke_leaves_rows_tables_and_figures(smoke: Path) -> None:
    found = rows(smoke / "smoke")
    ours = [row for row in found if row["method"] == "ours"]
    assert len(found) == 8 and len(ours) == 2
    for row in ours:
        assert row["verdict"] == "certified" and row["status"] == "proven" and row["lower"] <= row["upper"] == row["size"]
    for row in found:
        assert row["model_sha256"] and row["versions"]["certify"] and row["size"] <= row["scope_size"]
    names = {path.name for path in (smoke / "smoke").iterdir()}
    expected = {
        "rows.csv",
        "summary.json",
        "tables.md",
        "tables.tex",
        "index.html",
        "zero.csv",
        "zero_robust.svg",
        "zero_cactus.svg",
    }
    assert expected <= names


def test_resume_does_what_is_missing_and_nothing_else(run: Run, smoke: Path, tmp_path: Path) -> None:
    kept = (smoke / "smoke" / "rows.jsonl").read_bytes().splitlines(keepends=True)
    folder = tmp_path / "cut"
    folder.mkdir()
    (folder / "rows.jsonl").write_bytes(b"".join(kept[:7]) + kept[7][:30])
    refused = run("bench", "smoke", "--out", "cut")
    assert refused.returncode == 2 and "holds rows" in refused.stderr and "--resume" in refused.stderr
    done = run("bench", "smoke", "--out", "cut", "--resume", "--quiet")
    assert done.returncode == 0 and not done.stderr, done.stderr
    assert (folder / "rows.jsonl").read_bytes().splitlines(keepends=True)[:7] == kept[:7]
    assert len(rows(folder)) == 8
    compared = run("bench", "compare", smoke / "smoke", folder, "--slower", "1000")
    assert compared.returncode == 0 and "8 runs compared: 0 worse" in compared.stdout, compared.stdout


def test_a_regression_is_found(run: Run, smoke: Path, tmp_path: Path) -> None:
    worse = tmp_path / "worse"
    worse.mkdir()
    text = (smoke / "smoke" / "rows.jsonl").read_text()
    (worse / "rows.jsonl").write_text(text.replace('"reached":"local"', '"reached":"none"'))
    done = run("bench", "compare", smoke / "smoke", worse)
    assert done.returncode == 1 and "local minimality proven, now none" in done.stdout


def test_a_failing_run_is_a_row_and_the_others_go_on(run: Run, tmp_path: Path, smoke: Path) -> None:
    from verify.bench.suite import read_suite

    suite = read_suite("smoke").model_dump(mode="json", exclude_none=True)
    suite["methods"]["needs monotone"] = {"kind": "discover", "algorithm": "hitting", "level": "cardinal"}
    experiment = suite["experiments"]["zero"]
    experiment |= {"networks": {"digits_mlp": {"start": 1, "count": 1}}, "methods": ["needs monotone", "sampling"]}
    (tmp_path / "s.json").write_text(json.dumps(suite))
    done = run("bench", "s.json", "--out", "out", "--quiet")
    assert done.returncode == 1, done.stderr
    failed, fine = rows(tmp_path / "out")
    assert "hitting" in failed["error"] and "\n" not in failed["error"] and fine["verdict"] in ("certified", "falsified")
    assert "use auto or iterated" in done.stderr and "2 rows, 1 failed" in done.stdout


def test_what_is_not_there_is_said_before_anything_is_run(run: Run, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    done = run("bench", "paper", "--data", "empty")
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "mnist_verix_10x2.onnx" in done.stderr and "VeriX" in done.stderr and "853d86b18a4266f6" in done.stderr
    assert not (tmp_path / "bench-paper").exists()
    assert run("bench", "nothing").returncode == 2
    assert run("bench", "compare", "empty", "empty").returncode == 2
