"""From the record of an agreement to linear forms of the two outputs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

from bounds.ops.base import Shape
from bounds.query import Clauses, Margins, Norm
from specs import agreement as records
from specs.errors import InputError

__all__ = ["agreement_margins", "check_outputs", "check_size", "deviation"]

_MOST = 1 << 28
"""Coefficients of all forms of a claim: 2 GB."""


def check_outputs(record: records.Agreement, shape: Shape, *, file: str) -> None:
    """Raises: InputError: an output that the model does not have, top1 of a single output, or more outputs to compare than fit
    in memory."""
    size, where = math.prod(shape), "$.agreement"
    if isinstance(record, records.LogitDifference):
        named = [(f"{where}.target", record.target), (f"{where}.against", record.against)]
    elif isinstance(record, records.Logits | records.Output):
        named = [(f"{where}.outputs[{i}]", output) for i, output in enumerate(record.outputs or ())]
    else:
        named = []
        if size < 2 and isinstance(record, records.Top1):
            said = "top1, and the model has one output"
            raise InputError(file, f"{where}.metric", said, "two outputs or more", "use `metric: output`")
    if not named:
        check_size(record, shape, 1, file=file)
    for place, output in named:
        if output >= size:
            raise InputError(file, place, f"output {output}", f"the model has {size} outputs", f"use 0..{size - 1}")


def check_size(record: records.Agreement, shape: Shape, tops: int, *, file: str) -> None:
    """Of top1, where `tops` outputs can be the model's first. Raises: InputError: more to compare than fits in memory."""
    size = math.prod(shape)
    pairs = tops * (2 * (size - 1) + tops - 1) if isinstance(record, records.Top1) else 2 * size
    if pairs * size > _MOST:
        first = f", any of {tops} of them the model's first somewhere in the region" if tops > 1 else ""
        said = f"{record.metric} over {size} outputs{first}"
        raise InputError(file, "$.agreement", said, "fewer to compare", "name some: `metric: output` or `logit_difference`")


def agreement_margins(record: records.Agreement, shape: Shape, tops: list[int] | None = None) -> Margins:
    """The margin of a claim. `tops`, for top1: the outputs that can be the model's first somewhere in the region.

    Shapes: forms over outputs of `shape`. For top1 the claim is: wherever `t` is first in the model, no output of the circuit
    exceeds its `t` by more than the tolerance. For each such `t` and every other `j` one of these must hold: `C_t - C_j + tol
    >= 0`; the same less `G_t - G_j`, which is non-negative there; or, where several can be first, that another of these beats
    `t` in the model (where `t` is not first, the one that is beats it).
    """
    n = math.prod(shape)
    if isinstance(record, records.Feature):
        return _thresholds(record, _units(range(n), n).reshape(-1, *shape))
    if isinstance(record, records.Top1):
        return _top1(record, n, shape, torch.arange(n) if tops is None else torch.tensor(tops))
    if isinstance(record, records.LogitDifference):
        target, against = _units((record.target, record.against), n)
        forms = (target - against).unsqueeze(0)
    else:
        forms = _units(range(n) if record.outputs is None else record.outputs, n)
    both = torch.cat([forms, -forms]).reshape(-1, *shape)
    offset = torch.zeros(len(both), dtype=torch.float64)
    if isinstance(record, records.Logits) and record.norm != "linf":
        return Norm(both, -both, offset, record.tolerance, 1 if record.norm == "l1" else 2)
    return Clauses(both, -both, offset + record.tolerance, torch.arange(len(both)).unsqueeze(1))


def _units(chosen: Sequence[int], n: int) -> Tensor:
    """The unit vectors of some outputs. Not rows of an identity matrix: of fifty thousand tokens that is 20 GB."""
    rows = torch.zeros((len(chosen), n), dtype=torch.float64)
    rows[torch.arange(len(chosen)), torch.tensor(list(chosen), dtype=torch.long)] = 1
    return rows


def _thresholds(record: records.Feature, unit: Tensor) -> Margins:
    """Of the circuit's outputs, which are the feature's values, none passes a threshold by more than the tolerance."""
    # Offsets are added exactly and rounded down, towards the stricter claim.
    ends = [(sign, -_rounded_up(-(threshold + Fraction(record.tolerance)))) for sign, threshold in _signed(record)]
    circuit = torch.cat([-sign * unit for sign, _ in ends])
    offsets = [torch.full((len(unit),), offset, dtype=torch.float64) for _, offset in ends]
    return Clauses(circuit, torch.zeros_like(circuit), torch.cat(offsets), torch.arange(len(circuit)).unsqueeze(1))


