"""`certify discover --spec SPEC.yaml --out CIRCUIT.json`: a search, its circuit, its report, one line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specs.errors import InputError
from verify.commands.circuit import journal_of
from verify.commands.codes import NOT_WRITTEN, YES
from verify.commands.running import stoppable, unread, working
from verify.commands.writing import check_writable, deliver, not_written

if TYPE_CHECKING:
    from specs.circuit import Circuit
    from verify.report import Report

__all__ = ["Options", "run"]

_FIGURES = (".svg", ".pdf", ".png")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    spec: str
    out: str
    report: str | None = None
    start: str | None = None
    model: str | None = None
    algorithm: str = "auto"
    order: str = "removal"
    enumerate_all: bool = False
    plot: str | None = None
    question: float | None = None
    timeout: float | None = None
    device: str = "cpu"
    backend: str = "auto"
    seed: int = 0
    quiet: bool = False
    as_json: bool = False
    allow_code: bool = False
    resume: bool = False
    certificate: str | None = None


def run(options: Options) -> int:
    """Search, write what was found, and say it in one line. Returns the exit code. Raises: InputError.

    The circuit is written whenever one is certified, however small a way the search came; the report says how far that is."""
    inputs = tuple(path for path in (options.spec, options.start, options.model) if path is not None)
    check_writable(options.out, "--out", inputs)
    if options.report is not None:
        check_writable(options.report, "--report", (*inputs, options.out))
    if options.plot is not None:
        if not options.plot.endswith(_FIGURES):
            raise InputError("certify", "--plot", options.plot, f"a name ending in {', '.join(_FIGURES)}")
        check_writable(options.plot, "--plot", (*inputs, options.out), kind="figure")
    with stoppable() as stop:
        found, interrupted = stop.until(lambda: _found(options), lambda error: _reached(error, options), "verify.discover")
        circuit, report = found
        return _delivered(circuit, report, options, interrupted)


def _found(options: Options) -> tuple[Circuit | None, Report]:
    from verify.discover import discover

    began = time.monotonic()
    with working(options.quiet, options.backend) as progress:
        found = discover(
            options.model,
            options.spec,
            start=options.start,
            algorithm=options.algorithm,
            order=options.order,
            enumerate_all=options.enumerate_all,
            question_s=options.question,
            timeout_s=options.timeout,
            device=options.device,
            backend=options.backend,
            seed=options.seed,
            allow_code=options.allow_code,
            journal=journal_of(options.out),
            resume=options.resume,
            out=options.out,
            certificate=options.certificate,
            progress=progress,
            hard=True,
            began=began,
        )
    return found.circuit, found.report


def _reached(error: BaseException, options: Options) -> tuple[Circuit | None, Report]:
    """What was known when the run was stopped."""
    from verify.api import Interrupted

    if isinstance(error, Interrupted):
        return error.circuit, error.report
    return None, unread(options.spec, options.backend, options.device, options.seed)


def _delivered(circuit: Circuit | None, report: Report, options: Options, interrupted: bool) -> int:
    written = [_write(circuit, report, options), deliver(report, options.report, options.as_json, interrupted)]
    return NOT_WRITTEN if NOT_WRITTEN in written else written[-1]


def _write(circuit: Circuit | None, report: Report, options: Options) -> int:
    from specs.write import write_circuit

    path = options.out
    try:
        if circuit is not None and report.verdict == "certified":
            write_circuit(circuit, path)
        if options.plot is not None and report.search is not None:
            from verify.render.plot import plot_search

            path = options.plot
            plot_search(report, path)
    except OSError as error:
        return not_written(path, error)
    return YES
