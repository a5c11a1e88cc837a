"""Whether a claim is known to be monotone: whether what holds of a circuit holds of every larger one. And why."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from bounds.domains.refine import circuit_trace, model_trace
from bounds.graph import Graph
from bounds.inclusion import includes
from bounds.query import Query
from bounds.region import Region
from specs import patching as records

__all__ = ["Monotone", "monotonicity"]


@dataclass(frozen=True, slots=True)
class Monotone:
    """`known`: it is shown that `C <= C'` and `Phi(C)` give `Phi(C')`. `reason`: why it is, or why nobody can say."""

    known: bool
    reason: str


def monotonicity(patching: records.Patching, query: Query, second: Region | None) -> Monotone:
    """What is known of a claim. `second` is the region that continuous patching names.

    The argument is the same each time. Take a larger circuit, an input and patch values. Patch the components that only the
    smaller circuit ablates with the values that they have in the larger circuit's run: the smaller circuit then computes the
    same. So if those values are always allowed, whatever violates the claim on the larger circuit violates it on the smaller.
    Cost: one interval pass over the graph. Source: Hadad, Katz & Bassan 2026, arXiv:2602.16823, section on monotonicity; the
    check of boxes is ours.
    """
    match patching:
        case records.Closed():
            return Monotone(True, "closed patching: a kept component's value lies in the interval it would be patched from")
        case records.Reachable():
            return Monotone(
                False, "reachable patching: no one input need give the values that several kept components have together"
            )
        case records.Resample():
            return _resampled(query, second)
        case _:
            if _stays(query):
                return Monotone(True, "the patch boxes are closed: each component stays in its own while all others do")
            return Monotone(False, f"{patching.kind} patching: a kept component may have a value it would not be patched with")


def _resampled(query: Query, second: Region | None) -> Monotone:
    if second is None or not includes(second, query.region):
        return Monotone(False, "resample patching over a region that is not shown to contain the input's")
    if pair := _upstream(query):
        return Monotone(
            False, f"resample patching: {pair[0]} is upstream of {pair[1]}, which may leave what inputs of the region reach"
        )
    return Monotone(
        True, "resample patching over a region that contains the input's, and no component in scope is upstream of another"
    )


def _upstream(query: Query) -> tuple[str, str] | None:
    """A gated tensor that another one depends on, and that other one."""
    graph: Graph = query.graph
    behind: dict[str, str] = {}
    gated = query.gates.by_tensor
    for node in graph.nodes:
        first = next((behind[name] for name in node.inputs if name in behind), None)
        if first is not None and node.name in gated:
            return first, node.name
        if node.name in gated:
            behind[node.name] = node.name
        elif first is not None:
            behind[node.name] = first
    return None


def _stays(query: Query) -> bool:
    """Whether every gated tensor's computed values lie in its patch box while all that is upstream in scope is in its own."""
    none = torch.zeros((1, query.gates.size), dtype=torch.bool)
    trace = circuit_trace(model_trace(query.graph, query.region, 0, refine=False), query.gates, none, 0, refine=False)
    return all(
        bool(((gate.patch.lower <= box.lower) & (box.upper <= gate.patch.upper)).all())
        for gate in query.gates.gates
        for box in (trace.value[gate.tensor],)
    )
