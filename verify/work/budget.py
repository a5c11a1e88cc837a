"""Time to spend on an answer, and ways to stop before it is spent."""

from __future__ import annotations

import math
import signal
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import FrameType

from verify.work.importing import RETRY_S, importing

__all__ = ["Budget", "TimeUp", "timer_is_free"]


_LONGEST = 1e8
"""The longest that an interval timer is set for; some systems take no more."""


_SHARED = 0.25
"""The most of a whole budget that one such step takes."""


class TimeUp(BaseException):
    """The time ran out in the middle of a step. Not an `Exception`, so that no library on the way takes it for a failure."""


def timer_is_free() -> bool:
    """Whether a hard budget would be in nobody's way: in the main thread of a process whose interval timer is not set."""
    return _has_timer() and signal.getitimer(signal.ITIMER_REAL)[0] == 0


def _has_timer() -> bool:
    return threading.current_thread() is threading.main_thread() and hasattr(signal, "setitimer")


@dataclass(frozen=True, slots=True)
class Budget:
    """A span of monotonic time that began when this was made. Units: seconds.

    `hard` stops a step that overruns (see `enforced`); it takes the process's interval timer, so only a program that owns its
    process, or finds the timer free, may ask for it. `whole` is what this is one question's share of, where there is such (see
    `shared`).
    """

    time_s: float
    hard: bool = False
    began: float = field(default_factory=time.monotonic)
    whole: Budget | None = None
    _lent: list[float] = field(default_factory=list[float])

    def __post_init__(self) -> None:
        if not 0 < self.time_s < math.inf:
            raise ValueError(f"a budget of {self.time_s} s; a finite number greater than 0 is needed")

    @property
    def elapsed(self) -> float:
        """Seconds since it began, less those that were the whole's."""
        return time.monotonic() - self.began - sum(self._lent)

    def remaining(self) -> float:
        """Seconds left, 0 where none are."""
        return max(0.0, self.time_s - self.elapsed)

    @property
    def expired(self) -> bool:
        """Whether nothing is left."""
        return self.remaining() <= 0

    def part(self, share: float) -> Budget:
        """A budget that begins now: `share` of what is left (at least a microsecond, so that it can be made at all)."""
        return Budget(max(self.remaining() * share, 1e-6), self.hard, whole=self.whole)

    @contextmanager
    def shared(self) -> Generator[None, None, None]:
        """Inside the block time is the whole's, at most a quarter of what is left of it: for what is of no use half done.

        Otherwise what takes longer than a question may would be begun anew with each. Without a whole it is this one's.
        """
        if self.whole is None:
            yield
            return
        began = time.monotonic()
        try:
            with self.whole.part(_SHARED)._ringing(counted=False):
                yield
        finally:
            self._lent.append(time.monotonic() - began)

    @contextmanager
    def finishing(self) -> Generator[None, None, None]:
        """Inside the block nothing is cut off before a quarter of what is left of the whole is spent too, though its time
        counts: for a step that reads the clock itself, and is worth nothing cut off. Without a whole it is cut off as ever."""
        if self.whole is None or self.remaining() > _SHARED * self.whole.remaining():
            yield
            return
        with self.whole.part(_SHARED).enforced():
            yield

    @contextmanager
    def enforced(self) -> Generator[None, None, None]:
        """Raise `TimeUp` inside the block once nothing is left, where the budget is hard and this is the main thread.

        A step in native code is only left when that code returns, an import when it is done. A timer that was set before goes
        on behind it, with what it has left then.
        """
        with self._ringing(counted=True):
            yield

    @contextmanager
    def _ringing(self, counted: bool) -> Generator[None, None, None]:
        """As `enforced`; `counted`: whether time inside counts for a timer that was set before."""
        if not self.hard or not _has_timer():
            yield
            return

        def stop(_signal: int, frame: FrameType | None) -> None:
            if importing(frame):
                signal.setitimer(signal.ITIMER_REAL, RETRY_S)
                return
            raise TimeUp

        began = time.monotonic()
        handler = signal.signal(signal.SIGALRM, stop)
        delay, interval = signal.setitimer(signal.ITIMER_REAL, min(max(self.remaining(), 1e-6), _LONGEST))
        try:
            yield
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, handler)
            if delay > 0:
                spent = time.monotonic() - began if counted else 0.0
                signal.setitimer(signal.ITIMER_REAL, max(delay - spent, 1e-6), interval)
