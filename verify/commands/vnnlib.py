"""`certify vnnlib NET.onnx SPEC.vnnlib`: a plain VNN-LIB query; `sat`, `unsat` or `unknown` is the last line."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specs.errors import InputError
from verify.commands.codes import INTERRUPTED, NO, OPEN, YES
from verify.commands.running import refusals_told, stoppable
from verify.commands.writing import check_writable, not_written

if TYPE_CHECKING:
    from verify.plain import Answer, Search

__all__ = ["Options", "run"]

_CODES = {"unsat": YES, "sat": NO, "unknown": OPEN}
_BUDGET_S = 300.0


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says. `files` are the network, where there is one, and the query."""

    files: tuple[str, ...]
    network: tuple[str, ...] = ()
    out: str | None = None
    timeout: float | None = None
    device: str = "cpu"
    backend: str = "auto"
    seed: int = 0
    quiet: bool = False


def run(options: Options) -> int:
    """Decide, and say it in one word. Returns the exit code. Raises: InputError."""
    spec, paths = _given(options)
    if options.out is not None:
        check_writable(options.out, "--out", (spec, *paths.values()), kind="counterexample")
    began = time.monotonic()
    searches: list[Search] = []
    with stoppable() as stop:
        answer, interrupted = stop.until(
            lambda: _decided(searches, spec, paths, options, began),
            lambda error: _reached(searches),
            "specs.vnnlib.question",
            "verify.plain",
        )
        return _deliver(searches, answer, options, interrupted, began)


def _decided(searches: list[Search], spec: str, paths: dict[str, str], options: Options, began: float) -> Answer:
    """The answer; `searches` receives the search once the query is read."""
    from specs.vnnlib.question import read_question
    from verify.ladder.choice import check_device
    from verify.plain import Search
    from verify.work.budget import Budget

    def notify(case: int, rung: str) -> None:
        if not options.quiet:
            said = f"certify: case {case + 1} of {len(search.question.claims)}: {rung}, {time.monotonic() - began:.1f} s"
            print(said, file=sys.stderr, flush=True)

    check_device(options.device)
    search = Search(read_question(spec, paths), options.backend, options.device, options.seed)
    searches.append(search)
    with refusals_told(options.backend):
        return search.run(Budget(options.timeout or _BUDGET_S, hard=True, began=began), notify)


def _reached(searches: list[Search]) -> Answer:
    """What was known when the run was stopped."""
    from verify.plain import Answer
    from verify.verdict import INTERRUPTED as REASON

    return searches[0].answer(interrupted=True) if searches else Answer("unknown", REASON)


def _given(options: Options) -> tuple[str, dict[str, str]]:
    """The query and the networks' files by name."""
    if not 1 <= len(options.files) <= 2:
        raise InputError(
            "certify", "vnnlib", f"{len(options.files)} files", "NET.onnx SPEC.vnnlib", "see certify vnnlib --help"
        )
    paths = {"": options.files[0]} if len(options.files) == 2 else {}
    for entry in options.network:
        name, equals, path = entry.partition("=")
        if not equals or not name or not path or name in paths:
            raise InputError("certify", "--network", repr(entry), "NAME=NET.onnx, each name once", "")
        paths[name] = path
    return options.files[-1], paths


def _deliver(searches: list[Search], answer: Answer, options: Options, interrupted: bool, began: float) -> int:
    """Write the counterexample, in one piece, and the word."""
    from specs.write import write_whole

    code = INTERRUPTED if interrupted and answer.word == "unknown" else _CODES[answer.word]
    if options.out is not None:
        text = answer.word + "\n"
        if searches and answer.inputs is not None:
            from specs.vnnlib.counterexample import counterexample

            text += counterexample(searches[0].question, answer.inputs)
        try:
            write_whole(text, options.out)
        except OSError as error:
            code = not_written(options.out, error)
    if not options.quiet:
        why = f"{answer.reason}, " if answer.reason else ""
        print(f"certify: {answer.word}: {why}{time.monotonic() - began:.1f} s", file=sys.stderr)
    sys.stdout.write(answer.word + "\n")
    sys.stdout.flush()
    return code
