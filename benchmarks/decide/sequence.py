"""The part `sequence`: the circuits that a greedy search meets, decided by us in one process and by peers one call each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.decide.cases import Case
from benchmarks.decide.question import Question, spec_document, write_question, write_region
from benchmarks.decide.rows import Row, Rows
from benchmarks.decide.tools import OURS, ask_certify, ask_peer, export
from benchmarks.peers.base import Peer

__all__ = ["COLD", "PART", "WHOLE", "Plan", "measure", "sample"]

PART = "sequence"
COLD = f"{OURS} (cold)"
WHOLE = "all"
_ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Plan:
    """`limit_s` for one question, ours and theirs alike. Peers are asked the first, middle and last `sampled` questions, or all
    where there are at most `few`."""

    limit_s: float = 20.0
    sampled: int = 3
    few: int = 24


def sample(count: int, each: int, few: int = 0) -> list[int]:
    """The first, middle and last `each` of `count` numbers, in order, each once; all where there are at most `few`."""
    if count <= few:
        return list(range(count))
    middle = max(0, (count - each) // 2)
    return sorted({i for start in (0, middle, count - each) for i in range(start, start + each) if 0 <= i < count})


def measure(
    case: Case, data: Path, peers: Sequence[Peer], out: Path, rows: Rows, plan: Plan, say: Callable[[str], None]
) -> None:
    """Walk the case, then ask the others. Skips what the rows have already."""
    missing = case.missing(data)
    if missing is not None:
        say(f"{PART}: {case.name}: no {missing}: skipped")
        return
    model = case.load(data)
    folder = out / PART / case.name
    region = write_region(folder, case.ends(data, model.graph.input_shape))
    key = {"part": PART, "case": case.name, "limit_s": plan.limit_s}
    if rows.find(**key, query=WHOLE, tool=OURS) is None and not _walked(case, data, region, rows, plan, key, say):
        return
    asked = [row for row in rows.some(**key, tool=OURS) if row["query"] != WHOLE]
    scope = case.scope(model)
    for number in sample(len(asked), plan.sampled, plan.few):
        row = next(row for row in asked if row["query"] == number)
        spec = spec_document(region, case.agreement(row["tolerance"]))
        question = write_question(folder / str(number), case.paths(data)[0], scope, row["kept"], spec)
        _others(question, peers, rows, plan, {**key, "query": number}, say)


def _walked(
    case: Case, data: Path, region: Path, rows: Rows, plan: Plan, key: dict[str, Any], say: Callable[[str], None]
) -> bool:
    """Ours: one process for the whole search; its wall time, start-up included, is in the row `WHOLE`."""
    asked = {"case": case.name, "data": str(data.absolute()), "region": str(region.absolute()), "budget_s": plan.limit_s}
    began, deciding, end = time.monotonic(), 0.0, None
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.decide.walk", json.dumps(asked)], stdout=subprocess.PIPE, stderr=errors,
            text=True, cwd=_ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        try:
            assert process.stdout is not None
            for line in process.stdout:
                record: Row = json.loads(line)
                if record.pop("end", False):
                    end = record
                    continue
                rows.add({**key, "tool": OURS, **record})
                deciding += record["time_s"]
                verdict, time_s = record["verdict"], record["time_s"]
                say(f"{PART}: {case.name}: {record['query']}: {verdict} in {time_s:.2f} s by {record['rung']}")
            process.wait()
        finally:
            process.kill()
            process.wait()
        total = time.monotonic() - began
        if end is None:
            errors.seek(0)
            said = [line for line in errors.read().splitlines() if line.strip()]
            say(f"{PART}: {case.name}: the search failed: {said[-1] if said else 'nothing said'}")
            return False
    rows.add({**key, "query": WHOLE, "tool": OURS, "time_s": total, "start_s": total - deciding, **end})
    return True


def _others(
    question: Question, peers: Sequence[Peer], rows: Rows, plan: Plan, key: dict[str, Any], say: Callable[[str], None]
) -> None:
    if rows.find(**key, tool=COLD) is None:
        rows.add({**key, **ask_certify(question, plan.limit_s), "tool": COLD})
    left = [peer for peer in peers if rows.find(**key, tool=peer.name) is None]
    exported = export(question) if left else None
    if exported is None:
        return
    if exported.refusal:
        say(f"{PART}: {key['case']}: {key['query']}: {exported.refusal}: peers are not asked")
        return
    for peer in left:
        row = {**key, **ask_peer(peer, exported, plan.limit_s, question.tolerance)}
        rows.add(row)
        say(f"{PART}: {key['case']}: {key['query']}: {peer.name}: {row['verdict']} after {row['time_s']:.1f} s")
