"""A task in a second thread, beside what the first one does: HiGHS and torch let go of the interpreter's lock in their work."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from types import TracebackType

__all__ = ["Beside", "cores"]

_LAST_WAIT_S = 5.0
"""How long an interrupted wait for the thread to end is taken up again."""


def cores() -> int:
    """Processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Beside:
    """Runs `task(stopped)` in a thread for the length of a `with` block. The task must look at `stopped` often, and end.

    Guarantees: after the block, however it is left (an error, `TimeUp`, an interrupt from the keyboard), the thread has been
    told to stop and waited for. `finished` says that the task has ended; its error, if it had one, is raised by `outcome`.
    """

    def __init__(self, task: Callable[[Callable[[], bool]], None]) -> None:
        self._task = task
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="certify beside", daemon=True)
        self._error: BaseException | None = None
        self._ended = False
        self.cpu_s = 0.0

    @property
    def finished(self) -> bool:
        """Whether the task has ended."""
        return self._ended

    def outcome(self) -> None:
        """Raises: what the task raised."""
        if self._ended and self._error is not None:
            raise self._error

    def __enter__(self) -> Beside:
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        until = time.monotonic() + _LAST_WAIT_S
        try:
            self._thread.join()
        except BaseException:
            # Told to stop a second time, while waiting: the thread ends at its next look at `stopped`.
            self._thread.join(max(0.0, until - time.monotonic()))
            raise

    def _run(self) -> None:
        began = time.thread_time()
        try:
            self._task(self._stop.is_set)
        except BaseException as error:
            self._error = error
        finally:
            self.cpu_s = time.thread_time() - began
            self._ended = True
