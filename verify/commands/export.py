"""`certify export vnnlib`: a claim as files that any other verifier reads."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Options", "run"]


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line says."""

    circuit: str
    spec: str
    out: str
    version: str = "1"
    force: bool = False
    allow_code: bool = False


def run(options: Options) -> int:
    """Write the files, a line for each pair on standard output. Returns the exit code. Raises: InputError; ExportFault."""
    from specs.encode import encode
    from specs.export.files import export_vnnlib
    from specs.export.pair import export_pair
    from specs.load import read_circuit, read_spec
    from verify.model import model_of

    circuit, spec = read_circuit(options.circuit), read_spec(options.spec)
    problem = encode(circuit, spec, model_of(circuit, spec, None, options.allow_code))
    inputs = (options.circuit, options.spec, os.fspath(circuit.model.path))
    folder, notes = Path(options.out), dict[str, None]()
    if options.version == "2":
        for made in export_pair(problem, folder, force=options.force, inputs=inputs):
            print(f"exported {made.model} {made.circuit} {made.vnnlib} clauses={made.clauses}", flush=True)
            notes |= dict.fromkeys(made.notes)
    else:
        for pair in export_vnnlib(problem, folder, force=options.force, inputs=inputs):
            sizes = f"inputs={pair.inputs} patched={pair.patched} outputs={pair.outputs} clauses={pair.clauses}"
            print(f"exported {pair.onnx} {pair.vnnlib} {sizes}", flush=True)
            notes |= dict.fromkeys(pair.notes)
    for note in notes:
        print(f"certify: note: {note}", file=sys.stderr)
    return 0