def _signed(record: records.Feature) -> list[tuple[int, Fraction]]:
    """Each threshold as one from above, of the feature or (sign -1) of its negative."""
    ends = ((1, record.below), (-1, record.above))
    return [(sign, sign * Fraction(threshold)) for sign, threshold in ends if threshold is not None]


def _past(record: records.Feature, value: Fraction, threshold: Fraction) -> float:
    """How far a value is past a threshold: more than the tolerance only where the number that `value` was rounded from is."""
    excess, tolerance = value - threshold, Fraction(record.tolerance)
    beyond = value > Fraction(_rounded_up(threshold + tolerance))
    return float(excess if beyond else min(excess, tolerance))


def _rounded_up(value: Fraction) -> float:
    found = float(value)
    return math.nextafter(found, math.inf) if Fraction(found) < value else found


def _top1(record: records.Top1, n: int, shape: Shape, tops: Tensor) -> Margins:
    """For each top and each other output two forms, then for each pair of tops that one beats the other."""
    first, other = _pairs(tops, torch.arange(n))
    beaten, better = _pairs(tops, tops)
    lead, rival = _lead(first, other, n), _lead(better, beaten, n)
    circuit, model = torch.cat([lead, lead, 0 * rival]), torch.cat([0 * lead, -lead, rival])
    # A form of exactly 0 leaves t first beside k: only what is strictly positive rules t out.
    ends = ((2 * len(first), record.tolerance), (len(beaten), -torch.finfo(torch.float64).tiny))
    offset = torch.cat([torch.full((count,), end, dtype=torch.float64) for count, end in ends])
    at = torch.arange(len(first))
    rivals = (2 * len(first) + torch.arange(len(beaten))).reshape(len(tops), -1).repeat_interleave(n - 1, dim=0)
    clauses = torch.cat([torch.stack([at, len(first) + at], dim=1), rivals], dim=1)
    return Clauses(circuit.reshape(-1, *shape), model.reshape(-1, *shape), offset, clauses)


def _pairs(one: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
    """All pairs of different outputs, the first the slower."""
    both = torch.cartesian_prod(one, other).reshape(-1, 2)
    both = both[both[:, 0] != both[:, 1]]
    return both[:, 0], both[:, 1]


def _lead(ahead: Tensor, behind: Tensor, n: int) -> Tensor:
    """Forms `output ahead - output behind`."""
    rows, at = torch.zeros((len(ahead), n), dtype=torch.float64), torch.arange(len(ahead))
    rows[at, ahead], rows[at, behind] = 1, -1
    return rows


def deviation(record: records.Agreement, circuit_output: Tensor, model_output: Tensor) -> float:
    """How far the circuit is from the model at one point, in the metric's unit: the claim holds there if it is at most the
    tolerance.

    For top1: by how much the circuit's first output exceeds its value of the model's first (the least, where several are).
    For a feature: by how much it is past its threshold, negative where it is not; the model's output plays no part.
    Guarantees: computed in exact arithmetic from the numbers given and rounded at the end, so it exceeds the tolerance only
    where the exact value does. Outputs that are not finite, or too large, show nothing: not a number. Cost: rational
    arithmetic, about a millisecond for a thousand outputs.
    """
    outputs = torch.stack([circuit_output.flatten().double(), model_output.flatten().double()])
    if not bool(outputs.isfinite().all()):
        return math.nan
    c, g = ([Fraction(value) for value in row] for row in outputs.tolist())
    try:
        return _exact(record, c, g)
    except OverflowError:
        return math.nan


def _exact(record: records.Agreement, c: list[Fraction], g: list[Fraction]) -> float:
    if isinstance(record, records.Feature):
        return max(_past(record, max(sign * value for value in c), t) for sign, t in _signed(record))
    if isinstance(record, records.Top1):
        first, most = max(g), max(c)
        return float(min(most - mine for mine, theirs in zip(c, g, strict=True) if theirs == first))
    if isinstance(record, records.LogitDifference):
        t, k = record.target, record.against
        return float(abs((c[t] - c[k]) - (g[t] - g[k])))
    chosen = range(len(c)) if record.outputs is None else record.outputs
    sizes = [abs(c[i] - g[i]) for i in chosen]
    order = record.norm if isinstance(record, records.Logits) else "linf"
    if order == "l1":
        return float(sum(sizes))
    if order == "linf":
        return float(max(sizes))
    # Two roundings, both monotone, and the root of a rounded square is exact: at most t^2 never becomes more than t.
    return math.sqrt(sum(size * size for size in sizes))
