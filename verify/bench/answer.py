"""One run of a suite, done: from its name to its row. The same function on this machine and on any other."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from specs.errors import InputError
from verify.bench.row import Row
from verify.bench.runs import Run, digest
from verify.bench.suite import Discover, Given, Suite

if TYPE_CHECKING:
    from specs.circuit import Circuit
    from specs.encode import Problem
    from verify.bench.claim import Asked
    from verify.report import Report

__all__ = ["BROKEN", "answer", "blank"]

BROKEN = "internal error"
"""How the error of a row begins that is a fault of ours."""


def answer(suite: Suite, run: Run, bench: Path | None) -> Row:
    """The row of a run. Whatever goes wrong with it is the row's `error`, but for an interrupt. The time of reading the model,
    which is shared by all runs of a process, is in nobody's time."""
    from bounds.backends.base import BackendRefusal

    row = blank(suite, run)
    try:
        return row.model_copy(update=_done(suite, run, bench))
    except (InputError, BackendRefusal) as error:
        return row.model_copy(update={"error": str(error)})
    except Exception as error:
        # A fault of ours in one run must not cost the others theirs; it is counted, printed and makes the command fail.
        return row.model_copy(update={"error": " ".join(f"{BROKEN}: {type(error).__name__}: {error}".split())[:500]})


def blank(suite: Suite, run: Run, error: str | None = None) -> Row:
    """The row of a run of which nothing is known but why."""
    from verify.account import versions

    started = datetime.now(UTC).isoformat(timespec="seconds")
    named = {name: getattr(run, name) for name in Run.__slots__}
    return Row(**named, digest=digest(suite, run), started=started, versions=versions("native"), error=error)


def _done(suite: Suite, run: Run, bench: Path | None) -> dict[str, Any]:
    from verify.bench.claim import asked

    question, method = asked(suite, run, bench), suite.methods[run.method]
    told: dict[str, Any] = {
        "epsilon": question.epsilon,
        "tolerance": question.tolerance,
        "budget_s": suite.experiments[run.experiment].budget.time_s,
        "model_sha256": question.model.sha256,
        "data_sha256": question.data_sha256,
    }
    attest_s = suite.experiments[run.experiment].budget.time_s if suite.experiments[run.experiment].certificates else None
    if isinstance(method, Discover):
        return told | _searched(question, method, run.seed, attest_s)
    began = time.monotonic()
    circuit = _given(question, method.file) if isinstance(method, Given) else _sampled(question, method, run.seed)
    search_s = time.monotonic() - began
    return told | {"search_s": search_s} | _certified(question, circuit, run.seed, attest_s)


def _searched(question: Asked, method: Discover, seed: int, attest_s: float | None) -> dict[str, Any]:
    from verify.discover import discover

    spec = question.read(method.level)
    found = discover(
        question.model, spec, algorithm=method.algorithm, order=method.order, seed=seed, hard=True, began=time.monotonic()
    )  # fmt: skip
    report, told = found.report, _told(found.report)
    if (minimality := report.minimality) is not None:
        told |= {
            "level": minimality.level, "reached": minimality.reached, "status": minimality.status,
            "lower": minimality.lower, "upper": minimality.upper, "unresolved": minimality.unresolved_count,
        }  # fmt: skip
    if (search := report.search) is not None:
        trace = tuple((m.time_s, float(m.lower), float(m.upper)) for m in search.trace)
        told |= {"asked": search.asked, "proofs": search.proofs, "evaluated": search.evaluated, "trace": trace}
    told |= {"search_s": report.time_s, "certify_s": 0.0}
    if attest_s is None or report.verdict != "certified":
        return told
    from verify.bench.attested import attested

    return told | attested(found.circuit, spec, question.model, attest_s, found.search, report.minimality)


def _sampled(question: Asked, method: Any, seed: int) -> Circuit:
    from verify.bench.baselines import found_by
    from verify.search.findings import kept_of

    problem = _problem(question, method.patching)
    kept = kept_of(problem, found_by(method, problem, question.tolerance, seed))
    return _circuit(question, kept)


def _problem(question: Asked, patching: str | None) -> Problem:
    from specs.encode import encode_scope

    return encode_scope(question.scope, question.read(patching=patching), question.model, file="suite")


def _circuit(question: Asked, kept: Mapping[str, Any]) -> Circuit:
    from specs.circuit import CIRCUIT_FORMAT, Circuit

    said = {"format": CIRCUIT_FORMAT, "model": {"path": question.model.source}, "scope": question.scope, "kept": kept}
    return Circuit.model_validate(said)


def _given(question: Asked, file: str) -> Circuit:
    from specs.load import read_circuit

    circuit = read_circuit(file)
    if dict(circuit.scope) != question.scope:
        raise InputError(file, "$.scope", str(dict(circuit.scope)), f"the suite's, {question.scope}")
    return circuit


def _certified(question: Asked, circuit: Circuit, seed: int, attest_s: float | None) -> dict[str, Any]:
    from verify.api import certify

    spec = question.read()
    report = certify(circuit, spec, question.model, seed=seed, hard=True, began=time.monotonic())
    told = {**_told(report), "certify_s": report.time_s}
    if attest_s is None or report.verdict != "certified":
        return told
    from verify.bench.attested import attested

    return told | attested(circuit, spec, question.model, attest_s)


def _told(report: Report) -> dict[str, Any]:
    """What every report says."""
    summary = report.circuit
    listed = {
        site: tuple(kept) for site, kept in (summary.kept if summary is not None else {}).items() if not isinstance(kept, str)
    }
    monotone = report.claims[0].monotone if report.claims else None
    return {
        "verdict": report.verdict,
        "reason": report.reason,
        "margin": report.margin,
        "deviation": report.deviation,
        "size": None if summary is None else summary.size,
        "scope_size": None if summary is None else summary.scope_size,
        "kept": None if summary is None or len(listed) < len(summary.kept) else listed,
        "monotone": None if monotone is None else monotone.known,
    }
