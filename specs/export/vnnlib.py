"""The property file: VNN-LIB 1.0."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from specs.export.question import Question
from specs.export.writer import INPUT, OUTPUT

__all__ = ["comments", "decimal", "vnnlib_text"]


def vnnlib_text(question: Question, said: Sequence[str]) -> str:
    """The box and the disjunction of a question, in the subset of VNN-LIB 1.0 that all verifiers read. `said` are lines of
    comment to open with.

    Guarantees: numbers are decimals without exponent that read back as the same float64.
    """
    lines = [comments([*said, *_inputs(question)])]
    lines += [*(f"(declare-const {INPUT}_{i} Real)" for i in range(len(question.lower)))]
    lines += ["", *(f"(declare-const {OUTPUT}_{i} Real)" for i in range(question.outputs)), ""]
    for i, (low, high) in enumerate(zip(question.lower.tolist(), question.upper.tolist(), strict=True)):
        lines += [f"(assert (>= {INPUT}_{i} {decimal(low)}))", f"(assert (<= {INPUT}_{i} {decimal(high)}))"]
    lines += ["", "(assert (or"]
    for clause in question.clauses:
        atoms = " ".join(f"(<= {OUTPUT}_{i} {decimal(end)})" for i, end in clause)
        lines.append(f"    (and {atoms})")
    return "\n".join([*lines, "))", ""])


def _inputs(question: Question) -> list[str]:
    """Which input is what."""
    first = question.patched[0].first if question.patched else len(question.lower)
    lines = [f"{INPUT}_0 .. {INPUT}_{first - 1}: the input, row by row"]
    for part in question.patched:
        last = part.first + len(part.elements) - 1
        lines.append(f"{INPUT}_{part.first} .. {INPUT}_{last}: patched at {part.tensor}, elements {_ranges(part.elements)}")
    return lines


def _ranges(numbers: Tensor) -> str:
    """`0-3, 7`."""
    runs: list[list[int]] = []
    for n in numbers.tolist():
        if runs and runs[-1][1] == n - 1:
            runs[-1][1] = n
        else:
            runs.append([n, n])
    return ", ".join(f"{a}" if a == b else f"{a}-{b}" for a, b in runs)


def decimal(value: float) -> str:
    """Without an exponent, and reads back as the same float64."""
    return np.format_float_positional(value + 0.0, unique=True, trim="0")  # + 0.0: no minus zero


def comments(said: Sequence[str]) -> str:
    """Lines of comment. Names of tensors are anything at all; a comment is one line of ASCII."""
    return "".join(f"; {ascii(line)[1:-1]}\n" for line in said)
