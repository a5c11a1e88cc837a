"""`certify vnnlib NET.onnx SPEC.vnnlib`: a plain VNN-LIB query; `sat`, `unsat` or `unknown` is the last line."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from specs.errors import InputError
from verify.commands.running import INTERRUPTED, NOT_WRITTEN, check_writable, load, stoppable

if TYPE_CHECKING:
    from verify.plain import Answer, Search

__all__ = ["Options", "run"]

_CODES = {"unsat": 0, "sat": 1, "unknown": 3}
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
    interrupted = False
    search: Search | None = None
    with stoppable() as stop:
        try:
            load(stop, "specs.vnnlib.question", "verify.plain")
            from specs.vnnlib.question import read_question
            from verify.ladder.choice import check_device
            from verify.plain import Search

            check_device(options.device)
            search = Search(read_question(spec, paths), options.backend, options.device, options.seed)
            answer = _decided(search, options, began)
        except BaseException:
            # Some libraries turn an interrupt that comes while they are imported into an error of their own.
            if not stop.requested:
                raise
            stop.ignore()
            interrupted = True
            from verify.plain import Answer
            from verify.verdict import INTERRUPTED as REASON

            answer = Answer("unknown", REASON) if search is None else search.answer(interrupted=True)
        return _deliver(search, answer, options, interrupted, began)


def _decided(search: Search, options: Options, began: float) -> Answer:
    from bounds.backends.base import BackendRefusal, BackendUnavailable
    from verify.work.budget import Budget

    def notify(case: int, rung: str) -> None:
        if not options.quiet:
            said = f"certify: case {case + 1} of {len(search.question.claims)}: {rung}, {time.monotonic() - began:.1f} s"
            print(said, file=sys.stderr, flush=True)

    try:
        return search.run(Budget(options.timeout or _BUDGET_S, hard=True, began=began), notify)
    except (BackendRefusal, BackendUnavailable) as error:
        raise InputError("certify", f"--backend {options.backend}", str(error)) from None


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


def _deliver(search: Search | None, answer: Answer, options: Options, interrupted: bool, began: float) -> int:
    """Write the counterexample, in one piece, and the word."""
    from specs.write import write_whole

    code = INTERRUPTED if interrupted and answer.word == "unknown" else _CODES[answer.word]
    if options.out is not None:
        text = answer.word + "\n"
        if search is not None and answer.inputs is not None:
            from specs.vnnlib.counterexample import counterexample

            text += counterexample(search.question, answer.inputs)
        try:
            write_whole(text, options.out)
        except OSError as error:
            print(f"certify: {options.out} could not be written ({error.strerror})", file=sys.stderr)
            code = NOT_WRITTEN
    if not options.quiet:
        why = f"{answer.reason}, " if answer.reason else ""
        print(f"certify: {answer.word}: {why}{time.monotonic() - began:.1f} s", file=sys.stderr)
    sys.stdout.write(answer.word + "\n")
    sys.stdout.flush()
    return code
