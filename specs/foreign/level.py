"""What the components of a circuit are, nodes or edges, and what is lost where one stands for the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace

from specs.errors import InputError
from specs.foreign.circuit import Edge, Node, ToolCircuit
from specs.foreign.select import Selection, select

__all__ = ["Components", "components", "some"]

_WHOLE = "the file's neurons are left out: nodes are kept or ablated whole"


@dataclass(frozen=True, slots=True)
class Components:
    """What is to be found in the model: nodes, each with `kept` said (an edge is a node of kind `edge` here). `dead`: kept ones
    on no path of kept edges from an input to an output; they stay."""

    parts: tuple[Node, ...]
    dead: tuple[str, ...]
    notes: tuple[str, ...]


def components(
    circuit: ToolCircuit,
    selection: Selection,
    file: str,
    *,
    as_nodes: bool,
    mapped: Collection[str] | None,
    roles: Collection[str] = (),
) -> Components:
    """The circuit at the level that it can be had: edges where `mapped` names some, or where the file is about edges and
    `roles`, the model's own, are all that it names; nodes where the file is about nodes, or where `as_nodes` says that a node
    stands for its edges (it is kept if a kept edge touches it, or the file keeps it).

    Raises: InputError: the circuit is one of edges, and neither is so; as `select`.
    """
    if mapped is not None and any(edge.name in mapped for edge in circuit.edges):
        kept, notes = select(circuit.edges, selection, file)
        parts = tuple(Node(edge.name, "edge", kept=edge.name in kept) for edge in circuit.edges)
        return Components(parts, _dead(circuit, kept), (*circuit.notes, *notes))
    if selection.given and circuit.listed == "removed":
        raise InputError(file, "", "a list of what is removed", "what is kept, for a choice by score", "leave out the choice")
    by_edges = _about_edges(circuit, selection)
    if by_edges and not as_nodes and roles:
        return _by_roles(circuit, selection, file, roles)
    if by_edges and not as_nodes:
        raise InputError(
            file, "", "a circuit of edges, which are no sites of this model", "--nodes, or a --map that names its edges",
            "--nodes keeps each node that a kept edge touches, and says what that loses",
        )  # fmt: skip
    if not by_edges:
        kept, notes = select([node for node in circuit.nodes if node.kind != "output"], selection, file)
        parts = tuple(replace(node, kept=node.name in kept) for node in circuit.nodes)
        if selection.given and any(node.units is not None for node in parts):
            notes.append(_WHOLE)
            parts = tuple(replace(node, units=None) for node in parts)
        edges = frozenset(edge.name for edge in circuit.edges if edge.kept) if not selection.given else frozenset[str]()
        return Components(parts, _dead(circuit, edges), (*circuit.notes, *notes))
    kept, notes = select(circuit.edges, selection, file)
    touched = {end for edge in circuit.edges if edge.name in kept for end in (edge.source, edge.target)}
    flagged = {node.name for node in circuit.nodes if node.kept} if not selection.given else set[str]()
    stays = touched | flagged
    parts = tuple(replace(node, kept=node.name in stays, units=None) for node in circuit.nodes)
    lost = sum(edge.source in stays and edge.target in stays and edge.name not in kept for edge in circuit.edges)
    notes.append(
        f"{len(kept)} kept edges became {sum(bool(part.kept) for part in parts)} kept nodes: "
        + (f"{lost} edges between these are ablated in the file and kept here" if circuit.listed == "all" else
           "edges between these that the file leaves out are kept here")
    )  # fmt: skip
    if alone := flagged - touched - {node.name for node in circuit.nodes if node.kind == "output"}:
        notes.append(f"kept in the file though no kept edge touches them: {some(alone)}")
    if any(node.units is not None for node in circuit.nodes):
        notes.append(_WHOLE)
    return Components(parts, _dead(circuit, kept), (*circuit.notes, *notes))


def _by_roles(circuit: ToolCircuit, selection: Selection, file: str, roles: Collection[str]) -> Components:
    """Edges by the names that the model's own have. One that a head reads for all three of its inputs is three; one that leaves
    an ablated node, or leads to what the file cuts off, is ablated."""
    kept, notes = select(circuit.edges, selection, file)
    nodes = {node.name: node for node in circuit.nodes}
    found: dict[str, bool] = {}
    shut = 0
    for edge in circuit.edges:
        if edge.source == edge.target:
            continue
        source, target = nodes[edge.source], nodes[edge.target]
        off = edge.cut or (source.kept is False and not selection.given)
        shut += off and edge.name in kept
        for name in _role(source, target, edge):
            if name not in roles:
                needed = "an edge of the model, where what each reads is known by its part in it"
                raise InputError(
                    file, "", f"edge {edge.name!r}, as {name!r}", needed, "--nodes, or a --map that names its edges"
                )
            if name in found:
                needed = "one kept or ablated as a whole, for all positions"
                raise InputError(file, "", f"edge {name!r} more than once", needed, "--nodes, which takes them together")
            found[name] = edge.name in kept and not off
    if shut:
        notes.append(f"{shut} kept edges leave an ablated node, or lead to what the file cuts off: they are ablated")
    parts = tuple(Node(name, "edge", kept=stays) for name, stays in found.items())
    return Components(parts, _dead(circuit, kept), (*circuit.notes, *notes))


def _role(source: Node, target: Node, edge: Edge) -> list[str]:
    ends = ["logits" if node.kind == "output" else node.names[-1] for node in (source, target)]
    ports = ("",) if target.kind != "head" else ("<q>", "<k>", "<v>") if edge.port is None else (f"<{edge.port}>",)
    return [f"{ends[0]}->{ends[1]}{port}" for port in ports]


def some(names: Iterable[str], count: int = 8) -> str:
    """The first few names, and how many more."""
    ordered = sorted(names)
    more = f" and {len(ordered) - count} more" if len(ordered) > count else ""
    return ", ".join(ordered[:count]) + more


def _about_edges(circuit: ToolCircuit, selection: Selection) -> bool:
    """Whether the choice is one of edges: they alone are scored, or kept otherwise than their nodes imply."""
    if circuit.about != "either" or not circuit.edges:
        return circuit.about == "edges"
    if selection.given:
        return all(node.score is None for node in circuit.nodes)
    kept = {node.name for node in circuit.nodes if node.kept or node.kind == "output"}
    return any(bool(edge.kept) != (edge.source in kept and edge.target in kept) for edge in circuit.edges)


def _dead(circuit: ToolCircuit, kept: Collection[str]) -> tuple[str, ...]:
    """Ends of kept edges on no path from an input to an output, where the file has both."""
    edges = [edge for edge in circuit.edges if edge.name in kept]
    inputs = {node.name for node in circuit.nodes if node.kind == "input"}
    outputs = {node.name for node in circuit.nodes if node.kind == "output"}
    if not edges or not inputs or not outputs:
        return ()
    live = _reached(inputs, edges, False) & _reached(outputs, edges, True)
    flagged = {node.name for node in circuit.nodes if node.kept}
    ends = {end for edge in edges for end in (edge.source, edge.target)}
    return tuple(sorted((ends | flagged) - live - inputs - outputs))


def _reached(start: Collection[str], edges: Iterable[Edge], backwards: bool) -> set[str]:
    following: defaultdict[str, list[str]] = defaultdict(list)
    for edge in edges:
        a, b = (edge.target, edge.source) if backwards else (edge.source, edge.target)
        following[a].append(b)
    seen, todo = set(start), list(start)
    while todo:
        for name in following[todo.pop()]:
            if name not in seen:
                seen.add(name)
                todo.append(name)
    return seen
