"""`certify export eap|circuitkit` and `certify export onnx`: a circuit for other tools, and the pruned model."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from specs.errors import InputError
from verify.commands.writing import check_writable, not_written

__all__ = ["PrunedOptions", "ToolOptions", "run_pruned", "run_tool"]


@dataclass(frozen=True, slots=True)
class ToolOptions:
    """What the command line says."""

    tool: str
    circuit: str
    out: str
    report: str | None = None
    map: str | None = None


@dataclass(frozen=True, slots=True)
class PrunedOptions:
    """What the command line says."""

    circuit: str
    spec: str
    out: str
    force: bool = False
    allow_code: bool = False


def run_tool(options: ToolOptions) -> int:
    """Write the circuit as the tool's file, a proof status for each component. Returns the exit code. Raises: InputError."""
    from specs.foreign.written import circuitkit_text, eap_text, named
    from specs.load import read_circuit
    from specs.model import load_model
    from verify.report import read_report
    from verify.status import MEANING, statuses

    circuit = read_circuit(options.circuit)
    read_too = [options.circuit, os.fspath(circuit.model.path), *(path for path in (options.report, options.map) if path)]
    check_writable(options.out, "--out", tuple(read_too))
    named_model = circuit.model
    model = load_model(named_model.path, shown=circuit.file, where="$.model", base=Path(), sha256=named_model.sha256)
    counts = {
        site: model.group(site, granularity, shown=circuit.file, where=f"$.scope.{site}")[1]
        for site, granularity in circuit.scope.items()
    }
    report = None if options.report is None else read_report(options.report)
    status = statuses(circuit, counts, report, model.sha256, options.report or "")
    kept = {part: said in ("core", "necessary", "undecided", "kept") for part, said in status.items()}
    if not kept:
        raise InputError(circuit.file, "$.scope", "no component", "at least one")
    parts = named(model, {site: str(said) for site, said in circuit.scope.items()}, kept, status, options.map)
    claim: dict[str, object] = {"verdict": "none" if report is None else report.verdict, "meaning": dict(MEANING)}
    claim |= {"model_sha256": model.sha256, "margin": None if report is None else report.margin}
    text = eap_text(parts, claim) if options.tool == "eap" else circuitkit_text(parts, claim, Path(named_model.path).name)
    stays = sum(part.kept for part in parts)
    return _written(text, options.out, f"nodes={len(parts)} kept={stays} verdict={claim['verdict']}")


def run_pruned(options: PrunedOptions) -> int:
    """Write the pruned model. Returns the exit code. Raises: InputError; ExportFault."""
    from specs.encode import encode
    from specs.export.pruned import pruned_model
    from specs.load import read_circuit, read_spec
    from verify.model import model_of

    circuit, spec = read_circuit(options.circuit), read_spec(options.spec)
    if os.path.lexists(options.out) and not options.force:
        raise InputError("certify", "--out", f"{options.out} exists", "a new file", "say --force to replace it")
    for given in (options.circuit, options.spec, os.fspath(circuit.model.path)):
        if os.path.exists(options.out) and os.path.exists(given) and os.path.samefile(options.out, given):
            raise InputError("certify", "--out", f"{options.out} is read by this run", "another file")
    problem = encode(circuit, spec, model_of(circuit, spec, None, options.allow_code))
    content, rounded = pruned_model(problem)
    if rounded is not None:
        print(f"certify: note: float32 cannot hold all constants ({rounded} has such a one): it is rounded", file=sys.stderr)
    ablated = int((~problem.mask[0]).sum())
    return _written(content, options.out, f"kept={problem.mask.shape[1] - ablated} ablated={ablated}")


def _written(content: str | bytes, out: str, said: str) -> int:
    from specs.write import write_whole

    try:
        write_whole(content, out)
    except OSError as error:
        return not_written(out, error)
    print(f"exported {out} {said}")
    return 0
