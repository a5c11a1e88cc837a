"""Branch and bound on one circuit: split where the relaxation loses most, bound the parts in batches, worst part first.

Complete for piecewise-linear networks: a part whose activation signs are all known is a linear problem, and the multipliers of
its constraints find that problem's optimum in the limit. Other activations are split on their argument.

Source: Bunel et al. 2020, arXiv:1909.06588; Wang et al. 2021 (beta-CROWN), arXiv:2103.06624; the two streams are ours.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import torch
from torch import Tensor

from bounds.domains.refine import circuit_trace, model_trace
from bounds.domains.sharpen import difference_trace
from bounds.domains.shrink import shrink
from bounds.domains.slopes import Result, Tuned, tune
from bounds.domains.split import Limits, split_trace
from bounds.domains.trace import Trace
from bounds.query import Query
from bounds.region import Box
from verify.ahead import ranked
from verify.goals import Forms, goals, stacked
from verify.splits import Split, candidates, input_splits, still_open

__all__ = ["Branching", "Progress"]

_FEW_INPUTS = 12
"""With at most this many inputs that vary, the input itself is split instead of activations."""

_RATE, _WARM_RATE = 0.2, 0.03
"""Step sizes of the ascent: a warm start is near its optimum, and a large first step would throw it away."""

_WARM_BYTES = 1 << 30
"""Warm starts kept for open parts; beyond it new parts start from the defaults."""


@dataclass(slots=True, eq=False)
class Part:
    """A part of the region still open for one goal: the constraints that cut it out, and what was proven of it."""

    goal: int
    splits: tuple[Split, ...]
    bound: float = -math.inf
    next: Split | None = None
    good: Sequence[Split] = ()
    warm: Tuned | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Progress:
    """State after a batch. `bound`: the margin proven over the whole region; `open`, `closed`: numbers of parts;
    `candidates`: inputs `(count, *input_shape)` where the margin may be negative, for an attack to start from."""

    bound: float
    open: int
    closed: int
    candidates: Tensor


@dataclass(eq=False)
class Branching:
    """Branch and bound on one query and one circuit. Iterate `step` until nothing is open, or stop at any time.

    Shapes: `mask` `(1, gates.size)`. Guarantees: at every moment the claim's margin is at least `bound`. Cost of a step: one
    `tune` of `batch` parts. `memory` bounds the working set in bytes.
    """

    query: Query
    mask: Tensor
    steps: int = 16
    batch: int = 128
    look: int = 16
    memory: int = 1 << 28
    model: Trace | None = None
    _parts: list[tuple[float, int, Part]] = field(default_factory=list[tuple[float, int, Part]])
    _closed: float = math.inf
    _count: int = 0
    _ids: count[int] = field(default_factory=count)

    def __post_init__(self) -> None:
        query = self.query
        model = model_trace(query.graph, query.region, self.memory) if self.model is None else self.model
        base = difference_trace(circuit_trace(model, query.gates, self.mask, self.memory), self.memory)
        self.query, self.base = shrink(query, base)
        self.goals = goals(query.margins)
        box = query.region.box()
        self.by_input = int((box.lower < box.upper).sum()) <= _FEW_INPUTS

    @property
    def bound(self) -> float:
        """The margin proven over the whole region so far."""
        return min(self._closed, self._parts[0][0] if self._parts else math.inf)

    @property
    def open(self) -> int:
        """Parts without a proof yet."""
        return len(self._parts)

    def root(self, expired: Callable[[], bool] = lambda: False) -> Progress:
        """Bound the whole region, goal by goal."""
        parts = [Part(goal, ()) for goal in range(len(self.goals))]
        return self._bounded(parts, expired)

    def step(self, expired: Callable[[], bool] = lambda: False) -> Progress:
        """Split the worst open parts and bound the halves."""
        taken: list[Part] = []
        while self._parts and len(taken) < max(1, self.batch // 2):
            taken.append(heapq.heappop(self._parts)[2])
        halves: list[Part] = []
        for part in taken:
            assert part.next is not None
            for side in (1, -1):
                halves.append(
                    Part(part.goal, (*part.splits, replace(part.next, side=side)), part.bound, None, part.good, part.warm)
                )
        return self._bounded(halves, expired)

    def _bounded(self, parts: Sequence[Part], expired: Callable[[], bool]) -> Progress:
        limits = self._limits(parts)
        trace, empty = split_trace(self.base, limits, len(parts))
        forms = stacked(self.query.margins, [self.goals[part.goal] for part in parts])
        warm = _joined([part.warm for part in parts], trace)
        rate = _RATE if warm is None else _WARM_RATE
        result = tune(trace, limits, forms.p, forms.q, forms.combine, self.steps, warm, rate, expired)
        self._choose(parts, limits, trace, result, forms, empty)
        keep_warm = len(self._parts) * _bytes(result.tuned, len(parts)) < _WARM_BYTES
        for i, part in enumerate(parts):
            if bool(empty[i]):
                self._count += 1
                continue
            part.bound = max(part.bound, float(result.margin[i]))
            if part.bound >= 0:
                self._closed, self._count = min(self._closed, part.bound), self._count + 1
                continue
            part.warm = result.tuned.pick(torch.tensor([i])) if keep_warm else None
            if part.next is None:
                # Nothing left to split and still open: only the multipliers are short of their optimum, or it is violated.
                self._closed = min(self._closed, part.bound)
                continue
            heapq.heappush(self._parts, (part.bound, next(self._ids), part))
        worst = result.margin.argsort()[:16]
        return Progress(self.bound, self.open, self._count, self.query.region.minimizer(result.worst[worst]))

    def _choose(self, parts: Sequence[Part], limits: Limits, trace: Trace, result: Result, forms: Forms, empty: Tensor) -> None:
        """Say where each part that stays open is to be split next."""
        if self.by_input:
            for part, split in zip(parts, input_splits(trace, result), strict=True):
                part.next = split
            return
        live = [i for i, part in enumerate(parts) if not bool(empty[i]) and max(part.bound, float(result.margin[i])) < 0]
        if not live:
            return
        fresh = candidates(trace, result, self.look)
        lists: list[Sequence[Split]] = [()] * len(parts)
        for i in live:
            held = [split for split in parts[i].good if still_open(trace, i, split)]
            count = self.look if held else 4 * self.look
            lists[i] = [*dict.fromkeys([*held, *fresh[i]])][:count]
        order = ranked(self.base, limits, forms, result, lists)
        for i in live:
            parts[i].next = order[i][0] if order[i] else None
            parts[i].good = order[i][: self.look // 2]

    def _limits(self, parts: Sequence[Part]) -> Limits:
        limits = Limits({}, {})
        for i, part in enumerate(parts):
            for split in part.splits:
                boxes = limits.model if split.stream == "model" else limits.circuit
                if split.tensor not in boxes:
                    shape = (len(parts), *self.query.graph.shape(split.tensor))
                    endless = torch.full(shape, torch.inf, dtype=self.query.graph.dtype, device=self.query.graph.device)
                    boxes[split.tensor] = Box(-endless, endless.clone())  # pyright: ignore[reportIndexIssue]
                box = boxes[split.tensor]
                end = (box.lower if split.side > 0 else box.upper)[i].view(-1)
                end[split.at] = (
                    max(float(end[split.at]), split.threshold) if split.side > 0 else min(float(end[split.at]), split.threshold)
                )
        return limits


def _joined(warm: Sequence[Tuned | None], trace: Trace) -> Tuned | None:
    """Warm starts of a batch in one, for the keys that all of them have."""
    if any(w is None for w in warm) or not warm:
        return None
    held = [w for w in warm if w is not None]
    joined = Tuned()
    for i, group in enumerate(joined.groups()):
        others = [w.groups()[i] for w in held]
        for key in others[0]:
            if all(key in other for other in others):
                group[key] = torch.cat([other[key] for other in others])  # pyright: ignore[reportArgumentType]
    return joined


def _bytes(tuned: Tuned, batch: int) -> int:
    return sum(value.numel() * value.element_size() for group in tuned.groups() for value in group.values()) // max(1, batch)
