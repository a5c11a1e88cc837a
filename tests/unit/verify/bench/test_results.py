"""Summaries, curves, tables, figures and the page, of made-up rows."""

from __future__ import annotations

import csv
import io
import json
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from tests.unit.verify.bench.rows import row
from tests.unit.verify.bench.test_suite import small, written
from verify.bench.compare import compared, said
from verify.bench.curves import brackets, solved
from verify.bench.results import write_results
from verify.bench.row import Row
from verify.bench.suite import Suite, read_suite
from verify.bench.summary import groups, lines
from verify.bench.tables import latex, rows_csv, tables


@pytest.fixture
def suite(tmp_path: Path) -> Suite:
    return read_suite(written(tmp_path, small()))


def rows(count: int = 10) -> list[Row]:
    """Ours always certified and proven local; the other falsified on every second input, and once without an answer."""
    common = {"epsilon": 0.1, "tolerance": 1.5, "budget_s": 60.0, "scope_size": 8, "certify_s": 0.0}
    ours = [
        row(
            **common, index=i, verdict="certified", size=4, level="local", reached="local", status="proven", lower=1.0,
            upper=4.0, search_s=2.0 + i, trace=((0.5, 0.0, 8.0), (1.0, 1.0, 4.0)), monotone=False,
        )
        for i in range(count)
    ]  # fmt: skip
    drawn = [
        row(**common, index=i, method="drawn", verdict="falsified" if i % 2 else "certified", size=3, search_s=0.1)
        for i in range(count - 1)
    ]
    return [*ours, *drawn, row(index=count - 1, method="drawn", error="it was & is _broken_")]


def test_a_line_counts_what_is_there(suite: Suite) -> None:
    (group,) = groups(rows())
    ours, drawn = lines(group, suite.experiments["e"].methods)
    assert (ours.count, ours.certified, ours.proven, ours.levels, ours.closed, ours.bracketed) == (
        10,
        10,
        10,
        {"local": 10},
        0,
        True,
    )
    assert (drawn.count, drawn.failed, drawn.certified, drawn.falsified, drawn.proven) == (9, 1, 5, 4, None)
    assert ours.p_value is None and drawn.p_value == pytest.approx(2 / 2**4)
    assert drawn.share is not None and drawn.share[0] < 5 / 9 < drawn.share[1]


def test_a_lower_bound_above_an_upper_one_is_not_passed_over(suite: Suite) -> None:
    bad = row(level="local", verdict="certified", size=2, lower=3.0, upper=2.0, search_s=1.0, scope_size=8)
    (group,) = groups([bad])
    assert not lines(group, ("ours",))[0].bracketed
    assert any("something is wrong" in note for note in tables(suite, [bad])[0].notes)


def test_a_bracket_at_a_time_is_the_last_told_by_then() -> None:
    found = brackets(rows(1)[:1], [0.1, 0.7, 1.5, 100.0])
    assert [(b.lower, b.upper) for b in found] == [(0, 8), (0, 8), (1, 4), (1, 4)]
    assert solved(rows(3)) == [0.1, 2.0, 3.0, 4.0]


def test_everything_is_written_and_readable(suite: Suite, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    text = write_results(suite, rows(), out, "certify bench s")
    assert "certify bench s" in text and "| n | 0.1 | 1.5 | ours | 10 |" in text and "1 runs gave no answer" in text
    page = (out / "index.html").read_text()
    assert (
        page.count("<svg") == 3
        and "<?xml" not in page
        and "http"
        not in page.replace("http://www.w3.org", "")
        .replace("http://purl.org", "")
        .replace("http://creativecommons.org", "")
        .replace("https://matplotlib.org", "")
    )
    for figure in out.glob("*.svg"):
        ET.parse(figure)
    table = list(csv.reader(io.StringIO((out / "e.csv").read_text())))
    assert len({len(line) for line in table}) == 1 and len(table) == 3
    assert len(json.loads((out / "summary.json").read_text())["lines"]) == 2
    assert len(list(csv.reader((out / "rows.csv").open()))) == 21
    again = {path.name: path.read_bytes() for path in out.iterdir()}
    write_results(suite, rows(), out, "certify bench s")
    assert again == {path.name: path.read_bytes() for path in out.iterdir()}, "the same rows give the same files"


def test_latex_is_escaped_and_has_its_rules(suite: Suite) -> None:
    text = latex(tables(suite, rows())[0])
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"\%", r"$\varepsilon$"))
    assert text.count(r" \\") == 3 and "%" not in text.replace(r"\%", "")


def test_equal_results_are_no_change() -> None:
    assert not compared(rows(), rows()).changes


@pytest.mark.parametrize(
    ("change", "words", "worse"),
    [
        ({"verdict": "unknown"}, "certified, now unknown", True),
        ({"verdict": "falsified"}, "one of them is wrong", True),
        ({"reached": "none"}, "local minimality proven, now none", True),
        ({"reached": "subset"}, "local minimality proven, now subset", False),
        ({"lower": 3.0}, "now [3, 4]", False),
        ({"lower": 5.0, "upper": 6.0}, "do not meet", True),
        ({"error": "oh"}, "fails now: oh", True),
        ({"tolerance": 2.0}, "another question", True),
    ],
)
def test_what_changed_is_said_and_judged(change: dict[str, object], words: str, worse: bool) -> None:
    before = rows()[:1]
    found = compared(before, [before[0].model_copy(update=change)])
    assert [c.worse for c in found.changes] == [worse] and words in said(found)


def test_slower_methods_and_lost_runs_are_worse() -> None:
    before = rows()[:5]
    slow = [one.model_copy(update={"search_s": 3 * (one.search_s or 0)}) for one in before]
    assert [c.worse for c in compared(before, slow).changes] == [True]
    assert [c.worse for c in compared(slow, before).changes] == [False]
    assert [c.worse for c in compared(before, before[:4]).changes] == [True]


def test_certificates_have_columns_where_there_are_any(suite: Suite) -> None:
    plain = tables(suite, rows())[0]
    assert not any("checker" in cell for cell in plain.header)
    told = {"checked": "confirmed", "checked_level": "quasi", "check_s": 1.0, "certificate_s": 3.0, "certificate_bytes": 2500}
    ours = [one.model_copy(update=told) for one in rows()[:3]]
    refused = rows()[3].model_copy(update={"verdict": "unknown", "checked": "refused", "check_note": "no"})
    made = tables(suite, [*ours, refused, *rows()[10:]])[0]
    assert made.lines[0][-4:] == ("3 of 4", "quasi 3", f"{3 / (2 + 3 + 4):.2f}", "2.5 kB") and made.lines[1][-3:] == (
        "–",
        "–",
        "–",
    )
    assert any("of 4 certified circuits the independent checker confirms 3 and refuses 1;" in note for note in made.notes)
    assert "check_s" in rows_csv(ours) and "check_s" not in rows_csv(rows())


def test_tolerances_that_a_suite_states_are_said_to_be_so(suite: Suite) -> None:
    assert any(note.startswith("δ: 0.5 of the median gap") for note in tables(suite, rows())[0].notes)
    asked = suite.experiments["e"].model_copy(update={"networks": {"t": suite.experiments["e"].networks["n"]}})
    notes = tables(suite.model_copy(update={"experiments": {"e": asked}}), rows())[0].notes
    assert "δ as the suite states it: t (top1)." in notes and not any("median" in note for note in notes)
