"""Optimised relaxations: gradient ascent of a bound on its free slopes, mixing weights and constraint multipliers.

Whatever values these take inside their ranges, the bound holds; so they are found by approximate gradients without rounding,
and the bound is then computed once more with rounding charged.

Source: Xu et al. 2021 (alpha-CROWN), arXiv:2011.13824; Wang et al. 2021 (beta-CROWN), arXiv:2103.06624; the mixing weight
between siamese and difference relaxations is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from bounds.domains import difference
from bounds.domains.ascent import ascend
from bounds.domains.difference import Pair, Steering
from bounds.domains.relax import Relaxation, relaxation
from bounds.domains.split import Limits
from bounds.domains.trace import Trace
from bounds.graph import Node
from bounds.ops.base import Elementwise, Joint, Lines
from bounds.region import Box
from bounds.rounding import gamma

__all__ = ["Result", "Tuned", "glance", "tune"]


@dataclass(slots=True, eq=False)
class Tuned:
    """Free quantities of a batch of bounds, by tensor; each `(batch, *shape)`, weights `(batch, 1, *shape)`.

    `model`, `circuit`: slopes of the lower lines of `f(y)` and `f(y + d)`, or what chooses their planes; `weights`: the `w` of
    `bounds.domains.difference`; `above`, `below`: multipliers of the constraints at their upper and lower ends, keyed by
    (stream, tensor).
    """

    model: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    circuit: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    weights: dict[str, Tensor] = field(default_factory=dict[str, Tensor])
    above: dict[tuple[str, str], Tensor] = field(default_factory=dict[tuple[str, str], Tensor])
    below: dict[tuple[str, str], Tensor] = field(default_factory=dict[tuple[str, str], Tensor])

    def groups(self) -> list[dict[str, Tensor] | dict[tuple[str, str], Tensor]]:
        return [self.model, self.circuit, self.weights, self.above, self.below]

    def pick(self, rows: Tensor) -> Tuned:
        """Some rows of the batch, for warm starts."""
        return Tuned(*({key: value[rows] for key, value in group.items()} for group in self.groups()))  # pyright: ignore[reportArgumentType]

    def to(self, dtype: torch.dtype) -> Tuned:
        """The same in another precision."""
        return Tuned(*({key: value.to(dtype) for key, value in group.items()} for group in self.groups()))  # pyright: ignore[reportArgumentType]


@dataclass(frozen=True, slots=True, eq=False)
class Result:
    """`margin` `(batch,)`: proven lower bounds. `worst` `(batch, *input_shape)`: coefficients of the least row over the input,
    whose minimiser is where a violation may be. `losses`: see `Steering`. `tuned`: what reached them."""

    margin: Tensor
    worst: Tensor
    losses: Mapping[str, tuple[Tensor, Tensor, Tensor]]
    tuned: Tuned


def tune(
    trace: Trace,
    limits: Limits,
    p: Tensor,
    q: Tensor,
    combine: Callable[[Tensor], Tensor],
    steps: int,
    warm: Tuned | None = None,
    rate: float = 0.2,
    expired: Callable[[], bool] = lambda: False,
) -> Result:
    """Bound `combine` of the forms `p . f_G + q . (f_C - f_G)` of the output from below, for each subproblem of the trace.

    Shapes: `p`, `q` `(batch, rows, *output_shape)`; `combine` `(batch, rows)` to `(batch,)`, monotone and differentiable.
    Guarantees: sound whatever the optimiser does; never looser than its own start (greedy weights, slopes by area), and but for
    rounding not than `warm`: each row keeps the best it met. Cost: about `3 * steps + 3` backward passes over both streams.
    """
    chosen: dict[str, Tensor] = {}
    start = difference.start(trace.graph.output, p, q)
    best = _proven(trace, start, combine, limits, None, chosen)
    if steps == 0:
        return best
    frees = _frees(trace)
    tuned = _initial(trace, frees, limits, chosen, warm, len(p))
    free = [value for group in tuned.groups() for value in group.values()]
    if not free:
        return best

    def goal() -> Tensor:
        pair = difference.pull_back(_with(trace, frees, tuned), start, "greedy", None, _steering(tuned, limits, charged=False))
        return combine(_least(trace, pair))

    ascend(free, goal, lambda: _clamp(frees, tuned), steps, rate, expired)
    found = _proven(_with(trace, frees, tuned), start, combine, limits, tuned, None)
    return Result(torch.maximum(best.margin, found.margin), found.worst, found.losses, tuned)


def glance(trace: Trace, limits: Limits, p: Tensor, q: Tensor, tuned: Tuned) -> Pair:
    """About what `tune` would find without a step from `tuned`: forms over the input. No proof: rounding is left out."""
    with torch.no_grad():
        start = difference.start(trace.graph.output, p, q)
        return difference.pull_back(
            _with(trace, _frees(trace), tuned), start, "greedy", None, _steering(tuned, limits, charged=False)
        )


def _least(trace: Trace, pair: Pair) -> Tensor:
    """`concretize` without rounding, for gradients. Shape: `(batch, rows)`."""
    a = pair.model.get(trace.graph.input)
    if a is None:
        return pair.constant
    return pair.constant + trace.minimum(a)


def _proven(
    trace: Trace,
    start: Pair,
    combine: Callable[[Tensor], Tensor],
    limits: Limits,
    tuned: Tuned | None,
    chosen: dict[str, Tensor] | None,
) -> Result:
    """Bounds with rounding charged. With `tuned`, whose multipliers count, the trace is one that it has tilted."""
    losses: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    with torch.no_grad():
        steering = Steering(losses=losses, chosen=chosen) if tuned is None else replace(_steering(tuned, limits), losses=losses)
        pair = difference.pull_back(trace, start, "greedy", None, steering)
        forms = difference.concretize(trace, pair)
        margin, a = combine(forms), pair.model.get(trace.graph.input)
        if a is None:
            a = forms.new_zeros((*forms.shape, *trace.graph.input_shape))
        row = forms.argmin(1)
    return Result(margin, a[torch.arange(len(a), device=a.device), row], losses, Tuned() if tuned is None else tuned)


@dataclass(frozen=True, slots=True, eq=False)
class _Free:
    """What an elementwise or joint node lets a caller choose: slopes of its lower line through the origin, or what chooses its
    planes, from `least` to `most`. `lines`: its lines, the lower one through the origin where it is `free`."""

    node: Node
    least: Tensor
    most: Tensor
    free: Tensor
    lines: Relaxation

    def chosen(self, value: Tensor, box: Box) -> Relaxation:
        """The relaxation at a choice."""
        if not isinstance(self.lines, Lines):
            assert isinstance(self.node.op, Joint)
            return relaxation(self.node.op, box, value)
        return Lines(torch.where(self.free, value, self.lines.al), self.lines.bl, self.lines.au, self.lines.bu)


_Frees = Mapping[tuple[str, str], _Free]
"""By stream and node."""


def _frees(trace: Trace) -> _Frees:
    assert trace.model is not None
    found: dict[tuple[str, str], _Free] = {}
    for stream, of in (("model", trace.model), ("circuit", trace)):
        for node in trace.graph.nodes:
            op = node.op
            if not isinstance(op, Elementwise | Joint) or (stream == "circuit" and node.inputs[0] not in trace.delta):
                continue
            box = of.read[node.inputs[0]]
            span = op.freedom(box.lower, box.upper) if isinstance(op, Joint) else op.free_slopes(box.lower, box.upper)
            if span is None or not bool((free := span[0] < span[1]).any()):
                continue
            lines = of.lines(node)
            if isinstance(lines, Lines):
                lines = Lines(lines.al, torch.where(free, 0.0, lines.bl), lines.au, lines.bu)
            found[stream, node.name] = _Free(node, *span, free, lines)
    return found


def _initial(
    trace: Trace, frees: _Frees, limits: Limits, chosen: Mapping[str, Tensor], warm: Tuned | None, batch: int
) -> Tuned:
    tuned = Tuned()
    for (stream, name), free in frees.items():
        first = free.lines.al if isinstance(free.lines, Lines) else torch.zeros_like(free.least)
        into = tuned.model if stream == "model" else tuned.circuit
        into[name] = first.detach().expand(batch, *first.shape[1:]).clone()
    for name, w in chosen.items():
        if bool(trace.difference(trace.graph.node[name])[1].any()) and w.dim() > 1:
            tuned.weights[name] = w.detach().to(trace.graph.dtype).mean(1, keepdim=True).clone()
    for stream, boxes in (("model", limits.model), ("circuit", limits.circuit)):
        for name, box in boxes.items():
            tuned.above[stream, name] = torch.zeros_like(box.upper)
            tuned.below[stream, name] = torch.zeros_like(box.lower)
    if warm is not None:
        for mine, theirs in zip(tuned.groups(), warm.groups(), strict=True):
            for key, value in theirs.items():
                if key in mine:
                    mine[key] = value.to(mine[key]).clone()  # pyright: ignore[reportArgumentType]
        _clamp(frees, tuned)
    return tuned


def _clamp(frees: _Frees, tuned: Tuned) -> None:
    """Back into the ranges in which every value gives a sound bound."""
    with torch.no_grad():
        for (stream, name), free in frees.items():
            value = (tuned.model if stream == "model" else tuned.circuit)[name]
            value.copy_(torch.minimum(torch.maximum(value, free.least), free.most))
        for value in tuned.weights.values():
            value.clamp_(0, 1)
        for group in (tuned.above, tuned.below):
            for value in group.values():
                value.clamp_(min=0)


def _with(trace: Trace, frees: _Frees, tuned: Tuned) -> Trace:
    """The trace with its free lower lines tilted."""
    assert trace.model is not None
    model = replace(trace.model, _lines=_tilted("model", trace.model, frees, tuned.model), _rounding={})
    return replace(trace, model=model, _lines=_tilted("circuit", trace, frees, tuned.circuit), _rounding={})


def _tilted(stream: str, of: Trace, frees: _Frees, slopes: Mapping[str, Tensor]) -> dict[str, Relaxation]:
    lines = dict(of._lines)  # pyright: ignore[reportPrivateUsage]
    for (whose, name), free in frees.items():
        if whose == stream and name in slopes:
            lines[name] = free.chosen(slopes[name], of.read[free.node.inputs[0]])
    return lines


def _steering(tuned: Tuned, limits: Limits, charged: bool = True) -> Steering:
    """Multipliers as coefficients: a constraint `y <= hi` with multiplier `m >= 0` adds `m (y - hi)`, which is never
    positive."""
    added: dict[str, dict[str, Tensor]] = {"model": {}, "circuit": {}}
    constant: Tensor | None = None
    for stream, boxes in (("model", limits.model), ("circuit", limits.circuit)):
        for name, box in boxes.items():
            if (stream, name) not in tuned.above:
                continue
            above, below = tuned.above[stream, name], tuned.below[stream, name]
            above = torch.where(box.upper.isfinite(), above, torch.zeros_like(above))
            below = torch.where(box.lower.isfinite(), below, torch.zeros_like(below))
            # Of two opposite multipliers only the excess helps; and one of them being zero, their difference is exact.
            common = torch.minimum(above, below)
            above, below = above - common, below - common
            added[stream][name] = (above - below).unsqueeze(1)
            terms = (below * _finite(box.lower) - above * _finite(box.upper)).flatten(1)
            part = terms.sum(1, keepdim=True) - gamma(terms.shape[1] + 2, terms.dtype) * terms.abs().sum(1, keepdim=True)
            constant = part if constant is None else constant + part
    return Steering(tuned.weights, added["model"], added["circuit"], constant, charged=charged)


def _finite(end: Tensor) -> Tensor:
    return torch.where(end.isfinite(), end, torch.zeros_like(end))
