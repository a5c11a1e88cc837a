"""Where branch and bound splits: at the activation, or the ablated value, to which the relaxation's loss is due.

Source: Bunel et al. 2020, arXiv:1909.06588 (scores by the relaxation's loss); sharing the loss on differences out is ours.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.domains.slopes import Result
from bounds.domains.trace import Trace
from bounds.ops.base import Affine, Elementwise, Joint, Nonlinear
from bounds.ops.relu import LeakyRelu
from bounds.region import Box

__all__ = ["Split", "candidates", "input_splits", "still_open"]


_HALVINGS = 2
"""How often an element's range is halved where such splits are not free."""

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

    def ends(self) -> Sequence[tuple[int, int]]:
        """The elements that it constrains, each from below (1) or from above (-1)."""
        return [(self.at, self.side)]


def candidates(trace: Trace, result: Result, count: int, rows: Mapping[int, Sequence[Split]]) -> list[list[Split]]:
    """For some parts of a batch the splits where relaxations lose most, the likeliest first; none where nothing is lost.

    `rows` says which parts, by number, and by what splits each was cut out. Each kind of split has its own scores, which do not
    compare: the kinds take turns. Cost: one pass over the losses, and one backward pass of their shares.
    """
    assert trace.model is not None
    kinds = [*_sides(trace, result), *_blamed(trace, result)]
    found: list[list[tuple[int, float, Split]]] = [[] for _ in rows]
    worn = [_worn(path) for path in rows.values()]
    each = -(-2 * count // max(1, len(kinds)))
    at_rows = torch.tensor(list(rows), dtype=torch.long)
    for stream, source, scores, threshold, often in kinds:
        score = scores.index_select(0, at_rows)
        top, at = score.topk(min(each, score.shape[1]), dim=1)
        middle = (threshold if len(threshold) == 1 else threshold.index_select(0, at_rows)).expand_as(score).gather(1, at)
        rows_of = zip(found, worn, top.tolist(), at.tolist(), middle.tolist(), strict=True)
        for splits, tired, values, places, ends in rows_of:
            for turn, (value, j, end) in enumerate(zip(values, places, ends, strict=True)):
                if value > 0 and (often or (source, j) not in tired):
                    splits.append((turn, -value, Split(stream, source, j, 1, end)))
    return [[split for _, _, split in sorted(splits, key=lambda s: s[:2])[:count]] for splits in found]


def still_open(trace: Trace, row: int, split: Split) -> Split | None:
    """A split found good for a larger part, for one part of this batch: None where it would cut nothing off."""
    assert trace.model is not None
    box = (trace.model if split.stream == "model" else trace).read[split.tensor]
    row = row if len(box.lower) > 1 else 0
    lower, upper = float(box.lower[row].flatten()[split.at]), float(box.upper[row].flatten()[split.at])
    return split if lower < split.threshold < upper else None


_Kind = tuple[str, str, Tensor, Tensor, bool]
"""A stream, a tensor, a score and a threshold for each of its elements, `(batch, size)` and `(batch or 1, size)`; whether the
same element may be split so any number of times."""


def _worn(path: Sequence[Split]) -> set[tuple[str, int]]:
    """Elements of the model whose ranges were halved often enough."""
    halved = Counter((split.tensor, split.at) for split in path if split.stream == "model" and split.threshold != 0)
    return {element for element, times in halved.items() if times >= _HALVINGS}


def _sides(trace: Trace, result: Result) -> list[_Kind]:
    """Splits at which side of its kink, or of its middle, an argument of a non-linear operator is on; scored by the losses of
    what is computed from it."""
    assert trace.model is not None
    kinds: list[_Kind] = []
    for node in trace.graph.nodes:
        op = node.op
        if node.name not in result.losses or not isinstance(op, Nonlinear):
            continue
        source = node.inputs[0]
        y, c, d = (loss.sum(1) for loss in result.losses[node.name])
        for stream, loss, box in (("model", y, trace.model.read[source]), ("circuit", c, trace.read[source])):
            if stream == "circuit" and source not in trace.delta:
                continue
            score = loss + d / 2
            if isinstance(op, Joint):
                score = op.blame(score, box.lower, box.upper)
            score = score * ((box.lower < box.upper) if isinstance(op, Joint) else ~op.settled(box.lower, box.upper))
            middle = torch.zeros_like(box.lower) if isinstance(op, LeakyRelu) else (box.lower + box.upper) / 2
            kinds.append((stream, source, score.flatten(1), middle.flatten(1), True))
    return kinds


def _blamed(trace: Trace, result: Result) -> list[_Kind]:
    """Splits of an activation's argument in the middle of where the activation varies; scored by what its own range is to blame
    for.

    What a relaxation loses grows with the ranges of its arguments, to which each activation upstream adds in proportion to its
    own range and the weights between: the loss is shared out backwards along them, that on differences to ablated elements.
    Halving such a range, even where the element's sign is known, about halves its share. Where a tensor has more
    elements than numbers it is computed from, most ways to halve their ranges are empty: there only ablated elements are
    halved, and not often.
    """
    assert trace.model is not None
    values: dict[str, Tensor] = {}
    differences: dict[str, Tensor] = {}
    kinds: list[_Kind] = []
    free = _independent(trace)
    for node in reversed(trace.graph.nodes):
        v, w = values.pop(node.name, None), differences.pop(node.name, None)
        if isinstance(node.op, Affine):
            for blame, part in ((values, v), (differences, w)):
                if part is not None:
                    for source, share in zip(node.inputs, _shared(trace, node.op, node.inputs, part), strict=True):
                        blame[source] = blame.get(source, torch.zeros_like(share)) + share
            continue
        if not isinstance(node.op, Elementwise):
            continue  # a product's or a softmax's loss is not yet shared out among what it is computed from
        source = node.inputs[0]
        box, kept = trace.model.read[source], trace.kept.get(node.name)
        score = v if v is not None and source in free else torch.zeros((len(result.margin), *node.shape), dtype=box.lower.dtype)
        if w is not None and kept is not None:
            score, w = score + w * ~kept, w * kept
        value = trace.model.read[node.name]
        middle = (torch.maximum(box.lower, torch.zeros_like(box.lower)) + box.upper) / 2
        inside = (box.lower < middle) & (middle < box.upper)
        kinds.append(
            ("model", source, (score * (value.upper - value.lower) * inside).flatten(1) / 2, middle.flatten(1), source in free)
        )
        losses = [loss.sum(1) for loss in result.losses[node.name]] if node.name in result.losses else None
        own = torch.zeros_like(score) if losses is None else (losses[0] + losses[1]) / _width(box)
        values[source] = values.get(source, torch.zeros_like(own)) + own + (0.0 if v is None else v)
        if source in trace.delta and losses is not None:
            d = trace.delta[source]
            # Where a difference is nearly known, its lines lose by its size, and no range is to blame.
            own = losses[2] * (d.upper - d.lower > _NARROW * d.magnitude) / _width(d)
            differences[source] = differences.get(source, torch.zeros_like(own)) + own + (0.0 if w is None else w)
    return kinds


def input_splits(trace: Trace, result: Result) -> list[Split | None]:
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


def _independent(trace: Trace) -> set[str]:
    """Tensors of the model with no more elements that vary than varying numbers they are computed from, anywhere upstream."""
    assert trace.model is not None
    box = trace.model.read[trace.graph.input]
    least = {trace.graph.input: int((box.lower < box.upper).any(0).sum())}
    found: set[str] = set()
    for node in trace.graph.nodes:
        box = trace.model.value[node.name]
        varying, before = int((box.lower < box.upper).any(0).sum()), sum(least[x] for x in node.inputs)
        least[node.name] = min(varying, before)
        if varying <= before:
            found.add(node.name)
    return found


def _width(box: Box) -> Tensor:
    return (box.upper - box.lower).clamp_min(torch.finfo(box.lower.dtype).tiny)


def _shared(trace: Trace, op: Affine, inputs: Sequence[str], v: Tensor) -> tuple[Tensor, ...]:
    """`|L_i|^T v` for each input. Shapes: `(batch, *shape)` to `(batch, *shape_i)`."""
    with torch.enable_grad():
        shapes = [(len(v), *trace.graph.shape(x)) for x in inputs]
        zeros = [torch.zeros(shape, dtype=v.dtype, device=v.device, requires_grad=True) for shape in shapes]
        total = (op.magnitude(*zeros) * v).sum()
        # An operator need not read all of its inputs: the padding of a pooled maximum takes of one only its shape.
        return torch.autograd.grad(total, zeros, allow_unused=True, materialize_grads=True)
