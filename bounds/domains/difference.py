"""Backward linear bounds of two streams side by side: the model's values `y`, and the differences `d` of a circuit's from them.

A circuit shares its weights and its input with the model, so most of what a relaxation loses on the two halves is the same and
cancels in `d`. At a non-linear node, with `Y = f(y)` and `D = f(y + d) - f(y)`, a form `p Y + q D` is rewritten as

    (p - w q) Y  +  w q f(y + d)  +  (1 - w) q D          for any w in [0, 1], element by element,

and each of the three is enclosed by lines of its own: those of `y`, of `c = y + d`, and lines in `d` alone. `w = 1` is the
siamese relaxation, `w = 0` the pure difference one; either can be the looser (THEORY section 7), so callers intersect several
choices.

`D` lies between `s0 d` and `s1 d`, where `[s0, s1]` holds all difference quotients of `f` between the two arguments
(`Elementwise.steepness`): for ReLU that is `min(d, 0) <= D <= max(d, 0)`, and the lines are chords over the interval of `d`.

Source: Paulsen et al. 2020 (ReluDiff, NeuroDiff), arXiv:2001.03662, arXiv:2009.09943; the split by `w` is ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from bounds.domains import linear
from bounds.domains.linear import patched
from bounds.domains.relax import below, dot, gap, select
from bounds.domains.trace import Trace
from bounds.graph import Node
from bounds.ops.base import Affine, Nonlinear
from bounds.rounding import gamma

__all__ = ["Mix", "Pair", "Steering", "concretize", "pull_back", "start"]

Mix = Literal["siamese", "difference", "greedy"]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Rows of forms `sum_t (p_t . y_t + q_t . d_t) + constant`, bounded from below.

    `model` holds the `p`, `delta` the `q`, both `(circuits, rows, *shape)` a tensor; `d` is the difference that readers see,
    after the gate, but for tensors in `ungated`, where it is that of the computed values.
    """

    model: Mapping[str, Tensor]
    delta: Mapping[str, Tensor]
    constant: Tensor
    error: Tensor
    ungated: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class Steering:
    """What a caller may choose or add in a backward pass, and what it may see of it.

    `weights`: the `w` of each elementwise node. `model`, `circuit`: multipliers of constraints, added to the coefficients of a
    tensor's `y`, or of `y + d`; `constant` what goes with them. All `(circuits, rows or 1, *shape)`, `constant` `(circuits,
    1)`. `losses` is filled, for each elementwise node, with what its relaxation of `f(y)`, of `f(y + d)` and of the difference
    can cost at most, each `(circuits, rows, *shape)`, and `chosen` with the weights used.
    """

    weights: Mapping[str, Tensor] | None = None
    model: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    circuit: Mapping[str, Tensor] = field(default_factory=dict[str, Tensor])
    constant: Tensor | None = None
    losses: dict[str, tuple[Tensor, Tensor, Tensor]] | None = None
    chosen: dict[str, Tensor] | None = None
    charged: bool = True


_FREE = Steering()


def start(name: str, model: Tensor, delta: Tensor) -> Pair:
    """Forms `model . y + delta . d` of one tensor's computed values. Shapes: `(circuits, rows, *shape)` both."""
    zero = delta.new_zeros(delta.shape[:2])
    return Pair({name: model}, {name: delta}, zero, zero, frozenset({name}))


