"""Circuits on several checkpoints, for people and programs: a table in Markdown, and JSON."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verify.carry import Carried

__all__ = ["carried_json", "carried_line", "carried_markdown"]

_SHORT = {"certified": "certified", "falsified": "falsified", "unknown": "unknown", "inapplicable": "no such claim"}


def carried_line(entry: Carried) -> str:
    """One line: circuit, model, and what a report's last line says."""
    said = entry.report.summary if entry.report is not None else f"inapplicable {entry.refused}"
    return f"{entry.circuit} on {entry.model}: {said}"


def carried_markdown(found: Sequence[Carried], spec: str) -> str:
    """A row a circuit, a column a model; the first is each circuit's own."""
    circuits = list(dict.fromkeys(entry.circuit for entry in found))
    rows = [[entry for entry in found if entry.circuit == circuit] for circuit in circuits]
    others = [entry.model for entry in rows[0][1:]] if rows else []
    lines = [f"# Which circuits carry over, by {_cell(spec)}", ""]
    lines += ["| circuit | its own model | " + " | ".join(map(_cell, others)) + " |", "|---|---|" + "---|" * len(others)]
    for circuit, row in zip(circuits, rows, strict=True):
        lines.append(f"| {_cell(circuit)} | " + " | ".join(_said(entry) for entry in row) + " |")
    lines += ["", "Certified: the margin that is proven. Falsified: the deviation that was seen on that model."]
    return "\n".join(lines) + "\n"


def carried_json(found: Sequence[Carried]) -> str:
    """`certify.carry/1`: an entry a circuit and model, and which circuits are certified on all of them."""
    entries = [
        {
            "circuit": entry.circuit,
            "model": entry.model,
            "verdict": entry.outcome,
            "margin": entry.report.margin if entry.report is not None else None,
            "deviation": entry.report.deviation if entry.report is not None else None,
            "model_sha256": entry.report.model_sha256 if entry.report is not None else None,
            "reason": entry.refused if entry.report is None else entry.report.reason,
        }
        for entry in found
    ]
    circuits = list(dict.fromkeys(entry.circuit for entry in found))
    universal = [c for c in circuits if all(entry.outcome == "certified" for entry in found if entry.circuit == c)]
    return json.dumps({"format": "certify.carry/1", "universal": universal, "entries": entries}, indent=2) + "\n"


def _said(entry: Carried) -> str:
    from verify.report import rounded_down

    report = entry.report
    if report is not None and report.verdict == "certified" and report.margin is not None:
        return f"certified, margin {rounded_down(report.margin)}"
    if report is not None and report.verdict == "falsified" and report.deviation is not None:
        return f"falsified, {report.deviation:.6g}"
    return _SHORT[entry.outcome]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
