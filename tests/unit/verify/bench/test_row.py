"""Rows: whole lines, and what a killed run left of one."""

from __future__ import annotations

from pathlib import Path

import pytest

from specs.errors import InputError
from tests.unit.verify.bench.rows import row
from verify.bench.row import ROWS, append, read_rows


def test_rows_read_back_as_they_were(tmp_path: Path) -> None:
    made = [
        row(index=i, verdict="certified", size=3, kept={"a": (0, 2)}, trace=((0.1, 0.0, 4.0), (0.5, 1.0, 3.0)))
        for i in range(3)
    ]
    for one in made:
        append(one, tmp_path)
    assert read_rows(tmp_path) == made
    assert (tmp_path / ROWS).read_text().count("\n") == 3


def test_a_line_cut_short_is_no_row_and_is_mended(tmp_path: Path) -> None:
    append(row(index=0), tmp_path)
    path = tmp_path / ROWS
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:20])
    assert len(read_rows(tmp_path)) == 1 and path.read_bytes() != whole
    assert len(read_rows(tmp_path, mend=True)) == 1 and path.read_bytes() == whole
    append(row(index=1), tmp_path)
    assert [one.index for one in read_rows(tmp_path)] == [0, 1]


def test_what_is_no_row_is_named_by_its_line(tmp_path: Path) -> None:
    append(row(index=0), tmp_path)
    with (tmp_path / ROWS).open("a") as stream:
        stream.write('{"experiment": 3}\n')
    with pytest.raises(InputError, match="line 2"):
        read_rows(tmp_path)
    with pytest.raises(InputError, match="certify bench"):
        read_rows(tmp_path / "nowhere")


def test_proven_is_certified_and_minimal_as_asked() -> None:
    assert row(verdict="certified").proven and row(verdict="certified", status="proven").proven
    assert not row(verdict="certified", status="relative").proven
    assert not row(verdict="unknown").proven and not row(error="no").proven
