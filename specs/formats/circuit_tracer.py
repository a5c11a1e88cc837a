"""circuit-tracer: the attribution graph `.json` of `create_graph_files` (circuit-tracer 0.5), pruned to what it keeps.

Nodes are told apart by `feature_type`, as ids collide: `0_3_2` is the error of layer 3, and feature 3 of layer 0. Here features
are called `0_3_2`, errors `error_3_2`, tokens `E_9_2`, logits `logit_9_2`; scores are influences. The circuit is one of nodes:
links carry weights, not a choice, and are read only to tell dead nodes.
"""

from __future__ import annotations

import re

from specs.document import read_document
from specs.foreign.circuit import Edge, Node, Request, ToolCircuit
from specs.foreign.expect import Place, integer, listing, mapping, number, text

__all__ = ["cantor", "read"]

_ID = re.compile(r"(?P<layer>\d{1,9}|E)_(?P<index>\d{1,18})_(?P<position>\d{1,9})")
_TYPES = {
    "cross layer transcoder": "feature",
    "mlp reconstruction error": "error",
    "embedding": "token",
    "logit": "logit",
}


def cantor(layer: int, feature: int) -> int:
    """The one number that `feature` is written as: Cantor's pairing of layer and feature."""
    return (layer + feature) * (layer + feature + 1) // 2 + feature


def read(request: Request) -> ToolCircuit:
    """Read a graph file. Raises: InputError: it is none, or its numbers contradict each other."""
    request.refuse_listed()
    request.refuse_entry()
    file = request.file
    top = mapping(read_document(file, nan=True), Place(file), "metadata", "nodes", "links")
    place = Place(file, "nodes")
    nodes: dict[str, Node] = {}
    by_id: dict[str, list[str]] = {}
    for i, value in enumerate(listing(top["nodes"], place)):
        fields = mapping(value, place.at(i), "node_id", "feature", "layer", "ctx_idx", "feature_type")
        node = _node({key: fields[key] for key in fields}, place.at(i))
        if node.name in nodes:
            raise place.at(i).error(f"node {node.name!r} twice", "each node once")
        nodes[node.name] = node
        by_id.setdefault(text(fields["node_id"], place.at(i, "node_id")), []).append(node.name)
    edges: list[Edge] = []
    unclear = 0
    place = Place(file, "links")
    for i, value in enumerate(listing(top["links"], place)):
        fields = mapping(value, place.at(i), "source", "target", "weight")
        ends = [by_id.get(text(fields[end], place.at(i, end)), []) for end in ("source", "target")]
        if not all(ends):
            raise place.at(i).error("a link to or from no node of the file", "ids of nodes")
        unclear += any(len(end) > 1 for end in ends)
        # An id that two nodes share is read as both: more paths, so that nothing is called dead that may not be.
        for source in ends[0]:
            edges += [Edge(f"{source}->{target}", source, target, True) for target in ends[1]]
    notes = [f"{len(edges)} links are weights, not part of the circuit: nodes are kept whole"] if edges else []
    if unclear:
        notes.append(f"{unclear} links name an id that two nodes share")
    return ToolCircuit(
        "circuit-tracer", tuple(nodes.values()), tuple(edges), "kept", "nodes", frozenset({"feature"}), tuple(notes)
    )


def _node(fields: dict[str, object], place: Place) -> Node:
    said = text(fields["feature_type"], place.at("feature_type"))  # pyright: ignore[reportArgumentType]
    kind = _TYPES.get(said)
    if kind is None:
        raise place.at("feature_type").error(f"{said!r}", f"one of: {', '.join(_TYPES)}")
    name = text(fields["node_id"], place.at("node_id"))  # pyright: ignore[reportArgumentType]
    found = _ID.fullmatch(name)
    if found is None:
        raise place.at("node_id").error(f"{name!r}", "LAYER_FEATURE_POSITION")
    influence = fields.get("influence")
    score = None if influence is None else number(influence, place.at("influence"))  # pyright: ignore[reportArgumentType]
    index = int(found["index"])
    if kind == "token":
        return Node(name, "input", kept=True)
    if kind == "logit":
        return Node(f"logit_{index}_{found['position']}", "output", kept=True)
    layer = text(fields["layer"], place.at("layer"))  # pyright: ignore[reportArgumentType]
    if kind == "error":
        if str(index) != layer:
            raise place.at("layer").error(f"layer {layer} of the error {name!r}", str(index))
        return Node(f"error_{index}_{found['position']}", "error", index, None, True, score)
    feature = integer(fields["feature"], place.at("feature"))  # pyright: ignore[reportArgumentType]
    if found["layer"] != layer or feature != cantor(int(layer), index):
        needed = f"layer {found['layer']}, feature {cantor(int(found['layer']), index)}, as its id says"
        raise place.error(f"layer {layer}, feature {feature} of {name!r}", needed)
    return Node(name, "feature", int(layer), index, True, score)
