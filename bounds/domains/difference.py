"""Backward linear bounds of two streams side by side: the model's values `y`, and the differences `d` of a circuit's from them.

A circuit shares its weights and its input with the model, so most of what a relaxation loses on the two halves is the same and
cancels in `d`. At an elementwise node, with `Y = f(y)` and `D = f(y + d) - f(y)`, a form `p Y + q D` is rewritten as

    (p - w q) Y  +  w q f(y + d)  +  (1 - w) q D          for any w in [0, 1], element by element,

and each of the three is enclosed by lines of its own: those of `y`, of `c = y + d`, and lines in `d` alone. `w = 1` is the siamese
relaxation, `w = 0` the pure difference one; either can be the looser (THEORY section 7), so callers intersect several choices.

`D` lies between `s0 d` and `s1 d`, where `[s0, s1]` holds all difference quotients of `f` between the two arguments
(`Elementwise.steepness`): for ReLU that is `min(d, 0) <= D <= max(d, 0)`, and the lines are chords over the interval of `d`.

Source: Paulsen et al. 2020 (ReluDiff, NeuroDiff), arXiv:2001.03662, arXiv:2009.09943; the split by `w` is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bounds.domains.linear import dot, patched, select
from bounds.domains.trace import Trace
from bounds.graph import Node
from bounds.ops.base import Affine, Elementwise, Lines
from bounds.region import Box
from bounds.rounding import down, gamma

__all__ = ["Mix", "Pair", "concretize", "pull_back", "start"]

Mix = Literal["siamese", "difference", "greedy"]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Rows of forms `sum_t (p_t . y_t + q_t . d_t) + constant`, bounded from below.

    `model` holds the `p`, `delta` the `q`, both `(circuits, rows, *shape)` a tensor; `d` is the difference that readers see, after
    the gate, but for tensors in `ungated`, where it is that of the computed values.
    """

    model: Mapping[str, Tensor]
    delta: Mapping[str, Tensor]
    constant: Tensor
    error: Tensor
    ungated: frozenset[str] = frozenset()


def start(name: str, model: Tensor, delta: Tensor) -> Pair:
    """Forms `model . y + delta . d` of one tensor's computed values. Shapes: `(circuits, rows, *shape)` both."""
    zero = delta.new_zeros(delta.shape[:2])
    return Pair({name: model}, {name: delta}, zero, zero, frozenset({name}))


def pull_back(trace: Trace, pair: Pair, mix: Mix, which: Tensor | None = None) -> Pair:
    """Rewrite forms until only the input is left. Guarantees: a lower bound. Cost: two adjoints of each operator upstream."""
    assert trace.model is not None
    graph, model = trace.graph, trace.model
    first, second = dict(pair.model), dict(pair.delta)
    constant, error = pair.constant.clone(), pair.error.clone()
    for node in reversed(graph.nodes):
        name = node.name
        p, q = first.pop(name, None), second.pop(name, None)
        if name not in trace.delta:
            q = None
        if p is None and q is None:
            continue
        if q is not None and name in trace.kept and name not in pair.ungated:
            kept = select(trace.kept[name], which)
            patched(trace.patch[name], ~kept, q, constant, error)
            cut = q * ~kept.unsqueeze(1)
            p = -cut if p is None else p - cut
            q = q - cut
            error += dot(p.flatten(2).abs(), gamma(1, p.dtype) * model.read[name].magnitude.flatten(1))
        if not any(x in trace.delta for x in node.inputs):
            q = None  # computed from what does not differ
            if p is None:
                continue
        if isinstance(node.op, Elementwise):
            p, q = _relax(trace, node, p, q, mix, which, constant, error)
        elif p is not None:
            offset = node.op.offset() if isinstance(node.op, Affine) else None
            if offset is not None:
                constant += dot(p.flatten(2), offset.expand(node.shape).reshape(1, -1))
            error += dot(p.flatten(2).abs(), model.rounding(node)[None])
        _spread(trace, node, p, first, error, delta=False)
        _spread(trace, node, q, second, error, delta=True)
        error += gamma(1, constant.dtype) * constant.abs()
    return Pair(first, second, constant, error + trace.floor + model.floor)


def concretize(trace: Trace, pair: Pair) -> Tensor:
    """The least value of forms over the region. Shape: `(circuits, rows)`. The difference of the inputs themselves is zero."""
    constant = down(down(pair.constant) - pair.error * (1 + 1e-3))
    if trace.graph.input in pair.model:
        a = pair.model[trace.graph.input]
        constant = down(constant + trace.region.minimum(a.flatten(0, 1)).reshape(constant.shape))
    return torch.where(constant.isnan() | (constant == torch.inf), torch.full_like(constant, -torch.inf), constant)


