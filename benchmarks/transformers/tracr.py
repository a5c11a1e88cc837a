"""Programs compiled by Tracr: what the compiler put there is the circuit, and nothing less is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.transformers.ask import Asked, Kept, found, kept_of, model_at, spec_of, table

__all__ = ["section"]


@dataclass(frozen=True, slots=True)
class _Program:
    """A compiled model: the sites of its attention layers and of its MLPs, which of them the compiler filled, the tokens a
    program runs on (after BOS, token 0), and the answer's place in the residual stream."""

    name: str
    scope: dict[str, str]
    filled: Sequence[str]
    tokens: Sequence[int]
    length: int
    width: int
    answer: Sequence[int]
    tolerance: float

    @property
    def agreement(self) -> dict[str, Any]:
        outputs = [p * self.width + at for p in range(1, self.length) for at in self.answer]
        return {"metric": "output", "outputs": outputs, "tolerance": self.tolerance}

    @property
    def truth(self) -> Kept:
        return {site: "all" if site in self.filled else "none" for site in self.scope}


# The answer is read off these directions of the residual stream (`residual_labels` in the data); the tolerance is less than
# half of what tells two answers apart.
_PROGRAMS = (
    _Program(
        "tracr_frac_prevs", {"t20": "head", "t26": "layer", "t47": "head", "t53": "layer"}, ("t26", "t47"), range(2, 6), 6, 14,
        (0,), 0.01,
    ),
    _Program(
        "tracr_reverse",
        {f"t{n}": "head" if n in (20, 47, 74, 101) else "layer" for n in (20, 26, 47, 53, 74, 80, 101, 107)},
        ("t20", "t26", "t53", "t80", "t101"), range(1, 4), 5, 35, (27, 28, 29), 0.25,
    ),
)  # fmt: skip


def section(data: Path) -> str:
    """The section on compiled programs. Raises: InputError: a model is missing."""
    rows: list[list[str]] = []
    for program in _PROGRAMS:
        model = model_at(data / "models" / f"{program.name}.onnx")
        tokens = list(program.tokens)
        spec = spec_of(
            input={"kind": "tokens", "positions": [[0], *[tokens] * (program.length - 1)]}, agreement=program.agreement
        )
        asked = Asked(model, program.scope, spec)
        count = f"{len(tokens) ** (program.length - 1):,}"
        rows.append([program.name, count, *asked.row(f"what the compiler filled: {', '.join(program.filled)}", program.truth)])
        for site, index in asked.components(program.truth):
            rows.append([program.name, count, *asked.row(f"less {site}", asked.without(program.truth, site, index))])
        rows.append([program.name, count, *_found(asked, "layers", "cardinal")])
        units = {site: "unit" if granularity == "layer" else "head" for site, granularity in program.scope.items()}
        rows.append([program.name, count, *_found(Asked(model, units, spec), "heads and MLP units", "subset")])
    heads = ["program", "sequences", "circuit", "verdict", "figure", "by", "s"]
    return f"{_TEXT}\n\n{table(heads, rows)}\n"


def _found(asked: Asked, of: str, level: str) -> list[str]:
    best, took_s = found(asked.model, asked.scope, asked.spec, level, 200)
    shown, kept = best.report.minimality, kept_of(best, asked)
    assert shown is not None
    size = sum(len(index) for index in kept.values())
    told = "; ".join(f"{site}: {_few(index)}" for site, index in kept.items() if index)
    how = f"{shown.level} minimality {shown.status}"
    return [
        f"found among {of}: {size} of {len(asked.problem.components)} ({told})",
        best.report.verdict,
        how,
        "discover",
        f"{took_s:.1f}",
    ]


def _few(index: list[int]) -> str:
    return ", ".join(map(str, index)) if len(index) <= 8 else f"{len(index)} of them"


_TEXT = """Tracr compiles a program into a transformer: the attention heads and MLPs that it fills are the circuit, by
construction. Zero patching; the claim is about the directions of the residual stream that the answer is read from, at every
position, over all sequences of the program's tokens after BOS. *Less X* ablates one more part. Of `tracr_reverse` one filled
head is not needed: it finds the length of the sequence, which is fixed here, and what the MLPs make of nothing is right."""