def pull_back(trace: Trace, pair: Pair, mix: Mix, which: Tensor | None = None, steering: Steering = _FREE) -> Pair:
    """Rewrite forms until only the input is left. Cost: two adjoints of each operator upstream.

    Guarantees: a lower bound of the forms, on the part of the region where the constraints behind `steering`'s multipliers hold
    (`charged=False` leaves rounding out: for gradients, never for a verdict).
    """
    assert trace.model is not None
    graph, model = trace.graph, trace.model
    first, second = dict(pair.model), dict(pair.delta)
    constant, error = pair.constant.clone(), pair.error.clone()
    if steering.constant is not None:
        constant = constant + steering.constant
    for node in reversed(graph.nodes):
        name = node.name
        p, q = first.pop(name, None), second.pop(name, None)
        if name not in trace.delta and name not in pair.ungated:  # a tensor being bounded is not entered yet, and may differ
            q = None
        constrained = name in steering.circuit or name in steering.model
        if p is None and q is None and not constrained:
            continue
        if constrained:
            p, q = _constrained(trace, name, p, q, first, steering, which, constant, error, name in pair.ungated)
        elif q is not None and name in trace.kept and name not in pair.ungated:
            p, q = _gated(trace, name, p, q, first, which, constant, error)
        if not any(x in trace.delta for x in node.inputs):
            q = None  # computed from what does not differ
            if p is None:
                continue
        if isinstance(node.op, Nonlinear):
            p, q = _relax(trace, node, p, q, mix, which, constant, error, steering)
        elif p is not None:
            offset = node.op.offset() if isinstance(node.op, Affine) else None
            if offset is not None:
                constant += dot(p.flatten(2), offset.expand(node.shape).reshape(1, -1))
            if steering.charged:
                error += dot(p.flatten(2).abs(), model.rounding(node)[None])
        _spread(trace, node, p, first, error, delta=False, charged=steering.charged)
        _spread(trace, node, q, second, error, delta=True, charged=steering.charged)
        if steering.charged:
            error += gamma(1, constant.dtype) * constant.abs()
    if graph.input in steering.model:  # no node computes the input, and its constraints are the model's
        a = steering.model[graph.input].expand(*constant.shape, *graph.input_shape)
        if graph.input in first:
            a = a + first[graph.input]
            if steering.charged:
                size = model.read[graph.input].magnitude.amax(0, keepdim=True).flatten(1)
                error += dot(a.flatten(2).abs(), gamma(1, a.dtype) * size)
        first[graph.input] = a
    return Pair(first, second, constant, error + trace.floor + model.floor)


def concretize(trace: Trace, pair: Pair) -> Tensor:
    """The least value of forms over the region. Shape: `(circuits, rows)`. The difference of the inputs themselves is zero."""
    return linear.concretize(trace, linear.Form(pair.model, pair.constant, pair.error))


def _gated(
    trace: Trace,
    name: str,
    p: Tensor | None,
    q: Tensor,
    first: dict[str, Tensor],
    which: Tensor | None,
    constant: Tensor,
    error: Tensor,
) -> tuple[Tensor, Tensor]:
    """From the difference that readers see to that of the computed values: where it is ablated, the patch less the model's
    value. A patch with a source goes to the model's coefficients of that, in `first`."""
    assert trace.model is not None
    kept = select(trace.kept[name], which)
    cut = q * ~kept.unsqueeze(1)
    if name in trace.sources:
        linear.added(trace.model, first, trace.sources[name], cut, error)
    else:
        patched(trace.patch[name], ~kept, q, constant, error)
    p = -cut if p is None else p - cut
    error += dot(p.detach().flatten(2).abs(), gamma(1, p.dtype) * select(trace.model.read[name].magnitude, which).flatten(1))
    return p, q - cut


def _constrained(
    trace: Trace,
    name: str,
    p: Tensor | None,
    q: Tensor | None,
    first: dict[str, Tensor],
    steering: Steering,
    which: Tensor | None,
    constant: Tensor,
    error: Tensor,
    ungated: bool,
) -> tuple[Tensor | None, Tensor | None]:
    """Add the multipliers of constraints on a tensor's computed values: behind its gate, where it has one."""
    if q is not None and name in trace.kept and not ungated:
        p, q = _gated(trace, name, p, q, first, which, constant, error)
    if name in steering.model:
        p = steering.model[name] + (0.0 if p is None else p)
    if name in steering.circuit:
        on_circuit = steering.circuit[name]
        p = on_circuit + (0.0 if p is None else p)
        if name in trace.delta:
            q = on_circuit + (0.0 if q is None else q)
    return p, q


