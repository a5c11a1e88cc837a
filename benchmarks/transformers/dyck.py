"""A recogniser of brackets: heads and MLPs over all of its inputs, and over balls around some of them."""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.transformers.ask import Asked, Kept, found, kept_of, model_at, spec_of, table
from specs.model import Model
from verify.verdict import Certified, Falsified

__all__ = ["section"]

_LENGTH = 10
_SCOPE = {"t18": "head", "t23": "layer", "t42": "head", "t47": "layer"}
_NAMES = {"t18": "heads of layer 0", "t23": "MLP of layer 0", "t42": "heads of layer 1", "t47": "MLP of layer 1"}
_RADII = (0.01, 0.03, 0.1)
_EVERY = 64
"""Of the sequences, those around which a ball is looked at."""

_TOP1 = {"metric": "top1", "tolerance": 0.001}


def section(data: Path) -> str:
    """The section on brackets. Raises: InputError: the model is missing."""
    model = model_at(data / "models" / "dyck10_transformer.onnx")
    asked = Asked(model, _SCOPE, spec_of(input={"kind": "tokens", "positions": "all"}, agreement=_TOP1))
    rows = [asked.row(f"less {_NAMES[site]}, {i}", asked.without({}, site, i)) for site, i in asked.problem.components]
    best, took_s = found(model, _SCOPE, asked.spec, "cardinal", 300)
    shown, kept = best.report.minimality, kept_of(best, asked)
    assert shown is not None
    size = sum(len(index) for index in kept.values())
    said = "; ".join(f"{_NAMES[site]}: {', '.join(map(str, index))}" for site, index in kept.items() if index)
    how = f"{shown.level} minimality {shown.status}"
    rows.append(
        [f"found: {size} of {len(asked.problem.components)} ({said})", best.report.verdict, how, "discover", f"{took_s:.1f}"]
    )
    balls = [[f"{radius:g}", *_balls(model, kept, radius)] for radius in _RADII]
    return (
        f"{_TEXT}\n\n{table(['circuit', 'verdict', 'figure', 'by', 's'], rows)}\n\n{_BALLS}\n\n"
        f"{table(['radius', 'certified', 'falsified', 'unknown', 's'], balls)}\n"
    )


def _balls(model: Model, kept: Kept, radius: float) -> list[str]:
    """How the circuit fares within a radius of every 64th sequence."""
    counts, began = [0, 0, 0], time.monotonic()
    for number in range(0, 2**_LENGTH, _EVERY):
        tokens = [[number >> p & 1] for p in range(_LENGTH)]
        spec = spec_of(budget_s=20, input={"kind": "tokens", "positions": tokens, "epsilon": radius}, agreement=_TOP1)
        verdict = Asked(model, _SCOPE, spec).decide(kept).verdict
        counts[0 if isinstance(verdict, Certified) else 1 if isinstance(verdict, Falsified) else 2] += 1
    return [*map(str, counts), f"{time.monotonic() - began:.0f}"]


_TEXT = """`dyck10_transformer` tells whether ten brackets are balanced: two layers of two heads and an MLP. The claim: over all
1,024 sequences the circuit's first output is the model's (within 0.001, so that rounding decides nothing). Zero patching of
heads and whole MLPs."""

_BALLS = """The circuit that was found, on balls: every coordinate of the one-hot rows may lie up to the radius off, around
every 64th sequence; 20 s each."""
