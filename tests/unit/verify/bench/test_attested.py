"""Certificates of rows: confirmed, or what is left of a verdict without one."""

from __future__ import annotations

from typing import Any

import pytest

from specs.spec import Budget
from verify.bench.answer import answer
from verify.bench.runs import Run, runs
from verify.bench.suite import Suite, read_suite
from verify.branch.leaves import NotCovered, Refused
from verify.check.certificate import Confirmed
from verify.work.budget import TimeUp


@pytest.fixture(scope="module")
def suite() -> Suite:
    return with_(read_suite("smoke"), budget=Budget(time_s=120.0))


def with_(suite: Suite, **said: Any) -> Suite:
    return suite.model_copy(update={"experiments": {n: e.model_copy(update=said) for n, e in suite.experiments.items()}})


def of(suite: Suite, method: str) -> Run:
    return next(one for one in runs(suite) if one.method == method and one.network == "digits_cnn")


def raising(error: BaseException) -> Any:
    def attest(*_: object) -> None:
        raise error

    return attest


def test_a_circuit_and_its_minimality_are_confirmed(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    import verify.bench.attested as module

    seen: list[Confirmed] = []
    monkeypatch.setattr(module, "confirm", lambda folder, confirm=module.confirm: seen.append(confirm(folder)))
    row = answer(suite, of(suite, "ours"), None)
    assert (row.verdict, row.checked, row.status, row.checked_level) == ("certified", "confirmed", "proven", "local")
    assert [found.level for found in seen] == ["local"] and seen[0].refuted >= (row.size or 0) > 0
    assert (row.certificate_bytes or 0) > 500 and (row.certificate_s or 0) > 0 < (row.check_s or 0)
    given = answer(suite, of(suite, "thresholding"), None)
    assert given.checked == "confirmed" and seen[1].level is None and given.verdict == "certified"


@pytest.mark.parametrize(
    ("error", "checked", "verdict"),
    [
        (Refused("the checker rejects it: why"), "refused", "unknown"),
        (TimeUp(), "unfinished", "unknown"),
        (NotCovered("it does not read that"), "not supported", "certified"),
    ],
)
def test_what_is_left_without_a_certificate(
    suite: Suite, monkeypatch: pytest.MonkeyPatch, error: BaseException, checked: str, verdict: str
) -> None:
    monkeypatch.setattr("verify.bench.attested.attest", raising(error))
    row = answer(suite, of(suite, "thresholding"), None)
    assert (row.checked, row.verdict) == (checked, verdict) and row.error is None
    assert row.check_s is None and str(error) in (row.check_note or "") and (row.margin is None) == (verdict == "unknown")
    assert verdict == "certified" or "no certificate" in (row.reason or "")


def test_a_search_whose_circuit_is_refused_has_proven_nothing(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.bench.attested.attest", raising(Refused("no")))
    row = answer(suite, of(suite, "ours"), None)
    assert (row.verdict, row.reached, row.status, row.lower) == ("unknown", "none", "relative", None) and not row.proven


def test_levels_that_the_certificate_does_not_hold_are_told_apart(suite: Suite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.bench.attested.attest_minimality", raising(Refused("no room")))
    row = answer(suite, of(suite, "ours"), None)
    assert (row.verdict, row.checked, row.checked_level, row.checked_lower) == ("certified", "confirmed", "none", 0)
    assert "no room" in (row.check_note or "") and (row.reached, row.status) == ("local", "proven")


def test_without_being_asked_there_is_none(suite: Suite) -> None:
    row = answer(with_(suite, certificates=False), of(suite, "thresholding"), None)
    assert row.verdict == "certified" and row.checked is None and row.certificate_s is None
