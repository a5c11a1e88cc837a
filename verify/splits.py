"""Where branch and bound splits: at the activation, or the ablated value, to which the relaxation's loss is due.

Source: Bunel et al. 2020, arXiv:1909.06588 (scores by the relaxation's loss); sharing the loss on differences out is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.domains.slopes import Result
from bounds.domains.trace import Trace
from bounds.ops.base import Affine, Elementwise
from bounds.ops.relu import LeakyRelu

__all__ = ["Split", "best_splits"]


_NARROW = 0.3
"""A difference whose range is no more than this share of its size counts as nearly known."""


@dataclass(frozen=True, slots=True)
class Split:
    """One constraint: element `at` of a tensor keeps above (`side` 1) or below (-1) `threshold`, in the model's or circuit's
    run."""

    stream: str
    tensor: str
    at: int
    side: int
    threshold: float


def best_splits(trace: Trace, result: Result, by_input: bool) -> list[Split | None]:
    """For each part of a batch the split where its relaxation loses most, None where it loses nothing; or, `by_input`, a split
    of the input. Cost: one pass over the losses, and one backward pass of their shares."""
    assert trace.model is not None
    if by_input:
        return _input_splits(trace, result)
    best: list[tuple[float, Split | None]] = [(0.0, None)] * len(result.margin)
    for node in trace.graph.nodes:
        if node.name not in result.losses or not isinstance(node.op, Elementwise):
            continue
        source = node.inputs[0]
        y, c, d = (loss.sum(1).flatten(1) for loss in result.losses[node.name])
        for stream, loss, box in (("model", y, trace.model.read[source]), ("circuit", c, trace.read[source])):
            if stream == "circuit" and source not in trace.delta:
                continue
            open_ = ~node.op.settled(box.lower, box.upper).flatten(1)
            score = (loss + d / 2) * open_
            top, at = score.max(1)
            for i, (value, j) in enumerate(zip(top.tolist(), at.tolist(), strict=True)):
                if value > best[i][0]:
                    row = i if len(box.lower) > 1 else 0
                    lower, upper = float(box.lower[row].view(-1)[j]), float(box.upper[row].view(-1)[j])
                    threshold = 0.0 if isinstance(node.op, LeakyRelu) else (lower + upper) / 2
                    best[i] = value, Split(stream, source, j, 1, threshold)
    for (name, j, value), (i, held) in ((found, (i, best[i])) for i, found in enumerate(_blamed(trace, result)) if found):
        if value > held[0]:
            box = trace.model.read[name]
            row = i if len(box.lower) > 1 else 0
            lower, upper = float(box.lower[row].view(-1)[j]), float(box.upper[row].view(-1)[j])
            best[i] = value, Split("model", name, j, 1, (max(lower, 0.0) + upper) / 2)
    return [split for _, split in best]


def _blamed(trace: Trace, result: Result) -> list[tuple[str, int, float] | None]:
    """For each part the ablated element whose own range is to blame for most of the loss on differences downstream.

    What a relaxation loses on a difference grows with that difference's range, to which each ablated element adds in proportion
    to its own range and the weights between: the loss is shared out backwards along them. Halving such a range, even where the
    element's sign is known, about halves its share.
    """
    assert trace.model is not None
    blame: dict[str, Tensor] = {}
    best: list[tuple[str, int, float] | None] = [None] * len(result.margin)
    for node in reversed(trace.graph.nodes):
        if node.name not in trace.delta:
            continue
        v = blame.pop(node.name, None)
        if isinstance(node.op, Elementwise):
            source = node.inputs[0]
            if v is not None and node.name in trace.kept:
                y = trace.model.read[node.name]
                share = (v * (y.upper - y.lower) * ~trace.kept[node.name]).flatten(1) / 2
                value, at = share.max(1)
                for i, (x, j) in enumerate(zip(value.tolist(), at.tolist(), strict=True)):
                    held = best[i]
                    if x > 0 and (held is None or x > held[2]):
                        best[i] = source, j, x
                v = v * trace.kept[node.name]
            if source not in trace.delta:
                continue
            d = trace.delta[source]
            width = (d.upper - d.lower).clamp_min(torch.finfo(d.lower.dtype).tiny)
            # Where a difference is nearly known, its lines lose by its size, and no range is to blame.
            wide = width > _NARROW * d.magnitude
            own = result.losses[node.name][2].sum(1) * wide / width if node.name in result.losses else torch.zeros_like(width)
            blame[source] = blame.get(source, torch.zeros_like(own)) + own + (0.0 if v is None else v)
        elif v is not None and isinstance(node.op, Affine):
            v = v * trace.kept[node.name] if node.name in trace.kept else v
            for source, part in zip(
                node.inputs, _absolute_adjoint(node.op, v, [trace.graph.shape(x) for x in node.inputs]), strict=True
            ):
                if source in trace.delta:
                    blame[source] = blame.get(source, torch.zeros_like(part)) + part
    return best


def _input_splits(trace: Trace, result: Result) -> list[Split | None]:
    """Halve the input where the worst form varies most along it, counting width alone a little."""
    box = trace.read[trace.graph.input]
    width = (box.upper - box.lower).flatten(1).expand(len(result.margin), -1)
    score = width * (result.worst.flatten(1).abs() + 1e-3 * result.worst.flatten(1).abs().amax(1, keepdim=True) + 1e-9)
    chosen: list[Split | None] = []
    for i, j in enumerate(score.argmax(1).tolist()):
        row = i if len(box.lower) > 1 else 0
        lower, upper = float(box.lower[row].view(-1)[j]), float(box.upper[row].view(-1)[j])
        middle = (lower + upper) / 2
        chosen.append(Split("model", trace.graph.input, j, 1, middle) if lower < middle < upper else None)
    return chosen


def _absolute_adjoint(op: Affine, v: Tensor, shapes: Sequence[tuple[int, ...]]) -> tuple[Tensor, ...]:
    """`|L_i|^T v` for each input. Shapes: `(batch, *shape)` to `(batch, *shape_i)`."""
    zeros = [torch.zeros((len(v), *shape), dtype=v.dtype, device=v.device) for shape in shapes]
    pulled = torch.func.vjp(op.magnitude, *zeros)[1]
    return pulled(v)
