"""`certify CIRCUIT.json --spec SPEC.yaml`: one question, one report, one line."""

from __future__ import annotations

import importlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from specs.errors import InputError

if TYPE_CHECKING:
    from verify.report import Report

__all__ = ["CODES", "Options", "check_writable", "run", "stoppable"]

CODES = {"certified": 0, "falsified": 1, "unknown": 3}
INTERRUPTED = 130
NOT_WRITTEN = 74
"""Exit code where there is an answer, and its report could not be written."""


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


def run(options: Options) -> int:
    """Decide, report, and say it in one line. Returns the exit code. Raises: InputError."""
    if options.out is not None:
        check_writable(options.out, "--out", (options.circuit, options.spec))
    interrupted = False
    with stoppable() as stop:
        try:
            _load(stop)
            report = _report(options)
        except BaseException as error:
            # Some libraries turn an interrupt that comes while they are imported into an error of their own.
            if not stop.requested:
                raise
            stop.ignore()
            interrupted = True
            report = _reached(error, options)
        return _deliver(report, options, interrupted)


def _load(stop: Stop) -> None:
    """Import what takes long, undisturbed: a library stopped half-way through its import crashes when it is imported again.

    Raises: KeyboardInterrupt: the run was asked to stop meanwhile."""
    with stop.held():
        for name in ("specs.encode", "specs.models.source", "verify.api", "verify.decide"):
            importlib.import_module(name)


def _reached(error: BaseException, options: Options) -> Report:
    """What was known when the run was stopped: nothing, where it was still reading."""
    from verify.api import Interrupted
    from verify.report import Report
    from verify.verdict import INTERRUPTED as REASON
    from verify.verdict import Unknown

    if isinstance(error, Interrupted):
        return error.report
    said = {"verdict": "unknown", "meaning": Unknown.meaning, "reason": REASON, "interrupted": True, "spec": options.spec}
    return Report.model_validate(
        {**said, "backend": options.backend, "device": options.device, "seed": options.seed, "time_s": 0.0}
    )


def _report(options: Options) -> Report:
    from verify.render.progress import shown

    began = time.monotonic()
    with shown(options.quiet) as progress:
        from bounds.backends.base import BackendRefusal, BackendUnavailable
        from verify.api import certify

        try:
            return certify(
                options.circuit,
                options.spec,
                timeout_s=options.timeout,
                device=options.device,
                backend=options.backend,
                seed=options.seed,
                allow_code=options.allow_code,
                progress=progress,
                hard=True,
                began=began,
            )
        except (BackendRefusal, BackendUnavailable) as error:
            raise InputError("certify", f"--backend {options.backend}", str(error)) from None


def _deliver(report: Report, options: Options, interrupted: bool) -> int:
    from verify.report import write_report

    code = INTERRUPTED if interrupted else CODES[report.verdict]
    if options.out is not None:
        try:
            write_report(report, options.out)
        except OSError as error:
            print(f"certify: {options.out} could not be written ({error.strerror})", file=sys.stderr)
            code = NOT_WRITTEN
    sys.stdout.write(report.text() if options.as_json else report.summary + "\n")
    sys.stdout.flush()
    return code


def check_writable(path: str, where: str, inputs: tuple[str, ...] = ()) -> None:
    """Make sure that a file can be written there, before any work is done. Leaves nothing behind.

    Raises: InputError: no such directory, it is a directory or no regular file, one of `inputs`, or no permission.
    """
    target = os.path.realpath(path)
    folder = os.path.dirname(target)
    if not path or path.endswith(os.sep) or os.path.isdir(target):
        found = f"{path} is a directory" if path else "an empty path"
        raise InputError("certify", where, found, "a file to write", "name a file in a directory")
    if not os.path.isdir(folder):
        found = "is not a directory" if os.path.exists(folder) else "does not exist"
        raise InputError("certify", where, f"{os.path.dirname(path)} {found}", "an existing directory", "create it first")
    if os.path.exists(target):
        if not os.path.isfile(target):
            raise InputError(
                "certify", where, f"{path} is no regular file", "a file to write", "use --json for standard output"
            )
        if any(os.path.exists(given) and os.path.samefile(given, target) for given in inputs):
            raise InputError("certify", where, f"{path} is read by this run", "another file", "")
        if not _replaceable(target):
            raise InputError(
                "certify", where, f"{path} exists and is no report", "a new file, or an earlier report", "choose another name"
            )
        if not os.access(target, os.W_OK):
            raise InputError("certify", where, f"{path} is not writable", "a file to write", "change its permissions")
    probe = os.path.join(folder, f".{os.path.basename(target)}.{secrets.token_hex(4)}.part")
    try:
        with open(probe, "x"):
            pass
        os.unlink(probe)
    except OSError as error:
        raise InputError("certify", where, f"{path} cannot be written ({error.strerror})", "a file to write", "") from None


def _replaceable(target: str) -> bool:
    """Whether a file is empty or may be JSON: models, data and specs are not overwritten by a slip of the hand."""
    try:
        with open(target, "rb") as stream:
            start = stream.read(64).lstrip()
    except OSError:
        return False
    return not start or start.startswith(b"{")


@dataclass(slots=True)
class Stop:
    """Whether the run was asked to stop."""

    requested: bool = False
    holding: bool = False

    @contextmanager
    def held(self) -> Generator[None, None, None]:
        """Let a request wait until the end of the block."""
        self.holding = True
        yield
        self.holding = False
        if self.requested:
            raise KeyboardInterrupt

    def ignore(self) -> None:
        """Take no notice of further requests: what is left is to write the report."""
        for number in _STOPPING:
            signal.signal(number, signal.SIG_IGN)


_STOPPING = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def stoppable() -> Generator[Stop, None, None]:
    """Inside, SIGINT and SIGTERM raise KeyboardInterrupt, also where the shell that started us in the background ignores
    them."""
    asked = Stop()

    def stop(_number: int, _frame: FrameType | None) -> None:
        asked.requested = True
        if not asked.holding:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
