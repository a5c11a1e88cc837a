"""Claims about float32: what every float32 evaluation of a model may do, not only the real-number function of its weights.

Each output of a run may move by as much as rounding can add up to, whatever the order in which sums are taken and whether
products are fused into them: a sum of n products is within `gamma(n)` of exact relative to the sum of their sizes, and errors
upstream come through as the weights' absolute values carry them. A claim holds in float32 where it holds in real arithmetic
with as much to spare. Winograd and FFT convolutions and TF32 are not covered, nor are operators of which the runtime decides
how they are computed.

Source: Higham 2002, section 3.5 (running a priori bounds through a program).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.domains.refine import circuit_trace, model_trace
from bounds.domains.trace import Trace
from bounds.ops.base import Affine
from bounds.ops.relu import LeakyRelu
from bounds.query import Norm, Query
from bounds.rounding import down, gamma, tiny, up
from specs.encode import Claim, Problem
from specs.errors import InputError

__all__ = ["Drift", "drift", "in_float32"]

_MEMORY = 1 << 24
_SINGLE = torch.float32
_UNSURE = {"BatchNormalization", "Cast", "Clip", "Sigmoid", "Tanh", "Softmax", "LayerNormalization"}
"""Operators that are folded, or whose results a runtime may compute in several ways."""


@dataclass(frozen=True, slots=True, eq=False)
class Drift:
    """How far each output may be from its exact value, in any float32 evaluation. Shapes: the output's."""

    model: Tensor
    circuit: Tensor


def in_float32(problem: Problem) -> Problem:
    """The problem whose claims, proven in real arithmetic, hold in float32.

    Guarantees: for the problem's own circuit only. Raises: InputError: the model does not compute in float32, or an operator's
    rounding is not known.
    """
    model = problem.model
    unsure = sorted(name for name, kind in model.operators.items() if kind in _UNSURE)
    if model.dtype != _SINGLE or not model.operators or unsure:
        found = f"{model.operators[unsure[0]]} computes {unsure[0]!r}" if unsure else f"a model in {model.dtype}"
        needed = "an ONNX model in float32 of operators whose rounding is known"
        raise InputError(model.source, "--float32", found, needed, "leave --float32 out")
    return replace(problem, claims=tuple(_tightened(claim, problem.mask) for claim in problem.claims))


def _tightened(claim: Claim, mask: Tensor) -> Claim:
    query = claim.query
    found = drift(query, mask)
    margins = query.margins
    moved = found.circuit + found.model
    if isinstance(margins, Norm):
        half = margins.circuit[: len(margins.circuit) // 2].flatten(1).abs() @ moved.flatten()
        size = half.sum() if margins.order == 1 else half.square().sum().sqrt()
        less = float(down(torch.tensor(margins.tolerance, dtype=torch.float64) - size * (1 + 1e-9)))
        return replace(claim, query=replace(query, margins=replace(margins, tolerance=less)))
    spread = margins.circuit.flatten(1).abs() @ found.circuit.flatten() + margins.model.flatten(1).abs() @ found.model.flatten()
    return replace(claim, query=replace(query, margins=replace(margins, offset=down(margins.offset - spread * (1 + 1e-9)))))


def drift(query: Query, mask: Tensor) -> Drift:
    """How far outputs may drift over a query's region and all patched values. Shapes: `mask` `(1, gates.size)`.

    Raises: InputError: an operator whose rounding is not known.
    """
    model = model_trace(query.graph, query.region, _MEMORY)
    circuit = circuit_trace(model, query.gates, mask, _MEMORY)
    alone = _drift(model, {})
    return Drift(alone[query.graph.output], _drift(circuit, alone)[query.graph.output])


def _drift(trace: Trace, model: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same for every tensor, as its readers see it. Shapes: without a batch axis."""
    graph = trace.graph
    found: dict[str, Tensor] = {graph.input: torch.zeros(graph.input_shape, dtype=graph.dtype)}
    for node in graph.nodes:
        errors = [found[x].unsqueeze(0) for x in node.inputs]
        op = node.op
        if isinstance(op, Affine):
            sizes = [trace.read[x].magnitude[:1] + error for x, error in zip(node.inputs, errors, strict=True)]
            offset = op.offset()
            size = op.magnitude(*sizes) + (0.0 if offset is None else offset.abs())
            error = op.magnitude(*errors)
            if op.terms:  # elements that only move are not rounded
                error = error + gamma(op.terms, _SINGLE) * size + tiny(op.terms, _SINGLE)
        elif isinstance(op, LeakyRelu):
            slope = 0.0 if op.slope in (0.0, 1.0) else gamma(1, _SINGLE)
            error = errors[0] * max(1.0, op.slope) + slope * (trace.read[node.inputs[0]].magnitude[:1] + errors[0])
        else:
            raise InputError("certify", "--float32", f"tensor {node.name!r}: its rounding is not known", "", "leave it out")
        if not bool((error < 1e37).all()):
            raise InputError("certify", "--float32", f"tensor {node.name!r} may overflow float32", "", "leave it out")
        error = up(error * (1 + 1e-9))[0].expand(node.shape)
        if node.name in trace.kept:
            source = trace.sources.get(node.name)
            error = torch.where(trace.kept[node.name][0], error, torch.zeros_like(error) if source is None else model[source])
        found[node.name] = error
    return found
