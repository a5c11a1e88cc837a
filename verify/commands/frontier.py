"""`certify frontier --spec SPEC.yaml --over epsilon --values 0.01,0.02 --out DIR`: circuits, a table, a figure."""

from __future__ import annotations

import csv
import io
import math
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specs.errors import InputError
from verify.commands.codes import INTERRUPTED, NO, code_of
from verify.commands.running import stoppable, working
from verify.commands.writing import check_folder

if TYPE_CHECKING:
    from verify.frontier import Over, Point

__all__ = ["Options", "run"]

_MADE = ("frontier.csv", "frontier.svg")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    spec: str
    over: Over
    values: str
    out: str
    model: str | None = None
    timeout: float | None = None
    seed: int = 0
    quiet: bool = False
    allow_code: bool = False


def run(options: Options) -> int:
    """Search at every value; a line each on standard output. Returns the exit code: 0 where each is minimal as the spec asks, 3
    where one is so only relatively, 1 where at some value not even everything is faithful; 130: interrupted, what was found is
    written. Raises: InputError."""
    values = _numbers(options.values)
    folder = check_folder(options.out, _MADE)
    with stoppable() as stop:
        points, interrupted = stop.until(lambda: _searched(options, values), _reached, "verify.frontier")
        if points:
            folder.mkdir(parents=True, exist_ok=True)
            _write(points, folder, options.over)
    for point in points:
        print(f"{options.over}={point.value:g} {point.found.report.summary}")
    if interrupted:
        print(f"certify: interrupted; {len(points)} of {len(values)} values were searched", file=sys.stderr)
        return INTERRUPTED
    codes = [code_of(point.found.report) for point in points]
    return NO if NO in codes else max(codes)


def _numbers(text: str) -> list[float]:
    try:
        return [float(word) for word in text.split(",")]
    except ValueError:
        raise InputError("certify", "--values", repr(text), "numbers with commas between, as 0.01,0.02") from None


def _searched(options: Options, values: list[float]) -> list[Point]:
    from specs.load import read_spec
    from verify.frontier import frontier

    spec = read_spec(options.spec)
    with working(options.quiet) as progress:
        return frontier(
            options.model,
            spec,
            options.over,
            values,
            progress=lambda value: progress,
            timeout_s=options.timeout,
            seed=options.seed,
            allow_code=options.allow_code,
            hard=True,
        )


def _reached(error: BaseException) -> list[Point]:
    """What was found when the run was stopped."""
    from verify.frontier import Stopped

    return error.points if isinstance(error, Stopped) else []


def _write(points: list[Point], folder: Path, over: Over) -> None:
    from specs.write import write_circuit, write_whole
    from verify.render.plot import plot_frontier
    from verify.report import write_report

    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow([over, "verdict", "size", "lower", "upper", "level", "status", "time_s"])
    for point in points:
        report, name = point.found.report, f"{over}_{point.value:g}"
        told = report.minimality
        size = report.circuit.size if report.circuit is not None and report.verdict == "certified" else ""
        upper = "" if math.isinf(point.upper) else f"{point.upper:g}"
        reached = ("", "") if told is None else (told.reached, told.status)
        rows.writerow([point.value, report.verdict, size, f"{point.lower:g}", upper, *reached, f"{report.time_s:.2f}"])
        write_report(report, folder / f"{name}.report.json")
        if report.verdict == "certified":
            write_circuit(point.found.circuit, folder / f"{name}.circuit.json")
    write_whole(text.getvalue(), folder / _MADE[0])
    plot_frontier(points, over, os.fspath(folder / _MADE[1]))
