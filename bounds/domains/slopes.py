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
from bounds.ops.base import Elementwise, Joint, Lines
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
    tuned = _initial(trace, limits, chosen, warm, len(p))
    free = [value for group in tuned.groups() for value in group.values()]
    if not free:
        return best

    def goal() -> Tensor:
        pair = difference.pull_back(_with(trace, tuned), start, "greedy", None, _steering(tuned, limits, charged=False))
        return combine(_least(trace, pair))

    ascend(free, goal, lambda: _clamp(trace, tuned), steps, rate, expired)
    found = _proven(trace, start, combine, limits, tuned, None)
    return Result(torch.maximum(best.margin, found.margin), found.worst, found.losses, tuned)


def glance(trace: Trace, limits: Limits, p: Tensor, q: Tensor, combine: Callable[[Tensor], Tensor], tuned: Tuned) -> Tensor:
    """About what `tune` would find without a step from `tuned`. No proof: rounding is left out. Shape: `(batch,)`."""
    with torch.no_grad():
        start = difference.start(trace.graph.output, p, q)
        pair = difference.pull_back(_with(trace, tuned), start, "greedy", None, _steering(tuned, limits, charged=False))
        return combine(_least(trace, pair))


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
    losses: dict[str, tuple[Tensor, Tensor, Tensor]] = {}
    with torch.no_grad():
        steering = Steering(losses=losses, chosen=chosen) if tuned is None else replace(_steering(tuned, limits), losses=losses)
        shaped = trace if tuned is None else _with(trace, tuned)
        pair = difference.pull_back(shaped, start, "greedy", None, steering)
        forms = difference.concretize(shaped, pair)
        margin, a = combine(forms), pair.model.get(trace.graph.input)
        if a is None:
            a = forms.new_zeros((*forms.shape, *trace.graph.input_shape))
        row = forms.argmin(1)
    return Result(margin, a[torch.arange(len(a), device=a.device), row], losses, Tuned() if tuned is None else tuned)


def _ranges(trace: Trace, stream: str) -> dict[str, tuple[Tensor, Tensor]]:
    """For each elementwise node, the range of slopes through the origin that its lower line may have; for each joint one, that
    of what chooses its planes."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    read = trace.read if stream == "circuit" else trace.model.read if trace.model is not None else {}
    for node in trace.graph.nodes:
        if isinstance(node.op, Elementwise | Joint) and (stream == "model" or node.inputs[0] in trace.delta):
            box, op = read[node.inputs[0]], node.op
            span = op.freedom(box.lower, box.upper) if isinstance(op, Joint) else op.free_slopes(box.lower, box.upper)
            if span is not None and bool((span[0] < span[1]).any()):
                found[node.name] = span
    return found


def _initial(trace: Trace, limits: Limits, chosen: Mapping[str, Tensor], warm: Tuned | None, batch: int) -> Tuned:
    assert trace.model is not None
    tuned = Tuned()
    for stream, into, of in (("model", tuned.model, trace.model), ("circuit", tuned.circuit, trace)):
        for name, (least, _) in _ranges(trace, stream).items():
            lines = of.lines(trace.graph.node[name])
            first = lines.al if isinstance(lines, Lines) else torch.zeros_like(least)
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
        _clamp(trace, tuned)
    return tuned


def _clamp(trace: Trace, tuned: Tuned) -> None:
    """Back into the ranges in which every value gives a sound bound."""
    with torch.no_grad():
        for stream, values in (("model", tuned.model), ("circuit", tuned.circuit)):
            ranges = _ranges(trace, stream)
            for name, value in values.items():
                if name in ranges:
                    value.copy_(torch.minimum(torch.maximum(value, ranges[name][0]), ranges[name][1]))
        for value in tuned.weights.values():
            value.clamp_(0, 1)
        for group in (tuned.above, tuned.below):
            for value in group.values():
                value.clamp_(min=0)


def _with(trace: Trace, tuned: Tuned) -> Trace:
    """The trace with its free lower lines tilted."""
    assert trace.model is not None
    model = replace(trace.model, _lines=_tilted(trace, "model", trace.model, tuned.model), _rounding={})
    return replace(trace, model=model, _lines=_tilted(trace, "circuit", trace, tuned.circuit), _rounding={})


def _tilted(trace: Trace, stream: str, of: Trace, slopes: Mapping[str, Tensor]) -> dict[str, Relaxation]:
    ranges = _ranges(trace, stream)
    lines = dict(of._lines)  # pyright: ignore[reportPrivateUsage]
    for name, slope in slopes.items():
        if name not in ranges:  # settled in all of the batch, though not where the slopes were found
            continue
        node = trace.graph.node[name]
        old = of.lines(node)
        if isinstance(node.op, Joint):
            lines[name] = relaxation(node.op, of.read[node.inputs[0]], slope)
            continue
        assert isinstance(old, Lines)
        free = ranges[name][0] < ranges[name][1]
        lines[name] = Lines(
            torch.where(free, slope, old.al), torch.where(free, torch.zeros_like(old.bl), old.bl), old.au, old.bu
        )
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
