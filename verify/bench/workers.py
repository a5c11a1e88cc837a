"""Many runs over processes: one run at a time in each, and what kills a process is told in the row of the run it had."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Generator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from verify.bench.answer import BROKEN, answer, blank
from verify.bench.row import Row
from verify.bench.runs import Run
from verify.bench.suite import Suite

__all__ = ["answers", "end_with_parent"]

_GRACE_S = 120.0
"""What a run may take beside three times its budget (searching, certifying, reading its model) before its process is ended."""


def answers(suite: Suite, asked: Sequence[Run], bench: Path | None, jobs: int) -> Generator[Row, None, None]:
    """Rows as they come, in no fixed order. Each process computes with one thread. Closing the iterator ends the processes."""
    waiting = list(reversed(asked))
    busy: list[_Worker] = []
    try:
        while waiting or any(worker.run is not None for worker in busy):
            while waiting and len(busy) < jobs:
                busy.append(_Worker.started(suite, bench))
            for worker in busy:
                if worker.run is None and waiting:
                    worker.take(waiting.pop(), suite)
            ready = wait([worker.pipe for worker in busy if worker.run is not None], timeout=1.0)
            for worker in [worker for worker in busy if worker.run is not None]:
                row = worker.told(suite) if worker.pipe in ready else worker.overrun(suite)
                if row is not None:
                    if not worker.process.is_alive() or worker.ended:
                        worker.end()
                        busy.remove(worker)
                    yield row
    finally:
        for worker in busy:
            worker.end()


@dataclass(slots=True, eq=False)
class _Worker:
    """A process, what it is doing, and until when it may."""

    process: BaseProcess
    pipe: Connection
    run: Run | None = None
    until: float = 0.0
    ended: bool = False

    @classmethod
    def started(cls, suite: Suite, bench: Path | None) -> _Worker:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_serve, args=(theirs, suite.file, bench), daemon=True)
        process.start()
        theirs.close()
        return cls(process, ours)

    def take(self, run: Run, suite: Suite) -> None:
        self.run = run
        self.until = time.monotonic() + 3 * suite.experiments[run.experiment].budget.time_s + _GRACE_S
        with suppress(BrokenPipeError):  # a process that has died is told by `told`: its pipe is at its end
            self.pipe.send(run)

    def told(self, suite: Suite) -> Row:
        assert self.run is not None
        run, self.run = self.run, None
        try:
            row: Row = self.pipe.recv()
            # A process in which something broke is not trusted with another run.
            self.ended = row.error is not None and row.error.startswith(BROKEN)
            return row
        except (EOFError, ConnectionResetError):
            self.ended = True
            self.process.join(5.0)
            return blank(suite, run, f"its process ended with code {self.process.exitcode}")

    def overrun(self, suite: Suite) -> Row | None:
        if self.run is None or time.monotonic() < self.until:
            return None
        run, self.run, self.ended = self.run, None, True
        return blank(suite, run, "it went far beyond its budget, and its process was ended")

    def end(self) -> None:
        self.process.kill()
        self.process.join(5.0)
        self.pipe.close()


def _serve(pipe: Connection, file: str, bench: Path | None) -> None:
    """What a process does: answer runs until nobody asks."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started us is interrupted too, and ends us
    end_with_parent()
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    from verify.bench.suite import read_suite

    torch.set_num_threads(1)
    suite = read_suite(file)
    while True:  # until whoever asked has gone
        try:
            run: Run = pipe.recv()
            pipe.send(answer(suite, run, bench))
        except (EOFError, BrokenPipeError):
            return


def end_with_parent() -> None:
    """End this process when the one that started it has gone, killed too: nobody would hear the answer."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
