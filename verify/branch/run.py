"""Branch and bound on one circuit: split where the relaxation loses most, bound the parts in batches, worst part first.

Complete for piecewise-linear networks: a part whose activation signs are all known is a linear problem, and the multipliers of
its constraints find that problem's optimum in the limit. Other activations are split on their argument.

Source: Bunel et al. 2020, arXiv:1909.06588; Wang et al. 2021 (beta-CROWN), arXiv:2103.06624; the two streams are ours.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from bounds.domains.fronts import fronts
from bounds.domains.refine import circuit_trace, model_trace
from bounds.domains.sharpen import difference_trace
from bounds.domains.shrink import shrink
from bounds.domains.slopes import Result, Tuned, tune
from bounds.domains.split import Limits, split_trace
from bounds.domains.trace import Trace
from bounds.query import Query
from bounds.region import Box
from bounds.tokens import Tokens
from verify.branch.ahead import Ahead
from verify.branch.choices import Choice, choices, has_choices
from verify.branch.goals import Forms, goals, proven, stacked
from verify.branch.queue import Part, Queue
from verify.branch.splits import Split, candidates, input_splits, still_open
from verify.work.memory import out_of_memory

__all__ = ["Branching", "Progress"]

_FEW_INPUTS = 12
"""With at most this many inputs that vary, the input itself is split instead of activations."""

_RATE, _WARM_RATE = 0.2, 0.1
"""First step sizes of the ascent: from the defaults, and from a warm start, which is near its optimum."""

_SHORT = 4
"""Steps from a warm start. Most halves close in a few."""


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Parts bounded together."""

    parts: Sequence[Part]
    limits: Limits
    trace: Trace
    forms: Forms
    result: Result
    empty: Tensor


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
    `tune` of `batch` parts with `steps` steps at the root and a few below, `again` more for those still open, and a bound for
    each half of `look` splits. `memory` bounds the working set in bytes, `held` the open parts in memory; more are written out.
    `traced` are bounds of this query and circuit, where they are made already; with `known` ones the graph also stays whole.
    With `accept` a part counts as closed only where that, given its batch and its number there, agrees. `forms` `(forms,)` are
    lower bounds known of the margin's forms: goals that they prove are not asked again. A step that runs out of
    memory is done again with half the parts, and so are those after it.
    """

    query: Query
    mask: Tensor
    steps: int = 16
    batch: int = 128
    look: int = 24
    again: int = 16
    memory: int = 1 << 28
    traced: Trace | None = None
    held: int = 1 << 30
    known: Trace | None = None
    accept: Callable[[Batch, int], bool] | None = None
    forms: Tensor | None = None
    _closed: float = math.inf
    _known: float = -math.inf
    _taken: int = 0
    _rest: float = math.inf
    _waiting: int = 0
    _count: int = 0
    _cut: bool = True

    def __post_init__(self) -> None:
        query = self.query
        if self.known is not None:
            self.base = self.known
        else:
            self.query, self.base = shrink(query, self._traced() if self.traced is None else self.traced)
        self._parts = Queue(self.held)
        self.goals = goals(query.margins)
        box = query.region.box()
        self.fronts = fronts(self.base.model) if self.base.model is not None and isinstance(query.region, Tokens) else None
        self.by_input = not has_choices(query.region) and int((box.lower < box.upper).sum()) <= _FEW_INPUTS

    @cached_property
    def _ahead(self) -> Ahead:
        """Looks in single precision; not made where bounds of the whole region are enough."""
        return Ahead(self.base.to(torch.float32))

    def _traced(self) -> Trace:
        model = model_trace(self.query.graph, self.query.region, self.memory)
        return difference_trace(circuit_trace(model, self.query.gates, self.mask, self.memory), self.memory)

    @property
    def bound(self) -> float:
        """The margin proven over the whole region so far."""
        return min(self._closed, self._known, self._rest, self._parts.bound)

    @property
    def open(self) -> int:
        """Parts without a proof yet."""
        return len(self._parts) + self._taken + self._waiting

    @property
    def whole(self) -> bool:
        """Whether it can go on: its root is bounded, and an exception cut no step off and lost the parts that it had taken."""
        return not self._cut

    @property
    def bytes(self) -> int:
        """Memory that it holds, about."""
        return self._parts.bytes + self.base.bytes

    def root(self, expired: Callable[[], bool] = lambda: False) -> Progress:
        """Bound the whole region, goal by goal, but for those that are proven."""
        known = [-math.inf if self.forms is None else proven(self.query.margins, goal, self.forms) for goal in self.goals]
        self._closed = min((bound for bound in known if bound >= 0), default=math.inf)
        parts = sorted((Part(goal, (), bound) for goal, bound in enumerate(known) if not bound >= 0), key=lambda p: p.bound)
        found: list[Progress] = []
        for start in range(0, len(parts), self.batch):
            batch, rest = parts[start : start + self.batch], parts[start + self.batch :]
            # Should this be interrupted, parts not bounded yet count as open, and no more is known of them.
            self._known, self._taken = min(part.bound for part in batch), len(batch)
            self._rest, self._waiting = min((part.bound for part in rest), default=math.inf), len(rest)
            found.append(self._bounded(batch, expired))
        self._cut = False
        none = torch.zeros((0, *self.query.graph.input_shape), dtype=self.query.graph.dtype, device=self.query.graph.device)
        return Progress(self.bound, self.open, self._count, torch.cat([none, *(progress.candidates for progress in found)]))

    def step(self, expired: Callable[[], bool] = lambda: False) -> Progress:
        """Split the worst open parts and bound the halves."""
        self._cut = True
        while True:
            taken = self._take()
            try:
                progress = self._bounded(self._halves(taken), expired)
                self._cut = False
                return progress
            except (MemoryError, RuntimeError) as error:
                if not out_of_memory(error) or len(taken) == 1:
                    raise
            for part in taken:
                self._parts.push(part)
            self._known, self._taken, self.batch = math.inf, 0, len(taken)

    def _take(self) -> list[Part]:
        """The worst open parts, out of the queue."""
        self._known = self.bound  # should this step be interrupted, what it took counts as open, and no more is known
        taken: list[Part] = []
        while self._parts and len(taken) < max(1, self.batch // 2):
            self._taken += 1
            taken.append(self._parts.pop())
        return taken

    def _halves(self, taken: Sequence[Part]) -> list[Part]:
        """Both sides of the split of each."""
        halves: list[Part] = []
        for part in taken:
            assert part.next is not None
            for side in (1, -1):
                half = replace(part.next, side=side)
                halves.append(Part(part.goal, (*part.splits, half), part.bound, good=part.good, warm=part.warm))
        return halves

    def _bounded(self, parts: Sequence[Part], expired: Callable[[], bool]) -> Progress:
        """Bound parts, and again with more steps those that stay open; then choose where these are to be split."""
        warm = all(part.warm is not None for part in parts)
        # While tokens are left to choose, a choice gains more than slopes do, for less.
        choosing = has_choices(self.query.region) and all(isinstance(s, Choice) for part in parts for s in part.splits[-1:])
        steps = 0 if choosing else _SHORT if warm else self.steps
        batch = self._tuned(parts, steps, _WARM_RATE if warm else _RATE, expired)
        left = self._sifted(batch)
        if left and not choosing and not expired():
            batch = self._tuned(left, self.again, _WARM_RATE, expired)
            left = self._sifted(batch)
        worst = batch.result.margin.argsort()[:16]
        found = self.query.region.minimizer(batch.result.worst[worst])
        self._choose(batch, left)
        for part in left:
            if part.next is None:
                # Nothing left to split and still open: only the multipliers are short of their optimum, or it is violated.
                self._closed = min(self._closed, part.bound)
                continue
            self._parts.push(part)
        self._known, self._taken = math.inf, 0
        return Progress(self.bound, self.open, self._count, found)

    def _tuned(self, parts: Sequence[Part], steps: int, rate: float, expired: Callable[[], bool]) -> Batch:
        limits = self._limits(parts)
        trace, empty = split_trace(self.base, limits, len(parts), self.fronts)
        forms = stacked(self.query.margins, [self.goals[part.goal] for part in parts])
        warm = _joined([part.warm for part in parts])
        result = tune(trace, limits, forms.p, forms.q, forms.combine, steps, warm, rate, expired)
        return Batch(parts, limits, trace, forms, result, empty)

    def _sifted(self, batch: Batch) -> list[Part]:
        """The parts of a batch that stay open, with their bounds and warm starts."""
        left: list[Part] = []
        for i, (part, margin, empty) in enumerate(
            zip(batch.parts, batch.result.margin.tolist(), batch.empty.tolist(), strict=True)
        ):
            part.bound = max(part.bound, margin)
            agreed = (empty or part.bound >= 0) and (self.accept is None or self.accept(batch, i))
            if empty and agreed:
                self._count += 1
            elif agreed:
                self._closed, self._count = min(self._closed, part.bound), self._count + 1
            else:
                part.bound = min(part.bound, -math.ulp(0.0))  # not agreed to is not closed
                part.warm = batch.result.tuned.pick(torch.tensor([i]))
                left.append(part)
        return left

    def _choose(self, batch: Batch, left: Sequence[Part]) -> None:
        """Say where each part of a batch that stays open is to be split next."""
        if self.by_input:
            for part, split in zip(batch.parts, input_splits(batch.trace, batch.result), strict=True):
                part.next = split
            return
        if has_choices(self.query.region):
            for part, split in zip(batch.parts, choices(batch.trace, batch.result), strict=True):
                part.next = split
            left = [part for part in left if part.next is None]
        if not left:
            return
        open_ = {id(part) for part in left}
        rows = {i: part.splits for i, part in enumerate(batch.parts) if id(part) in open_}
        lists: list[Sequence[Split]] = [()] * len(batch.parts)
        for i, fresh in zip(rows, candidates(batch.trace, batch.result, 4 * self.look, rows), strict=True):
            held = [split for split in batch.parts[i].good if still_open(batch.trace, i, split)]
            lists[i] = [*dict.fromkeys([*held, *fresh])][: self.look if held else 4 * self.look]
        order = self._ahead.ranked(batch.limits, batch.forms, batch.result, lists)
        for part, splits in zip(batch.parts, order, strict=True):
            if part.next is not None:
                continue
            part.next = splits[0] if splits else None
            part.good = tuple(splits[: self.look // 2])

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
                for at, side in split.ends():
                    end, closer = (box.lower[i], max) if side > 0 else (box.upper[i], min)
                    end.view(-1)[at] = closer(float(end.view(-1)[at]), split.threshold)
        return limits


def _joined(warm: Sequence[Tuned | None]) -> Tuned | None:
    """Warm starts of a batch in one: multipliers that some lack start from zero, of the rest only what all of them have."""
    held = [w for w in warm if w is not None]
    if len(held) < len(warm) or not held:
        return None
    joined = Tuned()
    for i, group in enumerate(joined.groups()):
        others = [w.groups()[i] for w in held]
        for key in {key: None for other in others for key in other}:
            given = [other.get(key) for other in others]  # pyright: ignore[reportArgumentType]
            like = next(value for value in given if value is not None)
            if group is joined.above or group is joined.below or all(value is not None for value in given):
                group[key] = torch.cat([torch.zeros_like(like) if value is None else value for value in given])  # pyright: ignore[reportArgumentType]
    return joined
