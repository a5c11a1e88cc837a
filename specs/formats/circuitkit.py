"""circuitkit 0.2: `CircuitArtifact.save_json`, the list of node names of `Circuit.save`, and its `_scores.json`.

A list of names is the circuit in some of its files and what was *removed* in others (`Circuit.nodes` is the removed set), and
none says which: `--listed` does. With `both` an artifact is read as its `to_mask` does: of the nodes listed those of at least
the threshold are kept, and so is every node that is not listed. Scores list all candidates and need no such word.
Neuron-level dictionaries are not read.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, cast

from specs.document import Value, read_document
from specs.errors import InputError
from specs.foreign.circuit import Edge, Kind, Node, Request, ToolCircuit, scored
from specs.foreign.expect import Place, integer, mapping, number, text
from specs.foreign.names import short_node
from specs.foreign.pickles import read_archive

__all__ = ["read"]

_KINDS: dict[str, Kind] = {
    "attn_head": "head",
    "attention_head": "head",
    "mlp_neuron": "neuron",
    "mlp": "neuron",
    "mlp_layer": "mlp",
    "embedding": "input",
}


def read(request: Request) -> ToolCircuit:
    """Read a `.json` or `.pt` file. Raises: InputError: it is neither, or does not say by itself what it lists."""
    request.refuse_entry()
    if Path(request.file).suffix.lower() == ".pt":
        return _named(request, read_archive(request.file))
    top = mapping(read_document(request.file, nan=True), Place(request.file))
    if "node_scores" in top:
        return _scored(request, mapping(top["node_scores"], Place(request.file, "node_scores")))
    return _artifact(request, mapping(top, Place(request.file), "version", "metadata", "nodes", "edges"))


def _polarity(request: Request) -> bool:
    """Whether what is listed is kept."""
    if request.listed is None:
        remedy = "say --listed kept or --listed removed (Circuit.nodes, and what Circuit.save writes, is the removed set)"
        raise InputError(request.file, "", "a list that does not say whether it is kept or removed", "to be told", remedy)
    if request.listed == "both":
        raise InputError("certify", "--listed", "both", "kept or removed; both is for artifacts, which have a threshold")
    return request.listed == "kept"


def _artifact(request: Request, top: dict[str, Value]) -> ToolCircuit:
    file = request.file
    least: float | None = None
    if request.listed == "both":
        where = Place(file, "metadata")
        least = number(mapping(top["metadata"], where, "threshold")["threshold"], where.at("threshold"))
    listed = least is None and _polarity(request)
    place = Place(file, "nodes")
    by_id: dict[str, Node] = {}
    for name, value in mapping(top["nodes"], place).items():
        fields = mapping(value, place.at(name), "layer_idx", "node_type", "index", "importance")
        said = text(fields["node_type"], place.at(name, "node_type"))
        if said not in _KINDS:
            found = f"a node of type {said!r}"
            raise place.at(name, "node_type").error(found, f"one of: {', '.join(_KINDS)}", "a layer's attention is its heads")
        kind = _KINDS[said]
        index = integer(fields["index"], place.at(name, "index"))
        layer = integer(fields["layer_idx"], place.at(name, "layer_idx"))
        score = scored(number(fields["importance"], place.at(name, "importance")))
        kept = listed if least is None else score is not None and score >= least
        by_id[name] = Node(name, kind, layer, None if kind in ("mlp", "input") else index, kept, score)
    place = Place(file, "edges")
    edges: list[Edge] = []
    for name, value in mapping(top["edges"], place).items():
        fields = mapping(value, place.at(name), "src_id", "dst_id", "weight")
        ends = [text(fields[key], place.at(name, key)) for key in ("src_id", "dst_id")]
        if any(end not in by_id for end in ends):
            raise place.at(name).error(f"an edge {' to '.join(ends)}", "ids of nodes of the file")
        edges.append(Edge(name, ends[0], ends[1], listed))
    notes = (f"{len(edges)} edges are listed beside the nodes; nodes are the circuit, edges are not read",) if edges else ()
    kinds: frozenset[Kind] = frozenset(node.kind for node in by_id.values())
    return ToolCircuit("circuitkit", tuple(by_id.values()), (), "kept" if listed else "removed", universe=kinds, notes=notes)


def _named(request: Request, value: Any) -> ToolCircuit:
    if isinstance(value, dict):
        raise InputError(request.file, "", "a neuron-level dictionary", "a list of node names", "export node names")
    if not isinstance(value, list):
        raise InputError(request.file, "", f"a {type(value).__name__}", "a list of node names such as A0.1, MLP 3")
    kept = _polarity(request)
    nodes = [_node(name, f"[{i}]", request.file, kept) for i, name in enumerate(cast("list[object]", value))]
    return ToolCircuit("circuitkit", tuple(nodes), listed="kept" if kept else "removed")


def _scored(request: Request, scores: dict[str, Value]) -> ToolCircuit:
    request.refuse_listed()
    nodes: list[Node] = []
    for name, value in scores.items():
        node = _node(name, f"$.node_scores.{name}", request.file, None)
        score = scored(number(value, Place(request.file, "node_scores", name)))
        nodes.append(Node(name, node.kind, node.layer, node.index, None, score))
    return ToolCircuit("circuitkit", tuple(nodes))


def _node(name: object, where: str, file: str, kept: bool | None) -> Node:
    node = short_node(name) if isinstance(name, str) else None
    if node is None:
        raise InputError(file, where, f"a node called {name!r}"[:80], "names such as A0.1 and MLP 3")
    return Node(node.name, node.kind, node.layer, node.index, kept)