def _spread(trace: Trace, node: Node, a: Tensor | None, pending: dict[str, Tensor], error: Tensor, *, delta: bool) -> None:
    """Add a form's coefficients to the inputs of its node: those of an affine node through the adjoint."""
    if a is None:
        return
    if isinstance(node.op, Affine):
        if delta:
            error += dot(a.flatten(2).abs(), trace.delta_rounding(node)[None])
        parts = tuple(part.reshape(*a.shape[:2], *part.shape[1:]) for part in node.op.adjoint(a.flatten(0, 1)))
    else:
        parts = (a,)
    assert trace.model is not None
    for source, part in zip(node.inputs, parts, strict=False):
        if delta and source not in trace.delta:
            continue
        if source in pending:
            part = pending[source] + part
            box = trace.delta[source] if delta else trace.model.read[source]
            size = box.magnitude.amax(0, keepdim=True).flatten(1)
            error += dot(part.flatten(2).abs(), gamma(1, part.dtype) * size)
        pending[source] = part


def _side(a: Tensor, lines: Lines, constant: Tensor, which: Tensor | None) -> Tensor:
    """`a f` from below by the lower line where `a` is positive, the upper one where it is negative."""
    al, bl, au, bu = (select(x, which) for x in (lines.al, lines.bl, lines.au, lines.bu))
    negative = a.clamp_max(0)
    if bool((bl != 0).any()):
        constant += dot((a - negative).flatten(2), bl.flatten(1))
    if bool((bu != 0).any()):
        constant += dot(negative.flatten(2), bu.flatten(1))
    return torch.addcmul(a * al.unsqueeze(1), negative, (au - al).unsqueeze(1))


def _relax(
    trace: Trace, node: Node, p: Tensor | None, q: Tensor | None, mix: Mix, which: Tensor | None, constant: Tensor, error: Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """One elementwise step; see the module's first paragraph."""
    model = trace.model
    assert model is not None
    if q is None:
        assert p is not None
        error += dot(p.flatten(2).abs(), model.rounding(node)[None])
        return _side(p, model.lines(node), constant, which), None
    p = torch.zeros_like(q) if p is None else p
    if mix == "siamese":
        w = torch.ones((), dtype=q.dtype, device=q.device)
    else:
        w = _weight(trace, node, p, q, mix, which)
    shared = q * w
    own = q - shared
    rest = p - shared
    circuit = _side(shared, trace.lines(node), constant, which)
    charge = dot((rest.abs() + shared.abs()).flatten(2), model.rounding(node)[None])
    charge += dot(q.flatten(2).abs(), 2 * trace.rounding(node)[None])
    into_model = _side(rest, model.lines(node), constant, which) + circuit
    into_delta = circuit
    if mix != "siamese":
        lines, _ = trace.difference(node)
        into_delta = circuit + _side(own, lines, constant, which)
        charge += dot(own.flatten(2).abs(), trace.delta_rounding(node)[None])
    error += 2 * charge
    return into_model, into_delta


def _weight(trace: Trace, node: Node, p: Tensor, q: Tensor, mix: Mix, which: Tensor | None) -> Tensor:
    """1 where the siamese split loses less than the difference lines, else 0; loss is coefficient times greatest gap of the lines."""
    assert trace.model is not None
    source = node.inputs[0]
    gap_y = _gap(trace.model.lines(node), trace.model.read[source], which)
    gap_c = _gap(trace.lines(node), trace.read[source], which)
    lines, usable = trace.difference(node)
    gap_d = _gap(lines, trace.delta[source], which)
    usable = select(usable, which).unsqueeze(1)
    if mix == "difference":
        return (~usable).to(q.dtype).expand_as(q)
    siamese = q.abs() * gap_c + (p - q).abs() * gap_y
    difference = q.abs() * gap_d + p.abs() * gap_y
    return ((siamese < difference) | ~usable).to(q.dtype)


def _gap(lines: Lines, box: Box, which: Tensor | None) -> Tensor:
    """Greatest vertical distance of the two lines, which they take at an end. Shape: `(circuits or 1, 1, *shape)`."""
    slope, height = lines.au - lines.al, lines.bu - lines.bl
    gap = torch.maximum(slope * box.lower + height, slope * box.upper + height).clamp_min(0)
    return select(gap, which).unsqueeze(1)
