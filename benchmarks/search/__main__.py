"""`python -m benchmarks.search`: see the package's docstring."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.decide.cases import SEQUENCE, Case
from benchmarks.decide.rows import Row, Rows
from benchmarks.decide.tables import table
from benchmarks.throughput.cases import bench_folder

if TYPE_CHECKING:
    from specs.encode import Problem
    from specs.model import Model

__all__ = ["main", "search_table"]

PART = "search"
KINDS = ("zero", "closed", "reachable")
CASES = ("mnist_verix_10x2", "taxinet_kj_tiny_cnn", "gtsrb_cnn_8_16_fc64")
REFERENCE = "certify iterated"


def main(arguments: list[str] | None = None) -> int:
    """Measure and print a table. Returns the exit code."""
    options = _parser().parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    import torch

    torch.set_num_threads(1)
    data = bench_folder(options.data)
    rows = Rows(options.out or Path(tempfile.mkdtemp(prefix="search-")), options.resume)
    for name in options.case or CASES:
        for kind in options.kind or KINDS:
            _measure(SEQUENCE[name], kind, data, rows, options)
    print(search_table(rows))
    print(f"rows: {rows.path}")
    return 0


def _measure(case: Case, kind: str, data: Path, rows: Rows, options: argparse.Namespace) -> None:
    from benchmarks.search.contenders import contenders

    if (missing := case.missing(data)) is not None:
        print(f"search: {case.name}: no {missing}: skipped", file=sys.stderr)
        return
    model = case.load(data)
    tolerance = case.tolerance(data, model)
    for index in range(options.inputs):
        problem = _problem(replace(case, index=index), kind, data, model, tolerance)
        monotone = problem.claims[0].monotone.known
        for contender in contenders(monotone):
            key = {
                "part": PART, "case": f"{case.name}, {kind}", "query": index, "tool": contender.name, "limit_s": options.limit
            }  # fmt: skip
            if rows.find(**key) is not None:
                continue
            found = contender.run(problem, options.limit, options.question)
            rows.add({**key, "tolerance": tolerance, "epsilon": case.epsilon, "of": len(problem.components), **asdict(found)})
            said = f"{found.size} kept, {found.level}, {found.time_s:.2f} s"
            print(f"search: {key['case']}: input {index}: {contender.name}: {said}", file=sys.stderr, flush=True)


def _problem(case: Case, kind: str, data: Path, model: Model, tolerance: float) -> Problem:
    """The claim about everything in scope on the case's box; patched activations are those of inputs of the same box."""
    from specs.encode import encode_scope
    from specs.spec import Spec

    lower, upper = case.ends(data, model.graph.input_shape)
    region = {"kind": "box", "lower": lower.tolist(), "upper": upper.tolist()}
    patching: dict[str, Any] = {"kind": kind} if kind == "zero" else {"kind": kind, kind: region}
    spec = Spec.model_validate(
        {"format": "certify.spec/1", "input": region, "patching": patching, "agreement": case.agreement(tolerance)}
    )
    return encode_scope(case.scope(model), spec, model, file=case.name)


def search_table(rows: Rows) -> str:
    """A line for each network, kind and way to search."""
    mine = rows.some(part=PART)
    lines: list[list[str]] = []
    for case in dict.fromkeys(row["case"] for row in mine):
        here = [row for row in mine if row["case"] == case]
        base = _times([row for row in here if row["tool"] == REFERENCE])
        for tool in dict.fromkeys(row["tool"] for row in here):
            lines.append(_line(case, tool, [row for row in here if row["tool"] == tool], base))
    header = ("claim", "search", "inputs", "of", "kept", "levels proven", "ended", "asked", "looked at", "s a circuit", "ratio")
    return table(header, lines)


def _times(rows: Sequence[Row]) -> float:
    return median(row["time_s"] for row in rows) if rows else float("nan")


def _line(case: str, tool: str, rows: Sequence[Row], base: float) -> list[str]:
    levels: dict[str, int] = {}
    for row in rows:
        level = row["level"] if row["proven"] else "none"
        levels[level] = levels.get(level, 0) + 1
    said = ", ".join(f"{level} {count}" for level, count in levels.items())
    return [
        case, tool, str(len(rows)), str(rows[0]["of"]), f"{median(row['size'] for row in rows):g}", said,
        f"{sum(row['ended'] for row in rows)} of {len(rows)}", f"{median(row['asked'] for row in rows):g}",
        f"{median(row['evaluated'] for row in rows):g}", f"{_times(rows):.2f}", f"{_times(rows) / base:.1f}",
    ]  # fmt: skip


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.search", description="What a minimal circuit costs.")
    parser.add_argument("--data", type=Path, metavar="DIR", help="models/, data/ (default: $CERTIFY_BENCH or ../shared/bench)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="rows (default: a new temporary folder)")
    parser.add_argument("--resume", action="store_true", help="keep the rows in --out, and measure what is missing")
    parser.add_argument("--case", action="append", choices=list(SEQUENCE), help=f"network (default {', '.join(CASES)})")
    parser.add_argument("--kind", action="append", choices=KINDS, help="patching (default: all)")
    parser.add_argument("--inputs", type=int, default=5, metavar="N", help="the data's first N inputs (default 5)")
    parser.add_argument("--limit", type=float, default=60.0, metavar="S", help="seconds a search (default 60)")
    parser.add_argument("--question", type=float, default=5.0, metavar="S", help="seconds a question at first (default 5)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
