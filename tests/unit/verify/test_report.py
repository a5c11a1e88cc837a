"""The report: finite JSON, written whole or not at all, read back as it was; and the line that sums it up."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from specs.errors import InputError
from verify.account import _numbers
from verify.report import (
    SCHEMA,
    CircuitSummary,
    ClaimReport,
    Queries,
    Report,
    Rung,
    WitnessReport,
    read_report,
    report_schema,
    write_report,
)


def made(**parts: Any) -> Report:
    entries: dict[str, Any] = {
        "verdict": "certified",
        "margin": 0.25,
        "tolerance": 1.0,
        "backend": "native",
        "seed": 0,
        "time_s": 1.5,
    }
    return Report(**{**entries, **parts})


def falsified(deviation: float | None, tolerance: float) -> Report:
    return made(verdict="falsified", margin=None, deviation=deviation, tolerance=tolerance)


def full() -> Report:
    witness = WitnessReport(
        claim="index 3",
        deviation=0.7,
        input=[[0.1, 0.2]],
        patch={"relu": [[0.0]]},
        model_output=[[1.0]],
        circuit_output=[[None]],
    )
    return made(
        verdict="falsified",
        margin=None,
        deviation=0.7,
        tolerance=0.5,
        witness=witness,
        claims=[ClaimReport(label="index 3", verdict="falsified", deviation=0.7, decided_by="quick attack", witness=witness)],
        circuit=CircuitSummary(file="circuit.json", size=2, scope_size=4, scope={"relu": "neuron"}, kept={"relu": [0, 3]}),
        queries=Queries(asked=1, by_attack=1),
        rungs=[Rung(name="quick attack", asked=1, decided=1, time_s=0.1)],
        versions={"torch": "2", "backend": None},
    )


def test_what_is_written_is_read_back_and_fits_the_schema(tmp_path: Path) -> None:
    for i, report in enumerate((made(), full(), made(verdict="unknown", margin=None, reason="time budget used up"))):
        path = tmp_path / f"{i}.json"
        write_report(report, path)
        assert read_report(path) == report
        jsonschema.validate(json.loads(path.read_text()), report_schema())
        jsonschema.validate(json.loads(report.text()), json.loads(SCHEMA.read_text()))
    assert len(list(tmp_path.iterdir())) == 3


def test_the_published_schema_is_the_current_one() -> None:
    assert json.loads(SCHEMA.read_text()) == report_schema(), "run python -m verify.report"


def test_the_contract_s_keys_are_there() -> None:
    entries = json.loads(full().text())
    assert entries["format"] == "certify.report/1"
    keys = "verdict margin deviation witness minimality claims circuit backend queries time_s model_sha256 versions seed"
    assert {*keys.split(), "certificate"} <= set(entries)
    assert {"input", "patch", "model_output", "circuit_output"} <= set(entries["witness"])
    assert {"asked", "by_witness_pool", "by_bound", "by_split", "by_exact"} <= set(entries["queries"])
    assert {"size", "kept"} <= set(entries["circuit"])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_number_that_is_not_finite_is_refused_or_null(value: float) -> None:
    with pytest.raises(ValidationError):
        made(margin=value)
    assert _numbers(np.array([[1.0, value]], dtype=np.float32)) == [[1.0, None]]


def test_the_one_line() -> None:
    assert made().summary == "certified margin=0.25 time=1.50s"
    assert falsified(0.75, 0.5).summary == "falsified deviation=0.75 > tolerance=0.5"
    assert falsified(None, 0.5).summary == "falsified deviation=inf > tolerance=0.5"
    said = made(verdict="unknown", margin=-1.5, reason="time budget used up").summary
    assert said == "unknown bound=-1.5 reason=time budget used up"
    assert made(verdict="unknown", margin=None, reason="interrupted").summary == "unknown bound=none reason=interrupted"


@given(st.floats(0, 1e9), st.floats(-1e9, 1e9))
def test_what_the_line_says_is_no_more_than_what_was_proven(margin: float, bound: float) -> None:
    for value, report in ((margin, made(margin=margin)), (bound, made(verdict="unknown", margin=bound, reason="r"))):
        printed = float(report.summary.split()[1].partition("=")[2])
        assert printed <= value and printed >= value - abs(value) * 1.1e-5


@given(st.floats(1e-6, 1e6))
def test_a_deviation_that_is_hardly_above_the_tolerance_is_shown_above_it(tolerance: float) -> None:
    tolerance = float(f"{tolerance:.12g}")
    words = falsified(math.nextafter(tolerance, math.inf), tolerance).summary.split()
    assert float(words[1].partition("=")[2]) > float(words[3].partition("=")[2])


def test_a_failed_write_leaves_the_old_report_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "report.json"
    write_report(made(), path)

    def full_disk(_number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"):
        write_report(full(), path)
    assert read_report(path) == made() and list(tmp_path.iterdir()) == [path]


def test_a_link_is_written_through(tmp_path: Path) -> None:
    target, link = tmp_path / "target.json", tmp_path / "link.json"
    target.write_text("{}")
    link.symlink_to(target)
    write_report(made(), link)
    assert link.is_symlink() and read_report(target) == made()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[]", ("$",)),
        ('{"format": "certify.report/1"}', ("no key", "verdict")),
        ('{"format": "certify.report/1", "verdict": "proven", "backend": "native", "seed": 0, "time_s": 1}', ("$.verdict",)),
        ("{", ("line 1",)),
    ],
)
def test_what_is_no_report_is_told_in_one_line(text: str, words: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    path.write_text(text)
    with pytest.raises(InputError) as raised:
        read_report(path)
    said = str(raised.value)
    assert "\n" not in said and all(word in said for word in words), said


def test_a_notebook_shows_the_page_in_a_frame() -> None:
    shown = Report(verdict="unknown", reason='<b>&"', backend="auto", seed=0, time_s=1.0)._repr_html_()
    assert shown.startswith("<iframe sandbox srcdoc=") and shown.endswith("</iframe>")
    assert "<b>" not in shown and shown.count('"') == 4  # the page is one attribute, whatever is in it
