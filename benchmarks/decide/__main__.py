"""`python -m benchmarks.decide`: see the package's docstring."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path

from benchmarks.decide import gap, queries, sequence
from benchmarks.decide.cases import GAP, SEQUENCE, Case
from benchmarks.decide.rows import Rows
from benchmarks.decide.tables import gap_tables, queries_table, sequence_table
from benchmarks.peers.base import Peer
from benchmarks.peers.registry import PEERS, peers_in
from benchmarks.throughput.cases import bench_folder

__all__ = ["main"]

PARTS = (queries.PART, sequence.PART, gap.PART)


def main(arguments: list[str] | None = None) -> int:
    """Measure and print tables. Returns the exit code: 2 where nothing could be begun."""
    options = _parser().parse_args(arguments)
    os.environ["OMP_NUM_THREADS"] = "1"
    out = options.out or Path(tempfile.mkdtemp(prefix="decide-"))
    try:
        rows = Rows(out, options.resume)
    except (OSError, ValueError) as error:
        print(f"decide: {error}", file=sys.stderr)
        return 2
    import torch

    torch.set_num_threads(1)
    data, peers = bench_folder(options.data), _peers(options)
    parts = options.part or PARTS
    try:
        if queries.PART in parts:
            queries.measure(data, peers, out, rows, options.limit or queries.LIMITS_S, _say)
        if sequence.PART in parts:
            plan = sequence.Plan((options.limit or [sequence.Plan().limit_s])[0], options.sample, options.few)
            for case in _cases(SEQUENCE, options):
                sequence.measure(case, data, peers, out, rows, plan, _say)
        if gap.PART in parts:
            wanted = gap.Plan(options.circuits, (options.limit or [gap.Plan().limit_s])[0], tuple(options.share or gap.SHARES))
            for case in _cases(GAP, options):
                gap.measure(case, data, rows, wanted, _say)
    except KeyboardInterrupt:
        _say(f"stopped; go on with --out {out} --resume")
    for shown in (queries_table(rows), sequence_table(rows), gap_tables(rows)):
        if shown:
            print(shown + "\n")
    print(f"rows: {rows.path}")
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _peers(options: argparse.Namespace) -> list[Peer]:
    """The peers to ask; what is not there is said in a line."""
    if options.peers is None:
        _say("no --peers: certify alone; install others by python -m benchmarks.peers.install --into DIR")
        return []
    found, absent = peers_in(options.peers)
    only = options.only or list(PEERS)
    for name in absent:
        if name in only:
            _say(f"{name}: not in {options.peers}; python -m benchmarks.peers.install --into {options.peers} --peer {name}")
    return [peer for peer in found if peer.name in only]


def _cases(known: dict[str, Case], options: argparse.Namespace) -> list[Case]:
    """Those named; by default all that are not bundled."""
    if options.case:
        return [case for name, case in known.items() if any(word in name for word in options.case)]
    return [case for case in known.values() if not case.bundled]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.decide", description="What is decided, by whom, how fast.")
    parser.add_argument("part", nargs="*", choices=[*PARTS, []], help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument(
        "--data", type=Path, metavar="DIR", help="models/, data/, queries/ (default: $CERTIFY_BENCH or ../shared/bench)"
    )
    parser.add_argument("--peers", type=Path, metavar="DIR", help="where the peers are installed (default: none are asked)")
    parser.add_argument("--only", action="append", choices=list(PEERS), help="only this peer (may be given again)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="rows and questions (default: a new temporary folder)")
    parser.add_argument("--resume", action="store_true", help="keep the rows in --out, and measure what is missing")
    parser.add_argument("--case", action="append", metavar="WORD", help="only networks with this in their name")
    parser.add_argument(
        "--limit", action="append", type=float, metavar="S", help="seconds a question (default: 12 and 40; 20; 12)"
    )
    parser.add_argument("--sample", type=int, default=3, metavar="K", help="first, middle and last K for peers (default 3)")
    parser.add_argument("--few", type=int, default=24, metavar="N", help="all of them where there are at most N (default 24)")
    parser.add_argument("--circuits", type=int, default=3, metavar="N", help="circuits a share in `gap` (default 3)")
    parser.add_argument("--share", action="append", type=float, metavar="X", help="only this share in `gap`")
    return parser


if __name__ == "__main__":
    sys.exit(main())
