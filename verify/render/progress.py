"""Progress on standard error: a bar on a terminal, a line every few seconds elsewhere, or nothing."""

from __future__ import annotations

import math
import sys
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from verify.work.progress import Progress, Silent, Stage, Step

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

__all__ = ["EVERY_S", "shown"]

EVERY_S = 5.0
"""Seconds between lines."""


@contextmanager
def shown(quiet: bool) -> Generator[Progress, None, None]:
    """Progress that fits standard error, for as long as the block runs."""
    if quiet:
        yield Silent()
    elif sys.stderr.isatty():
        with _bar() as bar:
            yield bar
    else:
        lines = _Lines()
        lines.start()
        try:
            yield lines
        finally:
            lines.stop()


def said(step: Step | Stage) -> str:
    """What a step says: `claim 2 of 5 (index 7): linear bounds; proven -0.21; seen 0.4`, or a stage of a search: `31 of 64
    kept, least between 12 and 31, 3 open, 120 asked: deletion`."""
    if isinstance(step, Stage):
        bracket = f"least between {step.lower:.6g} and {step.upper:.6g}"
        found = f"{step.size} of {step.scope} kept, {bracket}, {step.unresolved} open, {step.asked} asked"
        return f"{found}: {step.doing}" if step.doing else found
    if not step.label:
        return step.rung
    parts = [f"claim {step.claim + 1} of {step.claims} ({step.label}): {step.rung}"]
    if math.isfinite(step.bound):
        parts.append(f"proven margin {step.bound:.4g}")
    if step.deviation is not None:
        parts.append(f"largest deviation {step.deviation:.4g}")
    return "; ".join(parts)


class _Lines(Progress):
    """A line every few seconds, from a thread of its own: a step may take longer than that."""

    def __init__(self) -> None:
        self._began = time.monotonic()
        self._said = "reading"
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def show(self, step: Step | Stage) -> None:
        self._said = said(step)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._done.set()
        self._thread.join(1.0)

    def _run(self) -> None:
        while not self._done.wait(EVERY_S):
            print(f"{time.monotonic() - self._began:.0f}s {self._said}", file=sys.stderr, flush=True)


class _Bar(Progress):
    def __init__(self, bar: RichProgress, task: Any) -> None:
        self._bar, self._task = bar, task

    def show(self, step: Step | Stage) -> None:
        # A search's bar fills as its bracket closes.
        done, total = (step.lower, step.upper) if isinstance(step, Stage) else (step.claim, step.claims)
        self._bar.update(self._task, description=said(step), completed=done, total=total)


@contextmanager
def _bar() -> Generator[Progress, None, None]:
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as RichProgress

    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}", markup=False))
    with RichProgress(*columns, console=Console(stderr=True), transient=True) as bar:
        yield _Bar(bar, bar.add_task("reading", total=None))
