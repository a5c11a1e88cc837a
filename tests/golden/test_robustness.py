"""`certify robustness`, as a user runs it."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

from tests.golden.conftest import Run, write

Case = tuple[dict[str, Any], dict[str, Any]]


def test_every_kind_that_the_data_allow(run: Run, tmp_path: Path, case: Case) -> None:
    circuit, spec = write(tmp_path, *case)
    done = run("robustness", circuit, "--spec", spec, "--out", "made", "--radii", 1, "--quiet")
    lines = done.stdout.splitlines()
    kinds = [line.split()[0] for line in lines]
    assert kinds == ["zero", "reachable", "resample", "closed"], done.stderr
    assert done.returncode == (1 if "falsified" in done.stdout else 3 if "unknown" in done.stdout else 0)
    rows = list(csv.DictReader(io.StringIO((tmp_path / "made" / "robustness.csv").read_text())))
    for kind, row in zip(kinds, rows, strict=True):
        report = json.loads((tmp_path / "made" / f"{kind}.report.json").read_text())
        assert row["patching"] == kind and row["verdict"] == report["verdict"] and kind in lines[kinds.index(kind)]
    assert (tmp_path / "made" / "robustness.svg").read_text().startswith("<?xml")
    assert (tmp_path / "made" / "robustness.md").read_text().count("\n| ") == 5
    again = run("robustness", circuit, "--spec", spec, "--out", "made")
    assert again.returncode == 2 and len(again.stderr.splitlines()) == 1
