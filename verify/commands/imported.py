"""`certify import FORMAT FILE --model MODEL --out CIRCUIT.json`: another tool's circuit as one of ours."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, cast

from specs.errors import InputError
from verify.commands.writing import check_writable, not_written

__all__ = ["Options", "run"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    format: str
    file: str
    model: str
    out: str
    map: str | None = None
    threshold: float | None = None
    top: int | None = None
    signed: bool = False
    nodes: bool = False
    listed: str | None = None
    entry: str | None = None
    quiet: bool = False


def run(options: Options) -> int:
    """Write the circuit, what was lost as notes, and one line. Returns the exit code. Raises: InputError."""
    from specs.foreign.circuit import Request
    from specs.foreign.place import place
    from specs.foreign.select import Selection
    from specs.formats import reader
    from specs.model import load_model
    from specs.write import write_circuit

    if options.threshold is not None and options.top is not None:
        raise InputError("certify", "--top", "--threshold is given too", "one of them", "leave one out")
    if options.threshold is not None and not math.isfinite(options.threshold):
        raise InputError("certify", "--threshold", f"{options.threshold}", "a finite number")
    read_too = [options.file, options.model, *([options.map] if options.map else [])]
    check_writable(options.out, "--out", tuple(read_too))
    listed = cast("Literal['kept', 'removed', 'both'] | None", options.listed)
    given = reader(options.format)(Request(options.file, listed, options.entry))
    model = load_model(options.model, shown=options.model, where="", base=Path())
    selection = Selection(options.threshold, options.top, options.signed)
    made = place(given, model, options.file, map_file=options.map, selection=selection, as_nodes=options.nodes)
    try:
        write_circuit(made.circuit, options.out)
    except OSError as error:
        return not_written(options.out, error)
    if not options.quiet:
        for note in made.notes:
            print(f"certify: note: {note}", file=sys.stderr)
    print(f"imported {options.out} kept={made.kept} scope={made.scope} sites={len(made.circuit.scope)} dead={len(made.dead)}")
    return 0
