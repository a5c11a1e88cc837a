"""ACDC: the `edges.pkl` of `TLACDCExperiment.save_edges` (ArthurConmy/Automatic-Circuit-Discovery), a pickle.

A list of `((child, TorchIndex, parent, TorchIndex), effect)`, child first, of the edges that are kept. Ends are hook points of
TransformerLens; what a head or an MLP reads is taken for the head or MLP itself. Edges by position are not read.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

from specs.errors import InputError
from specs.foreign.circuit import Edge, Node, Port, Request, ToolCircuit, node_of, scored
from specs.foreign.names import hook_node
from specs.foreign.pickles import read_pickle

__all__ = ["read"]

_INPUT = re.compile(r"blocks\.0\.hook_resid_pre|hook_embed|hook_pos_embed")
_READS = re.compile(r"hook_([qkv])_input$")
_OUTPUT = re.compile(r"blocks\.\d+\.hook_resid_post")


class _Index:
    """Stands for ACDC's `TorchIndex`: what its pickle says of it, and nothing else."""

    hashable_tuple: object = None


def _stand_ins() -> dict[tuple[str, str], Callable[..., object]]:
    """What the names in the pickle are taken for. New ones for each file, which may write to them."""

    class Index(_Index):
        pass

    class Whole:
        def __init__(self, *_ends: object) -> None: ...

    indices = dict.fromkeys((("acdc.TLACDCEdge", "TorchIndex"), ("acdc.acdc_utils", "TorchIndex")), Index)
    return {**indices, ("builtins", "slice"): Whole, ("__builtin__", "slice"): Whole}


def read(request: Request) -> ToolCircuit:
    """Read an `edges.pkl`. Raises: InputError: it is no such list, or a pickle of anything else."""
    request.refuse_listed()
    request.refuse_entry()
    file = request.file
    value = read_pickle(file, _stand_ins())
    if not isinstance(value, list):
        raise InputError(file, "", f"a pickled {type(value).__name__}", "the list of edges that save_edges writes")
    nodes: dict[str, Node] = {}
    edges: list[Edge] = []
    inner: set[tuple[str, str, str]] = set()
    unread = 0
    for i, entry in enumerate(cast("list[Any]", value)):
        where = f"[{i}]"
        if not (isinstance(entry, tuple) and len(cast("tuple[Any, ...]", entry)) == 2 and _four(cast("Any", entry)[0])):
            raise InputError(file, where, "another form of entry", "((child, TorchIndex, parent, TorchIndex), effect)")
        (child, at, parent, source), effect = cast("Any", entry)
        reads, writes = _end(child, at, file, where), _end(parent, source, file, where)
        score = scored(float(effect)) if isinstance(effect, int | float) else None
        unread += effect is not None and score is None
        name = f"{parent}{_shown(source)}->{child}{_shown(at)}"
        edges.append(Edge(name, node_of(nodes, writes), node_of(nodes, reads), True, score, _port(child)))
        if writes.name == reads.name:
            inner.add((reads.name, parent.rpartition("hook_")[2], child.rpartition("hook_")[2]))
    notes = (f"{unread} effects are not numbers and are not read",) if unread else ()
    inside = sum(edge.source == edge.target for edge in edges)
    if inside:
        notes += (f"{inside} edges from a head's or MLP's own hook points to each other are taken for the node itself",)
    told = tuple(replace(edge, cut=bool(inner) and not _goes_on(edge, nodes[edge.target], inner)) for edge in edges)
    return ToolCircuit("acdc", tuple(nodes.values()), told, listed="kept", about="edges", notes=notes)


def _port(hook: str) -> Port | None:
    found = _READS.search(hook)
    return cast("Port", found[1]) if found is not None else None


def _goes_on(edge: Edge, target: Node, inner: set[tuple[str, str, str]]) -> bool:
    """Whether the file keeps what leads from where an edge ends to the output of the head or MLP that it ends in."""
    if edge.source == edge.target or target.kind not in ("head", "mlp"):
        return True
    if target.kind == "mlp":
        return (target.name, "mlp_in", "mlp_out") in inner
    ports = (edge.port,) if edge.port is not None else ("q", "k", "v")
    return all({(target.name, f"{port}_input", port), (target.name, port, "result")} <= inner for port in ports)


def _four(key: object) -> bool:
    parts = cast("tuple[object, ...]", key) if isinstance(key, tuple) else ()
    kinds = (str, _Index, str, _Index)
    return len(parts) == 4 and all(isinstance(part, kind) for part, kind in zip(parts, kinds, strict=True))


def _index(index: _Index) -> tuple[int | None, ...] | None:
    parts = index.hashable_tuple
    if not isinstance(parts, tuple):
        return None
    known = cast("tuple[object, ...]", parts)
    if not all(part is None or (isinstance(part, int) and 0 <= part < 1 << 20) for part in known):
        return None
    return cast("tuple[int | None, ...]", known)


def _shown(index: _Index) -> str:
    return "[" + ", ".join(":" if part is None else str(part) for part in _index(index) or ()) + "]"


def _end(hook: str, index: _Index, file: str, where: str) -> Node:
    parts = _index(index)
    if parts is None or parts not in ((None,), (None, None, parts[-1])):
        raise InputError(file, where, f"an index into {hook!r} that is not [:] or [:, :, head]", "edges without positions")
    if parts == (None,) and _INPUT.fullmatch(hook):
        return Node(f"{hook}[:]", "input")
    if parts == (None,) and _OUTPUT.fullmatch(hook):
        return Node(f"{hook}[:]", "output")
    node = hook_node(hook, parts[2] if len(parts) == 3 else None)
    if node is None:
        raise InputError(
            file, where, f"hook point {hook!r}", "heads, MLPs, blocks.0.hook_resid_pre and the last hook_resid_post"
        )
    return node
