"""How every command that runs long runs: it shows its progress, can be stopped from outside, and then gives what it has."""

from __future__ import annotations

import importlib
import os
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import TYPE_CHECKING, TypeVar

from specs.errors import InputError
from verify.work.beside import cores
from verify.work.importing import RETRY_S, importing

if TYPE_CHECKING:
    from verify.report import Report
    from verify.work.progress import Progress

__all__ = ["Stop", "refusals_told", "stoppable", "unread", "working"]

T = TypeVar("T")

_THREADS = 4
"""Threads for tensors, at most, one core being left to the exact programs; OMP_NUM_THREADS says otherwise."""

_LONG = ("specs.encode", "specs.models.source", "verify.api", "verify.ladder.decide")
"""What takes long to import, and every command that runs long needs."""


@contextmanager
def working(quiet: bool, backend: str = "auto") -> Generator[Progress, None, None]:
    """Inside, progress is shown as it is told, unless `quiet`, and refusals are told. Raises: as `refusals_told`."""
    from verify.render.progress import shown

    with shown(quiet) as progress, refusals_told(backend):
        yield progress


@contextmanager
def refusals_told(backend: str) -> Generator[None, None, None]:
    """Inside, a backend that refuses the question, or is not installed, is a fault of the request. Raises: InputError."""
    from bounds.backends.base import BackendRefusal, BackendUnavailable

    try:
        yield
    except (BackendRefusal, BackendUnavailable) as error:
        raise InputError("certify", f"--backend {backend}", str(error)) from None


def unread(spec: str, backend: str, device: str, seed: int) -> Report:
    """The report of a run that was stopped while it was still reading."""
    from verify.report import Report
    from verify.verdict import INTERRUPTED as REASON
    from verify.verdict import Unknown

    said = {"verdict": "unknown", "meaning": Unknown.meaning, "reason": REASON, "interrupted": True, "spec": spec}
    return Report.model_validate({**said, "backend": backend, "device": device, "seed": seed, "time_s": 0.0})


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

    def until(self, work: Callable[[], T], reached: Callable[[BaseException], T], *modules: str) -> tuple[T, bool]:
        """What `work` returns and False; or, where the run was asked to stop, what `reached` makes of the error with which it
        ended, and True. From then on no notice is taken of further requests: what is left is to write the report. Imports what
        takes long first, and `modules`. Raises: as `work`."""
        try:
            self._load(*modules)
            return work(), False
        except BaseException as error:
            # Some libraries turn an interrupt that comes while they are imported into an error of their own.
            if not self.requested:
                raise
            for number in _STOPPING:
                signal.signal(number, signal.SIG_IGN)
            return reached(error), True

    def _load(self, *modules: str) -> None:
        # Undisturbed: a library stopped half-way through its import crashes when it is imported again.
        with self.held():
            for name in (*_LONG, *modules):
                importlib.import_module(name)
            if "OMP_NUM_THREADS" not in os.environ:
                import torch

                # Its threads wait for each other by spinning: with a core missing they are slower than one by far.
                torch.set_num_threads(max(1, min(_THREADS, cores() - 1)))


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