def _spread(
    trace: Trace, node: Node, a: Tensor | None, pending: dict[str, Tensor], error: Tensor, *, delta: bool, charged: bool
) -> None:
    """Add a form's coefficients to the inputs of its node: those of an affine node through the adjoint."""
    if a is None:
        return
    if isinstance(node.op, Affine):
        if delta and charged:
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
            if not charged:
                pending[source] = part
                continue
            box = trace.delta[source] if delta else trace.model.read[source]
            size = box.magnitude.amax(0, keepdim=True).flatten(1)
            error += dot(part.flatten(2).abs(), gamma(1, part.dtype) * size)
        pending[source] = part


def _relax(
    trace: Trace,
    node: Node,
    p: Tensor | None,
    q: Tensor | None,
    mix: Mix,
    which: Tensor | None,
    constant: Tensor,
    error: Tensor,
    steering: Steering,
) -> tuple[Tensor | None, Tensor | None]:
    """One non-linear step; see the module's first paragraph."""
    model = trace.model
    assert model is not None
    if q is None:
        assert p is not None
        if steering.charged:
            error += dot(p.flatten(2).abs(), model.rounding(node)[None])
        if steering.losses is not None:
            loss = p.abs() * gap(model.lines(node), model.read[node.inputs[0]], which)
            steering.losses[node.name] = loss, torch.zeros_like(loss), torch.zeros_like(loss)
        return below(p, model.lines(node), constant, which), None
    p = torch.zeros_like(q) if p is None else p
    if steering.weights is not None and node.name in steering.weights:
        w = steering.weights[node.name] * trace.difference(node)[1].unsqueeze(1) + ~trace.difference(node)[1].unsqueeze(1)
    elif mix == "siamese":
        w = torch.ones((), dtype=q.dtype, device=q.device)
    else:
        w = _weight(trace, node, p, q, mix, which)
    if steering.chosen is not None:
        steering.chosen[node.name] = w
    shared = q * w
    own = q - shared
    rest = p - shared
    circuit = below(shared, trace.lines(node), constant, which)
    into_model = below(rest, model.lines(node), constant, which) + circuit
    lines, _ = trace.difference(node)
    into_delta = circuit + below(own, lines, constant, which)
    if steering.losses is not None:
        steering.losses[node.name] = _losses(trace, node, rest, shared, own, which)
    if steering.charged:
        charge = dot((rest.abs() + shared.abs()).flatten(2), model.rounding(node)[None])
        charge += dot(q.flatten(2).abs(), 2 * trace.rounding(node)[None])
        charge += dot(own.flatten(2).abs(), trace.delta_rounding(node)[None])
        error += 2 * charge
    return into_model, into_delta


def _losses(
    trace: Trace, node: Node, rest: Tensor, shared: Tensor, own: Tensor, which: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    assert trace.model is not None
    source = node.inputs[0]
    return (
        rest.abs() * gap(trace.model.lines(node), trace.model.read[source], which),
        shared.abs() * gap(trace.lines(node), trace.read[source], which),
        own.abs() * gap(trace.difference(node)[0], trace.delta[source], which),
    )


def _weight(trace: Trace, node: Node, p: Tensor, q: Tensor, mix: Mix, which: Tensor | None) -> Tensor:
    """1 where the siamese split loses less than the difference lines, else 0; loss is coefficient times greatest gap of the
    lines."""
    assert trace.model is not None
    source = node.inputs[0]
    gap_y = gap(trace.model.lines(node), trace.model.read[source], which)
    gap_c = gap(trace.lines(node), trace.read[source], which)
    lines, usable = trace.difference(node)
    gap_d = gap(lines, trace.delta[source], which)
    usable = select(usable, which).unsqueeze(1)
    if mix == "difference":
        return (~usable).to(q.dtype).expand_as(q)
    siamese = q.abs() * gap_c + (p - q).abs() * gap_y
    difference = q.abs() * gap_d + p.abs() * gap_y
    return ((siamese < difference) | ~usable).to(q.dtype)
