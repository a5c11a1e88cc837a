"""Look-ahead: what each of a few splits would prove, before one of them is chosen.

With slopes, weights and multipliers left where the ascent put them, a bound of each half costs one backward pass, against some
fifty for the ascent itself; and it shows what no score of a relaxation's loss does: how much of that loss the split takes away
on both sides. The multiplier of the half's own constraint is new, and near the output it is what makes the split worth its
while: given a linear form of the constrained element it is the maximum of a concave function of one number, and bisection finds
it, for less than a backward pass.

Nothing here proves anything: the halves are bounded again once they are parts. So single precision will do, in which
convolutions are ten times as fast.

Source: De Palma et al. 2021 (FSB), arXiv:2104.06718: the candidates with the best scores are bounded, and the best bound wins;
the multiplier is ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bounds.domains import linear
from bounds.domains.difference import Pair
from bounds.domains.slopes import Result, Tuned, glance
from bounds.domains.split import Limits, split_trace
from bounds.domains.trace import Trace
from bounds.region import Box
from verify.branch.goals import Forms
from verify.branch.splits import Split

__all__ = ["Ahead", "least_of"]

_ROWS = 512
"""Halves bounded, and elements' forms made, in one pass."""

_NOTHING = 1e-6
"""Gains below it are none."""

_HALVINGS = 8
"""Of the interval that a multiplier is sought in."""

_KEPT = 1 << 28
"""Bytes of elements' forms that are kept."""


