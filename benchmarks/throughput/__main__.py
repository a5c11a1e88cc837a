"""`python -m benchmarks.throughput`: see the package's docstring."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console

from benchmarks.throughput.cases import CASES, bench_folder
from benchmarks.throughput.contenders import contenders
from benchmarks.throughput.measure import Plan, Result, measure
from benchmarks.throughput.table import comparison, show

__all__ = ["main"]


def main(arguments: list[str] | None = None) -> int:
    """Measure and print. Returns the exit code: 2 where data is missing."""
    options = _parser().parse_args(arguments)
    folder = bench_folder(options.data)
    cases = [CASES[name] for name in options.case or [name for name, case in CASES.items() if not case.bundled]]
    missing = [path for case in cases for path in case.paths(folder) if not path.is_file()]
    if missing:
        print(
            f"throughput: no {missing[0]}; give the folder with models/ and data/ by --data or CERTIFY_BENCH, "
            "or try `--case digits_mlp`, which is bundled",
            file=sys.stderr,
        )
        return 2
    plan = Plan(repetitions=options.repeat, cap_s=options.cap, threads=options.threads)
    if options.quick:
        plan = Plan(batches=(1, 16), repetitions=1, most=2, cap_s=min(15.0, options.cap), threads=options.threads)
    rivals = contenders(options.lirpa07)
    if options.only:
        rivals = tuple(c for c in rivals if any(word in c.name for word in options.only))
    console, notes = Console(width=None if sys.stdout.isatty() else 168), Console(stderr=True)
    results: list[Result] = []
    with notes.status("") as status:
        for case in cases:
            results.append(measure(case, rivals, folder, plan, status.update))
            show(console, results[-1], plan)
    if options.json:
        options.json.write_text(json.dumps([row for result in results for row in _records(result)], indent=1) + "\n")
    return 0


def _records(result: Result) -> list[dict[str, Any]]:
    return [
        row.record()
        | {
            "baseline_mib": result.baseline_mib,
            "setup_s": result.setup_s[row.contender],
            "version": result.version[row.contender],
            "against_reference": comparison(result, row.contender),
        }
        for row in result.rows
    ]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.throughput", description="Candidate circuits bounded per second."
    )
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="models/ and data/ (default: $CERTIFY_BENCH or ../shared/bench)"
    )
    parser.add_argument("--quick", action="store_true", help="batches 1 and 16, one turn, a cap of 15 s")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the rows as JSON")
    parser.add_argument("--lirpa07", type=Path, metavar="PATH", help="a checkout of auto_LiRPA 0.7, to measure as well")
    parser.add_argument("--case", action="append", choices=list(CASES), help="only this case (may be given again)")
    parser.add_argument("--only", action="append", metavar="WORD", help="only contenders with this in their name")
    parser.add_argument("--repeat", type=int, default=3, metavar="N", help="turns of each measurement (default 3)")
    parser.add_argument("--cap", type=float, default=60.0, metavar="SECONDS", help="stop a measurement after this (default 60)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads of each contender (default 1)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
