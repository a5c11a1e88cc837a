"""EAP, EAP-IG and MIB: `Graph.to_json` and `Graph.to_pt` of hannamw/EAP-IG, with edges, nodes and neurons, scored and chosen.

Older files hold plain booleans where newer ones hold mappings; NaN stands for "not scored". Nodes are `input`, `a0.h3`, `m2`,
`logits`; edges `a0.h3->m2`, `input->a0.h0<q>`. Ablating a node ablates all edges that leave it.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, cast

from specs.document import Value, read_document
from specs.errors import InputError
from specs.foreign.circuit import Edge, Node, Port, Request, ToolCircuit, scored
from specs.foreign.expect import Place, flag, listing, mapping, number
from specs.foreign.names import short_node
from specs.foreign.pickles import read_archive, rows

__all__ = ["read"]

_PORTS: dict[str, Port | None] = {"": None, "q>": "q", "k>": "k", "v>": "v"}


def read(request: Request) -> ToolCircuit:
    """Read a `.json` or `.pt` file. Raises: InputError: it is neither, or names what is no node of a transformer."""
    request.refuse_listed()
    request.refuse_entry()
    file = request.file
    return _tensors(file) if Path(file).suffix.lower() == ".pt" else _document(file)


def _document(file: str) -> ToolCircuit:
    top = mapping(read_document(file, nan=True), Place(file), "nodes", "edges")
    nodes = {name: _entry(name, entry, Place(file, "nodes", name)) for name, entry in _items(top, "nodes", file)}
    for name, entry in _items(top, "neurons", file) if top.get("neurons") is not None else ():  # where older files have them
        if name not in nodes:
            raise Place(file, "neurons", name).error(f"neurons of {name!r}", "a node of the file")
        nodes[name] = replace(nodes[name], units=_units(nodes[name], entry, Place(file, "neurons", name)))
    edges: list[Edge] = []
    for name, entry in _items(top, "edges", file):
        place = Place(file, "edges", name)
        source, target, port = _ends(name, nodes, place)
        if isinstance(entry, bool):
            edges.append(Edge(name, source, target, entry, port=port))
            continue
        fields = mapping(entry, place, "in_graph")
        score = scored(number(fields["score"], place, "score")) if fields.get("score") is not None else None
        edges.append(Edge(name, source, target, flag(fields["in_graph"], place, "in_graph"), score, port))
    return ToolCircuit("eap", tuple(nodes.values()), tuple(edges))


def _items(top: dict[str, Value], key: str, file: str) -> list[tuple[str, Value]]:
    return list(mapping(top[key], Place(file, key)).items())


def _entry(name: str, entry: Value, place: Place) -> Node:
    node = _node(name, place)
    if isinstance(entry, bool):
        return Node(name, node.kind, node.layer, node.index, entry)
    fields = mapping(entry, place, "in_graph")
    score = scored(number(fields["score"], place, "score")) if fields.get("score") is not None else None
    units = None if fields.get("neurons") is None else _units(node, fields["neurons"], place.at("neurons"))
    return Node(name, node.kind, node.layer, node.index, flag(fields["in_graph"], place, "in_graph"), score, units)


def _units(node: Node, entry: Value, place: Place) -> tuple[bool, ...] | None:
    if node.kind == "output":
        return None
    values = listing(entry, place)
    # The tool writes the rows of a whole layer's heads for each of them.
    if node.index is not None and node.index < len(values) and isinstance(values[node.index], list):
        place, values = place.at(node.index), listing(values[node.index], place)
    return tuple(flag(value, place, i) for i, value in enumerate(values))


def _node(name: str, place: Place) -> Node:
    if name in ("input", "logits"):
        return Node(name, "input" if name == "input" else "output")
    node = short_node(name)
    if node is None:
        raise place.error(f"a node called {name!r}", "input, a0.h3, m2 or logits")
    return node


def _ends(name: str, nodes: dict[str, Node], place: Place) -> tuple[str, str, Port | None]:
    source, _, read = name.partition("->")
    target, mark, port = read.partition("<")
    if source not in nodes or target not in nodes or port not in _PORTS or bool(mark) != bool(port):
        raise place.error(f"an edge called {name!r}", "`source->target`, both of them nodes of the file")
    return source, target, _PORTS[port]


def _tensors(file: str) -> ToolCircuit:
    top = read_archive(file)
    keys = ("src_nodes", "dst_nodes", "edges_scores", "edges_in_graph", "nodes_in_graph")
    for key in keys:
        if not isinstance(top, dict) or key not in top:
            raise InputError(file, "", f"no {key!r} in it", f"a file of Graph.to_pt, with {', '.join(keys)}")
    sources, targets = (_names(top[key], file, key) for key in keys[:2])
    flags, scores = (rows(top[key], file, key, 2) for key in ("edges_in_graph", "edges_scores"))
    kept = rows(top["nodes_in_graph"], file, "nodes_in_graph", 1)
    for key, table in (("edges_in_graph", flags), ("edges_scores", scores)):
        if len(table) != len(sources) or any(len(row) != len(targets) for row in table):
            raise InputError(file, key, "a tensor of another size", f"{len(sources)} x {len(targets)}, as src_nodes, dst_nodes")
    if len(kept) != len(sources):
        raise InputError(file, "nodes_in_graph", f"{len(kept)} entries", f"{len(sources)}, as src_nodes has")
    own = _optional(top, "nodes_scores", file, 1, len(sources))
    units = _optional(top, "neurons_in_graph", file, 2, len(sources))
    nodes: dict[str, Node] = {}
    for i, name in enumerate(sources):
        node = _node(name, Place(file, "src_nodes", i))
        score = None if own is None else scored(float(own[i]))
        neurons = None if units is None else tuple(bool(entry) for entry in units[i])
        nodes[name] = Node(name, node.kind, node.layer, node.index, bool(kept[i]), score, neurons)
    edges: list[Edge] = []
    for j, name in enumerate(targets):
        target = name.partition("<")[0]
        reader = nodes.setdefault(target, _node(target, Place(file, "dst_nodes", j)))
        for i, source in enumerate(sources):
            # The tensors have room for edges that no model has, and the tool sets some of them.
            if _reads(reader, nodes[source], bool(cast("dict[str, Any]", top).get("cfg", {}).get("parallel_attn_mlp"))):
                score, port = scored(float(scores[i][j])), cast("Port | None", name.partition("<")[2][:1] or None)
                edges.append(Edge(f"{source}->{name}", source, target, bool(flags[i][j]), score, port))
    return ToolCircuit("eap", tuple(nodes.values()), tuple(edges))


def _names(value: object, file: str, key: str) -> list[str]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in cast("list[object]", value)):
        raise InputError(file, key, f"a {type(value).__name__}", "a list of names")
    names = cast("list[str]", list(cast("list[object]", value)))
    if len(set(names)) < len(names):
        raise InputError(file, key, "a name twice", "each node once")
    return names


def _optional(top: Any, key: str, file: str, axes: int, count: int) -> Any:
    if top.get(key) is None:
        return None
    table = rows(top[key], file, key, axes)
    if len(table) != count:
        raise InputError(file, key, f"{len(table)} entries", f"{count}, as src_nodes has")
    return table


def _reads(reader: Node, writer: Node, parallel: bool) -> bool:
    """Whether a node reads what the other writes."""
    if writer.kind == "input" or reader.kind == "output":
        return True
    assert reader.layer is not None and writer.layer is not None
    if writer.layer != reader.layer:
        return writer.layer < reader.layer
    return not parallel and writer.kind == "head" and reader.kind == "mlp"
