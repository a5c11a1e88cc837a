"""`certify CIRCUIT.json --spec SPEC.yaml`: one question, one report, one line."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specs.errors import InputError
from verify.commands.running import stoppable, unread, working
from verify.commands.writing import check_writable, deliver

if TYPE_CHECKING:
    from verify.report import Report

__all__ = ["JOURNAL", "Options", "journal_of", "run"]

JOURNAL = ".journal"
"""What a journal's name adds to that of the file it belongs to."""


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    circuit: str
    spec: str
    out: str | None = None
    timeout: float | None = None
    device: str = "cpu"
    backend: str = "auto"
    seed: int = 0
    quiet: bool = False
    as_json: bool = False
    allow_code: bool = False
    resume: bool = False
    certificate: str | None = None
    float32: bool = False


def run(options: Options) -> int:
    """Decide, report, and say it in one line. Returns the exit code. Raises: InputError."""
    if options.out is not None:
        check_writable(options.out, "--out", (options.circuit, options.spec))
    elif options.resume:
        raise InputError("certify", "--resume", "no --out", "the --out of the run to go on with", "add it")
    with stoppable() as stop:
        report, interrupted = stop.until(lambda: _report(options), lambda error: _reached(error, options))
        return deliver(report, options.out, options.as_json, interrupted)


def _reached(error: BaseException, options: Options) -> Report:
    """What was known when the run was stopped: nothing, where it was still reading."""
    from verify.api import Interrupted

    if isinstance(error, Interrupted):
        return error.report
    return unread(options.spec, options.backend, options.device, options.seed)


def _report(options: Options) -> Report:
    from verify.api import certify

    began = time.monotonic()
    with working(options.quiet, options.backend) as progress:
        return certify(
            options.circuit,
            options.spec,
            timeout_s=options.timeout,
            device=options.device,
            backend=options.backend,
            seed=options.seed,
            allow_code=options.allow_code,
            progress=progress,
            journal=journal_of(options.out),
            resume=options.resume,
            certificate=options.certificate,
            float32=options.float32,
            hard=True,
            began=began,
        )


def journal_of(out: str | None) -> str | None:
    """Where a run that writes `out` takes down what it learns."""
    return None if out is None else out + JOURNAL
