"""From the record of an agreement to linear forms of the two outputs."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bounds.ops.base import Shape
from bounds.query import Clauses, Margins, Norm
from specs import agreement as records
from specs.errors import InputError

__all__ = ["agreement_margins", "check_outputs", "deviation", "top_differences"]


def check_outputs(record: records.Agreement, shape: Shape, *, file: str) -> None:
    """Raises: InputError: an output that the model does not have, or top1 of a single output."""
    size, where = math.prod(shape), "$.agreement"
    if isinstance(record, records.LogitDifference):
        named = [(f"{where}.target", record.target), (f"{where}.against", record.against)]
    elif isinstance(record, records.Logits | records.Output):
        named = [(f"{where}.outputs[{i}]", output) for i, output in enumerate(record.outputs or ())]
    else:
        named = []
        if size < 2:
            raise InputError(file, f"{where}.metric", "top1, and the model has one output", "two outputs or more", "use `metric: output`")
    for place, output in named:
        if output >= size:
            raise InputError(file, place, f"output {output}", f"the model has {size} outputs", f"use 0..{size - 1}")


def top_differences(shape: Shape) -> Tensor:
    """Forms `output t - output k` for every ordered pair, `t` the slower index. Shape: `(n (n-1), *shape)`."""
    n = math.prod(shape)
    unit = torch.eye(n, dtype=torch.float64)
    rows = [unit[t] - unit[k] for t in range(n) for k in range(n) if k != t]
    return torch.stack(rows).reshape(-1, *shape)


def agreement_margins(record: records.Agreement, shape: Shape, tops: list[int] | None = None) -> Margins:
    """The margin of a claim. `tops`, for top1: the outputs that can be the model's first somewhere in the region.

    Shapes: forms over outputs of `shape`. For top1 the claim is: wherever `t` is first in the model, no output of the circuit
    exceeds its `t` by more than the tolerance. For each such `t` and every other `j` one of these must hold: `C_t - C_j + tol >= 0`;
    the same less `G_t - G_j`, which is non-negative there; or, where several can be first, that some `k` beats `t` in the model.
    """
    n = math.prod(shape)
    unit = torch.eye(n, dtype=torch.float64)
    if isinstance(record, records.Top1):
        return _top1(record, unit, shape, list(range(n)) if tops is None else tops)
    if isinstance(record, records.LogitDifference):
        forms = (unit[record.target] - unit[record.against]).unsqueeze(0)
    else:
        forms = unit if record.outputs is None else unit[list(record.outputs)]
    both = torch.cat([forms, -forms]).reshape(-1, *shape)
    offset = torch.zeros(len(both), dtype=torch.float64)
    if isinstance(record, records.Logits) and record.norm != "linf":
        return Norm(both, -both, offset, record.tolerance, 1 if record.norm == "l1" else 2)
    return Clauses(both, -both, offset + record.tolerance, torch.arange(len(both)).unsqueeze(1))


def _top1(record: records.Top1, unit: Tensor, shape: Shape, tops: list[int]) -> Margins:
    n = len(unit)
    circuit: list[Tensor] = []
    model: list[Tensor] = []
    offset: list[float] = []
    clauses: list[list[int]] = []
    zero = torch.zeros(n, dtype=torch.float64)

    def form(c: Tensor, g: Tensor, o: float) -> int:
        circuit.append(c)
        model.append(g)
        offset.append(o)
        return len(offset) - 1

    for t in tops:
        # A form of exactly 0 leaves t first beside k: only what is strictly positive rules t out.
        beaten = [form(zero, unit[k] - unit[t], -torch.finfo(torch.float64).tiny) for k in range(n) if k != t] if len(tops) > 1 else []
        for j in range(n):
            if j != t:
                ahead = unit[t] - unit[j]
                clauses.append([form(ahead, zero, record.tolerance), form(ahead, -ahead, record.tolerance), *beaten])
    return Clauses(
        torch.stack(circuit).reshape(-1, *shape), torch.stack(model).reshape(-1, *shape),
        torch.tensor(offset, dtype=torch.float64), torch.tensor(clauses),
    )  # fmt: skip


def deviation(record: records.Agreement, circuit_output: Tensor, model_output: Tensor) -> float:
    """How far the circuit is from the model at one point, in the metric's unit: the claim holds there if it is at most the tolerance.

    For top1: by how much the circuit's first output exceeds its value of the model's first (the least, where several are).
    """
    c, g = circuit_output.double().flatten(), model_output.double().flatten()
    if isinstance(record, records.Top1):
        first = g == g.max()
        return float((c.max() - c[first]).min())
    if isinstance(record, records.LogitDifference):
        t, k = record.target, record.against
        return abs(float((c[t] - c[k]) - (g[t] - g[k])))
    d = c - g if record.outputs is None else (c - g)[list(record.outputs)]
    order = record.norm if isinstance(record, records.Logits) else "linf"
    return float(d.abs().max() if order == "linf" else d.abs().sum() if order == "l1" else d.norm())
