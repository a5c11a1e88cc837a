"""The search benchmark on a bundled network: rows, a table, and nobody's result worse than its level says."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.decide.rows import Rows
from benchmarks.search.__main__ import main, search_table


def test_a_run_and_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["--case", "digits_mlp", "--kind", "closed", "--inputs", "1", "--limit", "4", "--question", "1"]
    assert main([*words, "--out", str(tmp_path)]) == 0
    first = capsys.readouterr().out
    rows = Rows(tmp_path, True)
    tools = {row["tool"]: row for row in rows}
    assert {"certify progression", "one by one, our ladder", "one by one, auto_LiRPA CROWN"} <= tools.keys()
    assert tools["certify progression"]["level"] == "subset" and tools["certify progression"]["proven"]
    assert tools["one by one, our ladder"]["evaluated"] == 0
    assert main([*words, "--out", str(tmp_path), "--resume"]) == 0
    assert capsys.readouterr().out == first and search_table(rows) in first
