"""Look-ahead: what each of a few splits would prove, before one of them is chosen.

With slopes, weights and multipliers left where the ascent put them, a bound of each half costs one backward pass, against some
fifty for the ascent itself; and it shows what no score of a relaxation's loss does: how much of that loss the split takes away
on both sides. Nothing here proves anything: the halves are bounded again once they are parts. So single precision will do, in
which convolutions are ten times as fast.

Source: De Palma et al. 2021 (FSB), arXiv:2104.06718: the candidates with the best scores are bounded, and the best bound wins.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bounds.domains.slopes import Result, glance
from bounds.domains.split import Limits, split_trace
from bounds.domains.trace import Trace
from bounds.region import Box
from verify.branch.goals import Forms
from verify.branch.splits import Split

__all__ = ["ranked"]

_ROWS = 512
"""Halves bounded in one pass."""

_NOTHING = 1e-6
"""Gains below it are none."""


def ranked(
    base: Trace, limits: Limits, forms: Forms, result: Result, candidates: Sequence[Sequence[Split]]
) -> list[list[Split]]:
    """Candidate splits of each part, the best first: the fewer parts it takes where every split gains as much.

    `base` may be in lower precision than the rest, and is what is computed in. `result` is what is proven of the parts so far,
    and where the ascent ended. A half that is empty, or whose margin would not be negative, has gained all there is. Cost: a
    backward pass for each part, and one for each half of each candidate.
    """
    owner = torch.tensor([i for i, splits in enumerate(candidates) for _ in splits], dtype=torch.long)
    flat = [split for splits in candidates for split in splits]
    scores: list[float] = []
    dtype = base.graph.dtype
    limits, forms, tuned, margin = limits.to(dtype), forms.to(dtype), result.tuned.to(dtype), result.margin.to(dtype)
    # What lower precision charges is charged to a part as to its halves: only so are small gains seen.
    whole = glance(split_trace(base, limits, len(margin))[0], limits, forms.p, forms.q, forms.combine, tuned)
    for at in range(0, len(flat), _ROWS // 2):
        rows, splits = owner[at : at + _ROWS // 2], flat[at : at + _ROWS // 2]
        both = rows.repeat(2)
        ours = forms.pick(both)
        halved = _halved(base, limits, both, splits)
        trace, empty = split_trace(base, halved, len(both))
        found = glance(trace, halved, ours.p, ours.q, ours.combine, tuned.pick(both))
        gain = torch.where(empty, torch.inf, found - whole[both]).nan_to_num(nan=0.0, neginf=0.0)
        gain = torch.minimum(gain, -margin[both]).reshape(2, -1)
        scores += _score(gain.amin(0), gain.amax(0)).tolist()
    order: list[list[tuple[float, Split]]] = [[] for _ in candidates]
    for i, score, split in zip(owner.tolist(), scores, flat, strict=True):
        order[i].append((score, split))
    return [[split for _, split in sorted(found, key=lambda pair: -pair[0])] for found in order]


def _score(worse: Tensor, better: Tensor) -> Tensor:
    """Minus the rate `r` at which the number of parts grows with what is still to be gained, were all splits to gain as much:
    `exp(-r worse) + exp(-r better) = 1`. Within a millionth.

    Source: Le Bodic & Nemhauser 2017, Math. Program. 166 (variable branching).
    """
    better = better.clamp_min(_NOTHING)
    ratio = worse.clamp_min(_NOTHING) / better  # with better = 1
    low, high = torch.zeros_like(ratio), 1 - ratio.log()
    for _ in range(20):
        rate = (low + high) / 2
        above = (-rate * ratio).exp() + (-rate).exp() > 1
        low, high = torch.where(above, rate, low), torch.where(above, high, rate)
    return -high / better


def _halved(base: Trace, limits: Limits, rows: Tensor, splits: Sequence[Split]) -> Limits:
    """The constraints of both halves of each split: first those above the thresholds, then those below."""
    halved = Limits({}, {})
    for stream in ("model", "circuit"):
        before, after = getattr(limits, stream), getattr(halved, stream)
        ours = [(i, split) for i, split in enumerate(splits) if split.stream == stream]
        for name in {*before, *(split.tensor for _, split in ours)}:
            if name in before:
                lower, upper = (end.index_select(0, rows) for end in (before[name].lower, before[name].upper))
            else:
                upper = torch.full((len(rows), *base.graph.shape(name)), torch.inf, dtype=base.graph.dtype)
                lower = -upper
            here = [(i, split) for i, split in ours if split.tensor == name]
            if here:
                at, place = torch.tensor([i for i, _ in here]), torch.tensor([split.at for _, split in here])
                threshold = torch.tensor([split.threshold for _, split in here], dtype=lower.dtype)
                low, high = lower.flatten(1), upper.flatten(1)
                low[at, place] = torch.maximum(low[at, place], threshold)
                at = at + len(splits)
                high[at, place] = torch.minimum(high[at, place], threshold)
            after[name] = Box(lower, upper)
    return halved
