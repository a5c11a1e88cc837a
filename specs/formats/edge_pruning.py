"""Edge-Pruning: the `edges.json` that `src/modeling/vis_fpt2.py` writes (princeton-nlp/Edge-Pruning).

A list of `[writer, reader]`, the edges that are kept: writers `tok_embeds`, `pos_embeds`, `embeds`, `a0.h3`, `m2`; readers
`a1.h2.q`, `m1`, `resid_post`. Without embedding nodes the embedding is never ablated.
"""

from __future__ import annotations

from typing import cast

from specs.document import read_document
from specs.foreign.circuit import Edge, Node, Port, Request, ToolCircuit, node_of
from specs.foreign.expect import Place, listing, text
from specs.foreign.names import short_node

__all__ = ["read"]


def read(request: Request) -> ToolCircuit:
    """Read an `edges.json`. Raises: InputError: it is no such list."""
    request.refuse_listed()
    request.refuse_entry()
    nodes: dict[str, Node] = {}
    edges: dict[str, Edge] = {}
    place = Place(request.file)
    for i, entry in enumerate(listing(read_document(request.file), place)):
        ends = listing(entry, place.at(i))
        if len(ends) != 2:
            raise place.at(i).error(f"a list of {len(ends)}", "[writer, reader]")
        source, target = (text(end, place.at(i, j)) for j, end in enumerate(ends))
        writer, reader = _writer(source, place.at(i, 0)), _reader(target, place.at(i, 1))
        name = f"{source}->{target}"
        port = cast("Port", target[-1]) if reader.kind == "head" else None
        edges[name] = Edge(name, node_of(nodes, writer), node_of(nodes, reader), True, port=port)
    return ToolCircuit("edge-pruning", tuple(nodes.values()), tuple(edges.values()), listed="kept", about="edges")


def _writer(name: str, place: Place) -> Node:
    if name in ("tok_embeds", "pos_embeds", "embeds"):
        return Node(name, "input")
    node = short_node(name)
    if node is None:
        raise place.error(f"writer {name!r}", "tok_embeds, pos_embeds, embeds, a0.h3 or m2")
    return node


def _reader(name: str, place: Place) -> Node:
    if name == "resid_post":
        return Node(name, "output")
    stem, dot, port = name.rpartition(".")
    node = short_node(stem) if dot and port in ("q", "k", "v") else short_node(name)
    if node is None or (node.kind == "head") != (node.name == stem):
        raise place.error(f"reader {name!r}", "a1.h2.q (or k, v), m1 or resid_post")
    return node
