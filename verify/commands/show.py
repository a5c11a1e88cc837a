"""`certify show`: a model's sites, a report, or a circuit, as tables on standard output."""

from __future__ import annotations

from pathlib import Path

from specs.document import read_document
from specs.errors import InputError

__all__ = ["run"]

_CIRCUIT, _REPORT, _SPEC = "certify.circuit/", "certify.report/", "certify.spec/"


def run(file: str, allow_code: bool) -> int:
    """Show what a file holds. Returns the exit code. Raises: InputError."""
    from verify.render import table

    suffix = Path(file).suffix.lower()
    if suffix not in (".json", ".yaml", ".yml"):
        table.show_model(_model(file, allow_code))
        return 0
    stated = _format(file)
    if stated.startswith(_REPORT):
        from verify.report import read_report

        table.show_report(read_report(file))
    elif stated.startswith(_CIRCUIT):
        from specs.load import read_circuit

        circuit = read_circuit(file)
        table.show_circuit(circuit)
    else:
        found = f"format {stated!r}" if stated else "no format"
        needed = "a model (.onnx, .pt2), a report (certify.report/1) or a circuit (certify.circuit/1)"
        raise InputError(file, "$.format", found, needed, "pass it with --spec" if stated.startswith(_SPEC) else "")
    return 0


def _format(file: str) -> str:
    value = read_document(file)
    stated = value.get("format") if isinstance(value, dict) else None
    return stated if isinstance(stated, str) else ""


def _model(file: str, allow_code: bool):
    from specs.model import load_model

    return load_model(file, shown=file, where="", base=Path(), allow_code=allow_code)
