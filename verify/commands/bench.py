"""`certify bench SUITE`: runs, rows, tables, figures; `certify bench compare A B`."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from specs.errors import InputError
from verify.commands.codes import INTERRUPTED, NO, YES

if TYPE_CHECKING:
    from verify.bench.row import Row
    from verify.bench.runs import Run
    from verify.bench.suite import Suite

__all__ = ["Options", "compare", "run"]

_EVERY_S = 5.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    suite: str
    out: str | None = None
    jobs: int = 1
    resume: bool = False
    data: str | None = None
    only: tuple[str, ...] = ()
    ray: str | None = None
    quiet: bool = False


def run(options: Options) -> int:
    """Do what a suite asks, row by row; then tables and figures of all rows. Returns the exit code: 0; 1 where a run failed;
    130 where it was interrupted, after tables of what there is.

    Raises: InputError: before anything is run, where the suite or a file it needs is not there."""
    from verify.bench.results import write_results
    from verify.bench.row import ROWS, append, read_rows
    from verify.bench.runs import digest, runs
    from verify.bench.suite import read_suite

    suite, bench = read_suite(options.suite), _bench(options.data)
    todo = list(runs(suite))
    if options.only:
        if unknown := [name for name in options.only if name not in suite.experiments]:
            raise InputError("certify", "--only", unknown[0], f"one of {', '.join(suite.experiments)}")
        todo = [one for one in todo if one.experiment in options.only]
    _check_files(suite, todo, bench)
    folder = Path(options.out or f"bench-{Path(suite.file).stem}")
    there = (folder / ROWS).exists()
    if there and not options.resume:
        raise InputError("certify", "--out", f"{folder} holds rows", "a new directory", "--resume goes on with it")
    if folder.exists() and not folder.is_dir():
        raise InputError("certify", "--out", f"{folder} is no directory", "a directory")
    folder.mkdir(parents=True, exist_ok=True)
    known = {(row.key, row.digest) for row in read_rows(folder, mend=True)} if there else set[object]()
    waiting = [one for one in todo if (_key(one), digest(suite, one)) not in known]
    interrupted = False
    try:
        with closing(_rows(suite, waiting, bench, options)) as rows:
            for row in _shown(rows, len(todo) - len(waiting), len(todo), options.quiet):
                append(row, folder)
    except KeyboardInterrupt:
        interrupted = True
        print(f"certify: interrupted; the rows are in {folder}, --resume goes on", file=sys.stderr)
    digests = {(_key(one), digest(suite, one)) for one in runs(suite)}
    mine = [row for row in (read_rows(folder) if (folder / ROWS).exists() else []) if (row.key, row.digest) in digests]
    text = write_results(suite, mine, folder, command=_said(options))
    print(text)
    failed = [row for row in mine if row.error is not None]
    for row in failed[:10]:
        print(f"{row.experiment}: {row.network}[{row.index}]: {row.method}: {row.error}", file=sys.stderr)
    print(f"bench {Path(suite.file).stem}: {len(mine)} rows, {len(failed)} failed; {folder}/index.html")
    return INTERRUPTED if interrupted else NO if failed else YES


def compare(before: str, after: str, slower: float) -> int:
    """What changed between two results; the exit code is 1 where something became worse. Raises: InputError."""
    from verify.bench.compare import compared, said
    from verify.bench.row import read_rows

    found = compared(read_rows(Path(before)), read_rows(Path(after)), slower)
    print(said(found))
    return NO if any(change.worse for change in found.changes) else YES


def _key(one: Run) -> tuple[object, ...]:
    return tuple(getattr(one, name) for name in type(one).__slots__)


def _bench(asked: str | None) -> Path | None:
    named = asked or os.environ.get("CERTIFY_BENCH")
    if asked is not None and not Path(asked).is_dir():
        raise InputError("certify", "--data", asked, "the directory that holds models/ and data/")
    return Path(named).absolute() if named else None


def _check_files(suite: Suite, todo: Sequence[Run], bench: Path | None) -> None:
    for name in dict.fromkeys(one.network for one in todo):
        for part in suite.networks[name].files:
            part.found(bench, suite.file)


def _rows(suite: Suite, waiting: Sequence[Run], bench: Path | None, options: Options) -> Generator[Row, None, None]:
    if options.ray is not None:
        from verify.bench.ray import answers

        return answers(suite, waiting, bench, options.ray)
    from verify.bench.workers import answers

    return answers(suite, waiting, bench, options.jobs)


def _shown(rows: Iterator[Row], done: int, of: int, quiet: bool) -> Iterator[Row]:
    """The rows, with one line of progress: rewritten on a terminal, every few seconds elsewhere."""
    began, last, failed, first = time.monotonic(), 0.0, 0, done
    terminal = sys.stderr.isatty()
    for row in rows:
        yield row
        done, failed, now = done + 1, failed + (row.error is not None), time.monotonic()
        if quiet or (now - last < _EVERY_S and not terminal and done < of):
            continue
        last, left = now, (now - began) / (done - first) * (of - done)
        line = f"{done} of {of} runs, {failed} failed, about {left:.0f} s left: {row.experiment}: {row.network}: {row.method}"
        print(f"\r\x1b[K{line}" if terminal else line, end="" if terminal else "\n", file=sys.stderr, flush=True)
    if terminal and not quiet and done > first:
        print(file=sys.stderr)


def _said(options: Options) -> str:
    """The command, as it can be given again."""
    where = f"--ray {options.ray}" if options.ray is not None else f"--jobs {options.jobs}"
    data = ("--data DIR",) if options.data is not None else ()
    words = ["certify bench", options.suite, *data, *(f"--only {name}" for name in options.only), where]
    return " ".join(words)
