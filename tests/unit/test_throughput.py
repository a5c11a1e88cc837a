"""The throughput benchmark on a bundled model: it runs, the contenders agree, and it says plainly what is missing."""

from __future__ import annotations

import importlib.util
import io
import json
from pathlib import Path

import pytest
from rich.console import Console

from benchmarks.throughput.__main__ import main
from benchmarks.throughput.cases import CASES
from benchmarks.throughput.contenders import Contender, contenders
from benchmarks.throughput.measure import Plan, Result, Row, measure
from benchmarks.throughput.table import REFERENCE, comparison, show

PLAN = Plan(batches=(1, 3), repetitions=1, most=2, cap_s=60, threads=1)


def test_native_contenders_agree_and_rows_are_complete(tmp_path: Path) -> None:
    rivals = (Contender("native f64", "native", "float64"), Contender("single", "native", "float64", batched=False))
    result = measure(CASES["digits_mlp"], rivals, tmp_path, PLAN)
    batched, single = result.margins["native f64"], result.margins["single"]
    assert (len(batched), len(single)) == (3, 2)
    assert single == pytest.approx(batched[:2], abs=1e-9)
    for row in result.rows:
        assert row.rate is not None and row.rate > 0 and row.peak_mib is not None and row.peak_mib > result.baseline_mib / 2
    extrapolated = result.row("single", 3)
    assert extrapolated is not None and extrapolated.record()["extrapolated"] is True


@pytest.mark.skipif(importlib.util.find_spec("auto_LiRPA") is None, reason="auto_LiRPA is not installed")
def test_native_is_no_looser_than_auto_lirpa(tmp_path: Path) -> None:
    rivals = tuple(c for c in contenders(None) if c.name in ("native f64", REFERENCE))
    result = measure(CASES["digits_mlp"], rivals, tmp_path, PLAN)
    compared = comparison(result, "native f64")
    assert compared is not None and compared["circuits"] == 2
    assert compared["worst_difference"] > -1e-5
    shown = io.StringIO()
    show(Console(file=shown, width=200), result, PLAN)
    assert REFERENCE in shown.getvalue() and "~" in shown.getvalue()


def test_a_contender_over_the_cap_is_stopped_and_says_so(tmp_path: Path) -> None:
    plan = Plan(batches=(1, 2), repetitions=2, most=1, cap_s=0.0, threads=1)
    result = measure(CASES["digits_mlp"], (Contender("native f32", "native"),), tmp_path, plan)
    assert [row.rate for row in result.rows] == [None, None]
    assert result.rows[0].note.startswith("over") and "not asked" in result.rows[1].note


def test_aims_are_judged() -> None:
    case = CASES["mnist_vnncomp_256x2"]
    fast = Row(case.name, "native f64", 64, 64, [1.0], [1.0], 300.0)
    slow = Row(case.name, REFERENCE, 64, 8, [1.0], [1.0], 300.0)
    result = Result(case, [fast, slow], {"native f64": [0.0], REFERENCE: [0.1]}, {}, {}, 250.0)
    shown = io.StringIO()
    show(Console(file=shown, width=200), result, Plan(batches=(64,)))
    assert "rate 8.00x at batch 64, aim 10x: NOT met" in shown.getvalue()
    assert "aim none looser (by 1e-05): NOT met" in shown.getvalue()
    assert "aim < 4: met" in shown.getvalue()


def test_missing_data_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--data", str(tmp_path)]) == 2
    assert str(tmp_path / "models" / "mnist_vnncomp_256x2.onnx") in capsys.readouterr().err


def test_json_rows(tmp_path: Path) -> None:
    file = tmp_path / "rows.json"
    assert main(["--case", "digits_mlp", "--quick", "--only", "native f64", "--threads", "1", "--json", str(file)]) == 0
    rows = json.loads(file.read_text())
    assert {row["batch"] for row in rows} == {1, 16} and all(row["per_s"] > 0 for row in rows)
