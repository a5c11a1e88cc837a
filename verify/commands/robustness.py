"""`certify robustness CIRCUIT.json --spec SPEC.yaml --out DIR`: one circuit under every patching, as a table and a figure."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verify.commands.codes import INTERRUPTED, VERDICTS
from verify.commands.running import stoppable, working
from verify.commands.writing import check_folder

if TYPE_CHECKING:
    from specs.spec import Spec
    from verify.ablations import Ablation

__all__ = ["Options", "run"]

_MADE = ("robustness.md", "robustness.csv", "robustness.svg")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    circuit: str
    spec: str
    out: str
    radii: int = 8
    timeout: float | None = None
    seed: int = 0
    quiet: bool = False
    allow_code: bool = False


def run(options: Options) -> int:
    """Decide under every kind; a line each on standard output as it comes. Returns the exit code: 0 where the circuit is
    certified under all, 1 where it is falsified under some, else 3; 130: interrupted, what was decided is written.
    Raises: InputError."""
    from specs.load import read_circuit, read_spec

    folder = check_folder(options.out, _MADE)
    circuit, spec = read_circuit(options.circuit), read_spec(options.spec)
    found: list[Ablation] = []
    with stoppable() as stop:
        _, interrupted = stop.until(lambda: _decide(options, found), lambda error: None, "verify.ablations")
        if found:
            _write(found, folder, circuit.file, spec)
    if interrupted:
        print(f"certify: interrupted; {len(found)} kinds were decided", file=sys.stderr)
        return INTERRUPTED
    verdicts = {entry.report.verdict for entry in found}
    worst = "falsified" if "falsified" in verdicts else "unknown" if "unknown" in verdicts else "certified"
    return VERDICTS[worst]


def _decide(options: Options, found: list[Ablation]) -> None:
    from verify.ablations import robustness

    with working(options.quiet) as progress:
        for entry in robustness(
            options.circuit,
            options.spec,
            radii=options.radii,
            timeout_s=options.timeout,
            seed=options.seed,
            allow_code=options.allow_code,
            progress=progress,
            hard=True,
        ):
            found.append(entry)
            print(f"{entry.kind} {entry.report.summary}{_reach(entry)}", flush=True)


def _reach(entry: Ablation) -> str:
    if entry.radius is None:
        return ""
    from verify.render.ablations import above, below

    return f" radius={below(entry.radius.certified) or 'none'}..{above(entry.radius.falsified) or 'none'}"


def _write(found: list[Ablation], folder: Path, circuit: str, spec: Spec) -> None:
    from specs.write import write_whole
    from verify.render.ablations import ablations_csv, ablations_markdown, plot_ablations
    from verify.report import write_report

    folder.mkdir(parents=True, exist_ok=True)
    for entry in found:
        write_report(entry.report, folder / f"{entry.kind}.report.json")
    write_whole(ablations_markdown(found, circuit, spec.file), folder / _MADE[0])
    write_whole(ablations_csv(found), folder / _MADE[1])
    radius = getattr(spec.input, "epsilon", None)
    plot_ablations(found, radius if isinstance(radius, float) else None, os.fspath(folder / _MADE[2]))