@dataclass(frozen=True, slots=True, eq=False)
class Ahead:
    """Looks at splits of one circuit's parts. `base` is its trace, perhaps in lower precision than the rest; it is what is
    computed in."""

    base: Trace
    _forms: dict[tuple[str, str, int], tuple[Tensor, Tensor]] = field(
        default_factory=dict[tuple[str, str, int], tuple[Tensor, Tensor]]
    )

    def ranked(self, limits: Limits, forms: Forms, result: Result, candidates: Sequence[Sequence[Split]]) -> list[list[Split]]:
        """Candidate splits of each part, the best first: the fewer parts it takes where every split gains as much.

        `result` is what is proven of the parts so far, and where the ascent ended. A half that is empty, or whose margin would
        not be negative, has gained all there is. Cost: a backward pass for each part, and one for each half of each candidate;
        and two for each element that is met for the first time.
        """
        owner = torch.tensor([i for i, splits in enumerate(candidates) for _ in splits], dtype=torch.long)
        flat = [split for splits in candidates for split in splits]
        dtype = self.base.graph.dtype
        limits, forms, tuned, margin = limits.to(dtype), forms.to(dtype), result.tuned.to(dtype), result.margin.to(dtype)
        # What lower precision charges is charged to a part as to its halves: only so are small gains seen.
        whole = self._bounded(limits, forms, tuned, None)
        scores: list[float] = []
        for at in range(0, len(flat), _ROWS // 2):
            rows, splits = owner[at : at + _ROWS // 2], flat[at : at + _ROWS // 2]
            both = rows.repeat(2)
            halved = _halved(self.base, limits, both, splits)
            found = self._bounded(halved, forms.pick(both), tuned.pick(both), self._constraints(splits))
            gain = torch.minimum(found - whole[both], -margin[both]).nan_to_num(nan=0.0, neginf=0.0).reshape(2, -1)
            scores += _score(gain.amin(0), gain.amax(0)).tolist()
        order: list[list[tuple[float, Split]]] = [[] for _ in candidates]
        for i, score, split in zip(owner.tolist(), scores, flat, strict=True):
            order[i].append((score, split))
        return [[split for _, split in sorted(found, key=lambda pair: -pair[0])] for found in order]

    def _bounded(self, limits: Limits, forms: Forms, tuned: Tuned, constraints: tuple[Tensor, Tensor] | None) -> Tensor:
        """About what is proven of parts, infinite where they are empty. Shape: `(parts,)`."""
        trace, empty = split_trace(self.base, limits, len(forms.p))
        pair = glance(trace, limits, forms.p, forms.q, tuned)
        return torch.where(empty, torch.inf, forms.combine(least_of(trace, pair, constraints)))

    def _constraints(self, splits: Sequence[Split]) -> tuple[Tensor, Tensor]:
        """Linear forms of the input that are not negative in a half: first those of halves above the thresholds, then those
        below. Shapes: `(2 * splits, inputs)`, `(2 * splits,)`."""
        self._meet(splits)
        held = [self._forms[split.stream, split.tensor, split.at] for split in splits]
        lower, upper = (torch.stack([a[i] for a, _ in held]) for i in (0, 1))
        least, greatest = (torch.stack([c[i] for _, c in held]) for i in (0, 1))
        threshold = torch.tensor([split.threshold for split in splits], dtype=least.dtype)
        return torch.cat([upper, -lower]), torch.cat([greatest - threshold, threshold - least])

    def _meet(self, splits: Sequence[Split]) -> None:
        """Bound the elements of splits that were not met yet by linear forms of the input, from below and from above."""
        graph = self.base.graph
        fresh: dict[tuple[str, str], dict[int, None]] = {}
        size = self.base.read[graph.input].lower[0].numel()
        if len(self._forms) * 2 * size * graph.dtype.itemsize > _KEPT:
            self._forms.clear()
        for split in splits:
            if (split.stream, split.tensor, split.at) not in self._forms:
                fresh.setdefault((split.stream, split.tensor), {})[split.at] = None
        for (stream, tensor), places in fresh.items():
            trace = self.base if stream == "circuit" or self.base.model is None else self.base.model
            for at in torch.tensor(list(places)).split(_ROWS // 2):
                rows, sign = torch.arange(len(at)).repeat(1, 2), torch.ones(1, 2 * len(at), dtype=graph.dtype)
                sign[0, len(at) :] = -1
                form = linear.pull_back(trace, linear.elements(graph, tensor, at).pick(rows, sign))
                a = form.pending.get(graph.input)
                a = sign.new_zeros((2 * len(at), size)) if a is None else a[0].flatten(1)
                lower, upper = a.chunk(2)
                least, greatest = form.constant[0].chunk(2)
                for i, place in enumerate(at.tolist()):
                    held = torch.stack([lower[i], -upper[i]]), torch.stack([least[i], -greatest[i]])
                    self._forms[stream, tensor, place] = held


def least_of(trace: Trace, pair: Pair, constraints: tuple[Tensor, Tensor] | None) -> Tensor:
    """The least values of forms over each part's box of inputs, about, at the best multiplier of a constraint `w . x + k >= 0`
    where there is one. Shape: `(parts, rows)`."""
    a = pair.model.get(trace.graph.input)
    if a is None:
        return pair.constant
    a, box = a.flatten(2), trace.read[trace.graph.input]
    center, radius = box.center.flatten(1).unsqueeze(1), box.radius.flatten(1).unsqueeze(1)
    free = pair.constant + (a * center).sum(2) - (a.abs() * radius).sum(2)
    if constraints is None:
        return free
    w, k = constraints[0].unsqueeze(1), constraints[1].unsqueeze(1)
    reach = w * radius
    at_center = k + (w * center).sum(2)
    # Beyond a few times the ratio of what the two can vary, the constraint's own form only loses.
    low = torch.zeros_like(free)
    high = 4 * (a.abs() * radius).sum(2) / reach.abs().sum(2).clamp_min(torch.finfo(a.dtype).tiny)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        rising = ((a - middle.unsqueeze(2) * w).sign() * reach).sum(2) > at_center
        low, high = torch.where(rising, middle, low), torch.where(rising, high, middle)
    held = a - low.unsqueeze(2) * w
    found = pair.constant - low * k + (held * center).sum(2) - (held.abs() * radius).sum(2)
    return torch.where(found > free, found, free)  # where an element has no finite form, that says nothing


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
