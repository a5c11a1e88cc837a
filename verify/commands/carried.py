"""`certify carry CIRCUIT.json... --spec SPEC.yaml --model OTHER.onnx --out DIR`: the same claim about several checkpoints."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from verify.commands.codes import INTERRUPTED, VERDICTS
from verify.commands.running import stoppable, working
from verify.commands.writing import check_folder

if TYPE_CHECKING:
    from verify.carry import Carried

__all__ = ["Options", "run"]

_MADE = ("carry.md", "carry.json")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    circuits: tuple[str, ...]
    spec: str
    model: tuple[str, ...]
    out: str
    timeout: float | None = None
    seed: int = 0
    quiet: bool = False
    allow_code: bool = False


def run(options: Options) -> int:
    """Decide on every model; a line each on standard output as it comes. Returns the exit code: 0 where every circuit is
    certified on every model, 1 where one is falsified on some, else 3; 130: interrupted, what was decided is written.
    Raises: InputError."""
    from specs.write import write_whole
    from verify.render.carried import carried_json, carried_markdown

    folder = check_folder(options.out, _MADE)
    found: list[Carried] = []
    with stoppable() as stop:
        _, interrupted = stop.until(lambda: _decide(options, found), lambda error: None, "verify.carry")
        if found:
            folder.mkdir(parents=True, exist_ok=True)
            write_whole(carried_markdown(found, options.spec), folder / _MADE[0])
            write_whole(carried_json(found), folder / _MADE[1])
    if interrupted:
        print(f"certify: interrupted; {len(found)} questions were decided", file=sys.stderr)
        return INTERRUPTED
    outcomes = {entry.outcome for entry in found}
    worst = "falsified" if "falsified" in outcomes else "certified" if outcomes == {"certified"} else "unknown"
    return VERDICTS[worst]


def _decide(options: Options, found: list[Carried]) -> None:
    from verify.carry import carry
    from verify.render.carried import carried_line

    with working(options.quiet) as progress:
        for entry in carry(
            options.circuits,
            options.spec,
            options.model,
            timeout_s=options.timeout,
            seed=options.seed,
            allow_code=options.allow_code,
            progress=progress,
            hard=True,
        ):
            found.append(entry)
            print(carried_line(entry), flush=True)
