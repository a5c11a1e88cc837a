"""Consumers whose edges are all kept read one sum: the graph that is left where copies of it are taken together.

`bounds.stream` gives every consumer, and every head of it, a sum of its own, with copies of what lies between (a normalisation,
a projection). In a circuit only those that lost an edge differ. Here the others go around their gate, and what then computes
the same from the same is computed once: bounds of one normalisation stand for those of all its copies, and a relaxation that
is shared is as tight as one and costs as much.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, fields, replace
from functools import lru_cache

import torch
from torch import Tensor

from bounds.gates import Gates
from bounds.graph import Graph, Node
from bounds.ops import Take
from bounds.ops.base import Op
from bounds.query import Query

__all__ = ["Narrowed", "apart", "narrowed"]

_WORTH = 0.8
"""A graph that keeps more than this share of its nodes is not worth being bounded anew."""


@dataclass(frozen=True, slots=True, eq=False)
class Narrowed:
    """A smaller query about circuits that keep some reads whole, and which components of theirs it has left. Shape: `columns`
    `(gates.size,)` long."""

    query: Query
    columns: Tensor


def apart(query: Query, masks: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Circuits that read the same edges whole: their rows among `masks`, and `whole` for `narrowed`."""
    whole = _whole_reads(query, masks)
    if not whole.shape[1]:
        yield torch.arange(len(masks), device=masks.device), whole[0]
        return
    for kinds in whole.unique(dim=0):
        yield (whole == kinds).all(1).nonzero().squeeze(1), kinds


def _whole_reads(query: Query, masks: Tensor) -> Tensor:
    """Of each circuit, which heads read all of their edges. Shapes: `masks` `(circuits, gates.size)` to `(circuits, heads)`
    bool; no heads where the query has no edges."""
    found: list[Tensor] = []
    start, readers = 0, _readers(query.graph)
    for gate in query.gates.gates:
        if gate.tensor in readers:
            heads = query.graph.shape(gate.tensor)[0]
            found.append(masks[:, start : start + gate.size].reshape(len(masks), heads, -1).all(2))
        start += gate.size
    return torch.cat(found, dim=1) if found else masks[:, :0]


def narrowed(query: Query, whole: Tensor) -> Narrowed | None:
    """The query about circuits that keep all edges that some heads read. Shape: `whole` `(heads,)` bool, as of `apart`.

    Guarantees: for such circuits the same real function of the same inputs and patched values: a gate is gone around only where
    it lets everything through, and nodes become one only where they do the same with the same. None: little would be gained.
    """
    if not bool(whole.any()):
        return None
    readers, around, start = _readers(query.graph), set[str](), 0
    for gate in query.gates.gates:
        if gate.tensor in readers:
            around |= {name for head, name in readers[gate.tensor].items() if bool(whole[start + head])}
            start += query.graph.shape(gate.tensor)[0]
    graph, gated, keys = query.graph, query.gates.by_tensor, _keys(query.graph)
    seen: dict[str, str] = {}
    once: dict[Hashable, str] = {}
    nodes: list[Node] = []
    for node in graph.nodes:
        made = replace(node, inputs=tuple(seen.get(name, name) for name in node.inputs))
        if node.name in around:
            before = graph.node[node.inputs[0]]
            assert isinstance(node.op, Take) and isinstance(before.op, Take)
            index = before.op.index.flatten()[node.op.index]
            made = replace(made, op=Take(index, before.op.before), inputs=tuple(seen.get(x, x) for x in before.inputs))
        key = keys[node.name] if made.op is node.op else _key(made.op), made.inputs, made.shape
        other = once.get(key)
        if other is not None and node.name not in gated and node.name != graph.output:
            seen[node.name] = other
            continue
        nodes.append(made)
        if node.name not in gated:
            once.setdefault(key, node.name)
    kept, gates = _needed(nodes, graph.output, query.gates, seen)
    if len(kept) > _WORTH * len(graph.nodes):
        return None
    columns: list[Tensor] = []
    start, left = 0, {gate.tensor for gate in gates.gates}
    for gate in query.gates.gates:
        if gate.tensor in left:
            columns.append(torch.arange(start, start + gate.size, device=whole.device))
        start += gate.size
    every = torch.cat(columns) if columns else torch.zeros(0, dtype=torch.long, device=whole.device)
    return Narrowed(replace(query, graph=replace(graph, nodes=tuple(kept)), gates=gates), every)


def _needed(nodes: list[Node], output: str, gates: Gates, seen: dict[str, str]) -> tuple[list[Node], Gates]:
    """The nodes that the output depends on, through patched values too, and the gates among them."""
    sources = {name: seen.get(source, source) for name, source in gates.sources.items()}
    inputs = {node.name: node.inputs for node in nodes}
    needed, rest = set[str](), [output]
    while rest:
        name = rest.pop()
        if name in inputs and name not in needed:
            needed.add(name)
            rest += [*inputs[name], *([sources[name]] if name in sources else [])]
    left = (replace(gate, source=sources.get(gate.tensor)) for gate in gates.gates if gate.tensor in needed)
    return [node for node in nodes if node.name in needed], Gates(tuple(left))


@lru_cache(maxsize=8)
def _readers(graph: Graph) -> dict[str, dict[int, str]]:
    """For each tensor of edges, what heads read of it, by their numbers (the names are those of `bounds.stream`)."""
    found: dict[str, dict[int, str]] = {}
    for node in graph.nodes:
        if not isinstance(node.op, Take) or node.op.fill is not None:
            continue
        mine = re.compile(rf"{re.escape(node.name)}<+-edges(\d+)")
        named = [(mine.fullmatch(reader.name), reader) for reader in graph.readers[node.name]]
        heads = {int(match[1]): reader.name for match, reader in named if match is not None and isinstance(reader.op, Take)}
        if heads and len(heads) == len(named):
            found[node.name] = heads
    return found


@lru_cache(maxsize=8)
def _keys(graph: Graph) -> dict[str, Hashable]:
    return {node.name: _key(node.op) for node in graph.nodes}


def _key(op: Op) -> Hashable:
    """What an operator is: two with the same key compute the same."""
    return type(op), *(_field_key(getattr(op, field.name)) for field in fields(op))  # pyright: ignore[reportArgumentType]


def _field_key(value: object) -> Hashable:
    if isinstance(value, Tensor):
        content = value.cpu().contiguous().numpy().tobytes()
        return value.dtype, tuple(value.shape), hashlib.blake2b(content).digest()
    if isinstance(value, Op):
        return _key(value)
    if isinstance(value, tuple | list):
        return tuple(_field_key(item) for item in value)  # pyright: ignore[reportUnknownVariableType,reportUnknownArgumentType]
    assert isinstance(value, Hashable)
    return value
