"""What every command that runs long shares: stopping it from outside, where it may write, what its exit code says."""

from __future__ import annotations

import importlib
import os
import secrets
import signal
import sys
import threading
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING

from specs.errors import InputError
from verify.work.beside import cores
from verify.work.importing import RETRY_S, importing

if TYPE_CHECKING:
    from verify.report import Report

__all__ = ["INTERRUPTED", "NOT_WRITTEN", "Stop", "check_writable", "code_of", "deliver", "load", "stoppable", "unread"]

INTERRUPTED = 130
NOT_WRITTEN = 74
"""Exit code where there is an answer, and its report could not be written."""

_THREADS = 4
"""Threads for tensors, at most, one core being left to the exact programs; OMP_NUM_THREADS says otherwise."""

_CODES = {"certified": 0, "falsified": 1, "unknown": 3}
_MINIMAL = {"proven": 0, "refuted": 1, "relative": 3}


def code_of(report: Report) -> int:
    """The exit code of a report. Where minimality was asked of a certified circuit, it is that of the minimality: refuted, by a
    smaller circuit, counts as falsified, relative as unknown."""
    code = _CODES[report.verdict]
    return _MINIMAL[report.minimality.status] if report.minimality is not None and code == 0 else code


def load(stop: Stop, *modules: str) -> None:
    """Import what takes long, undisturbed: a library stopped half-way through its import crashes when it is imported again.

    Raises: KeyboardInterrupt: the run was asked to stop meanwhile."""
    with stop.held():
        for name in ("specs.encode", "specs.models.source", "verify.api", "verify.ladder.decide", *modules):
            importlib.import_module(name)
        if "OMP_NUM_THREADS" not in os.environ:
            import torch

            # Its threads wait for each other by spinning: with a core missing they are slower than one by far.
            torch.set_num_threads(max(1, min(_THREADS, cores() - 1)))


def unread(spec: str, backend: str, device: str, seed: int) -> Report:
    """The report of a run that was stopped while it was still reading."""
    from verify.report import Report
    from verify.verdict import INTERRUPTED as REASON
    from verify.verdict import Unknown

    said = {"verdict": "unknown", "meaning": Unknown.meaning, "reason": REASON, "interrupted": True, "spec": spec}
    return Report.model_validate({**said, "backend": backend, "device": device, "seed": seed, "time_s": 0.0})


def deliver(report: Report, out: str | None, as_json: bool, interrupted: bool) -> int:
    """Write the report to `out`, where that is given, and its summary (or all of it) on standard output. Returns the exit
    code."""
    from verify.report import write_report

    code = INTERRUPTED if interrupted else code_of(report)
    if out is not None:
        try:
            write_report(report, out)
        except OSError as error:
            print(f"certify: {out} could not be written ({error.strerror})", file=sys.stderr)
            code = NOT_WRITTEN
    sys.stdout.write(report.text() if as_json else report.summary + "\n")
    sys.stdout.flush()
    return code


_STARTS = {
    "report": (b"{",),
    "figure": (b"\x89PNG", b"%PDF", b"<?xml", b"<svg"),
    "counterexample": (b"sat\n", b"unsat\n", b"unknown\n"),
    "page": (b"<!doctype html>",),
}
"""How a file of each kind starts; circuits start as reports do."""


def check_writable(path: str, where: str, inputs: tuple[str, ...] = (), kind: str = "report") -> None:
    """Make sure that a file can be written there, before any work is done: a report or circuit, or another `kind`, which may
    replace one of the same kind only. Leaves nothing behind.

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
        if not _replaceable(target, _STARTS[kind]):
            needed = f"a new file, or an earlier {kind}"
            raise InputError("certify", where, f"{path} exists and is no {kind}", needed, "choose another name")
        if not os.access(target, os.W_OK):
            raise InputError("certify", where, f"{path} is not writable", "a file to write", "change its permissions")
    probe = os.path.join(folder, f".{os.path.basename(target)}.{secrets.token_hex(4)}.part")
    try:
        with open(probe, "x"):
            pass
        os.unlink(probe)
    except OSError as error:
        raise InputError("certify", where, f"{path} cannot be written ({error.strerror})", "a file to write", "") from None


def _replaceable(target: str, starts: tuple[bytes, ...]) -> bool:
    """Whether a file is empty, or starts as one of its kind does: models, data and specs are not overwritten by a slip of the
    hand."""
    try:
        with open(target, "rb") as stream:
            start = stream.read(64).lstrip()
    except OSError:
        return False
    return not start or start.startswith(starts)


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

    def stop(number: int, frame: FrameType | None) -> None:
        asked.requested = True
        if asked.holding:
            return
        if importing(frame):
            again = threading.Timer(RETRY_S, os.kill, (os.getpid(), number))
            again.daemon = True
            again.start()
            return
        raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in _STOPPING}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
