"""Ask the contenders in turn, each in its own process, and keep what they answer."""

from __future__ import annotations

import json
import os
import select
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.throughput.cases import Case
from benchmarks.throughput.contenders import Contender

__all__ = ["Plan", "Result", "Row", "measure"]

_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is measured. Contenders that go one at a time get `most` circuits at most. What takes longer than `cap_s` is
    stopped, its process ended, and not asked again; what takes longer than a quarter of it is asked once only."""

    batches: tuple[int, ...] = (1, 16, 64)
    repetitions: int = 3
    most: int = 8
    cap_s: float = 60.0
    threads: int = 1


@dataclass(slots=True)
class Row:
    """One contender at one batch size. In each turn `measured` circuits took `seconds` of wall time and `cpu_seconds` of all
    cores together; `peak_mib` is that after the first turn."""

    case: str
    contender: str
    batch: int
    measured: int
    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)
    peak_mib: float | None = None
    note: str = ""

    @property
    def rate(self) -> float | None:
        """Circuits a second, from the median time; where fewer than `batch` were measured, their average a circuit."""
        return self.measured / statistics.median(self.seconds) if self.seconds else None

    @property
    def cpu_rate(self) -> float | None:
        """Circuits a second of processor time: what `rate` is on a machine with nobody else on it and one core."""
        return self.measured / statistics.median(self.cpu_seconds) if self.cpu_seconds else None

    def record(self) -> dict[str, Any]:
        return asdict(self) | {"per_s": self.rate, "per_cpu_s": self.cpu_rate, "extrapolated": self.measured < self.batch}


@dataclass(slots=True)
class Result:
    """All rows of one case; each contender's margins, first circuits first; how long its set-up took (untimed), its version."""

    case: Case
    rows: list[Row]
    margins: dict[str, list[float]]
    setup_s: dict[str, float]
    version: dict[str, str]
    baseline_mib: float

    def row(self, contender: str, batch: int) -> Row | None:
        return next((row for row in self.rows if (row.contender, row.batch) == (contender, batch)), None)


class _Process:
    """A contender at work."""

    def __init__(self, case: Case, contender: Contender, folder: Path, plan: Plan) -> None:
        settings = {
            "case": case.name,
            "contender": asdict(contender),
            "folder": str(folder),
            "threads": plan.threads,
            "circuits": max(plan.batches),
        }
        path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.throughput.worker", json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": path, "OMP_NUM_THREADS": str(plan.threads)},
        )
        self.alive = True

    def answer(self, timeout_s: float) -> dict[str, Any]:
        """The next answer; an `error` where there is none in time, and then the process is ended."""
        assert self.process.stdout is not None
        ready, _, _ = select.select([self.process.stdout], [], [], timeout_s)
        line = self.process.stdout.readline() if ready else ""
        answer: dict[str, Any] = json.loads(line) if line else {"error": "process died" if ready else f"over {timeout_s:.0f} s"}
        if "error" in answer:
            self.end()
        return answer

    def ask(self, count: int, timeout_s: float) -> dict[str, Any]:
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"count": count}) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return {"error": "process died"}
        return self.answer(timeout_s)

    def end(self) -> None:
        self.alive = False
        self.process.kill()
        self.process.communicate()


def measure(
    case: Case, contenders: tuple[Contender, ...], folder: Path, plan: Plan, progress: Callable[[str], None] = lambda _: None
) -> Result:
    """Measure one case. Contenders that fail keep rows that say why. `progress` is told what comes next."""
    baseline = _Process(case, Contender("baseline", "none"), folder, plan)
    weighed = baseline.answer(600)
    if "error" in weighed:
        raise RuntimeError(f"{case.name}: {weighed['error']}")
    baseline.end()
    result = Result(case, [], {}, {}, {}, weighed["peak_mib"])
    processes: dict[str, _Process] = {}
    try:
        for contender in contenders:
            progress(f"{case.name}: {contender.name}: set-up")
            process = processes[contender.name] = _Process(case, contender, folder, plan)
            ready = process.answer(600)
            result.setup_s[contender.name] = ready.get("setup_s", float("nan"))
            result.version[contender.name] = ready.get("version", "")
            result.rows += [_row(case, contender, batch, plan, ready.get("error", "")) for batch in plan.batches]
        for turn in range(plan.repetitions):
            for row in sorted(result.rows, key=lambda row: row.batch):
                progress(f"{row.case}: {row.contender}, batch {row.batch}, turn {turn + 1} of {plan.repetitions}")
                _turn(row, result, processes[row.contender], plan)
    finally:
        for process in processes.values():
            process.end()
    return result


def _row(case: Case, contender: Contender, batch: int, plan: Plan, note: str) -> Row:
    return Row(case.name, contender.name, batch, batch if contender.batched else min(batch, plan.most), note=note)


def _turn(row: Row, result: Result, process: _Process, plan: Plan) -> None:
    """One measurement, unless the row failed, was slow, or has the same circuits as the row before it."""
    same = next((r for r in result.rows if r is not row and r.contender == row.contender and r.measured == row.measured), None)
    if same is not None and same.batch < row.batch:
        row.seconds, row.cpu_seconds = list(same.seconds), list(same.cpu_seconds)
        row.peak_mib, row.note = same.peak_mib, same.note
        return
    if row.note or (row.seconds and row.seconds[0] > plan.cap_s / 4):
        return
    if not process.alive:
        row.note = row.note if row.seconds else "not asked"
        return
    answer = process.ask(row.measured, plan.cap_s)
    if "error" in answer:
        row.note = answer["error"]
        return
    row.seconds.append(answer["seconds"])
    row.cpu_seconds.append(answer["cpu_seconds"])
    if row.peak_mib is None:
        row.peak_mib = answer["peak_mib"]
    known = result.margins.setdefault(row.contender, [])
    if len(answer["margins"]) > len(known):
        result.margins[row.contender] = answer["margins"]
