"""TransformerLens 4: a table of attribution nodes, `Node(kind, position, layer, head)`, which it keeps in memory.

A JSON list of `dataclasses.asdict(node)`, each with `score` where there is one and `in_circuit` where it was decided. A
component is kept if it is kept at any position.

    nodes = [asdict(node) | {"score": score} for node, score in result.node_scores.items()]
    json.dump(nodes, open("nodes.json", "w"))
"""

from __future__ import annotations

from specs.document import read_document
from specs.errors import InputError
from specs.foreign.circuit import Node, Request, ToolCircuit, scored
from specs.foreign.expect import Place, flag, integer, listing, mapping, number, text
from specs.foreign.names import hook_node

__all__ = ["read"]

_READERS = {"q_input", "k_input", "v_input", "mlp_in"}


def read(request: Request) -> ToolCircuit:
    """Read a table. Without `in_circuit` nodes are kept by score, or are what `--listed` says, if that is given.

    Raises: InputError: it is no such table.
    """
    request.refuse_entry()
    if request.listed in ("removed", "both"):
        needed = "what is kept: what is removed at one position may be kept at others"
        raise InputError("certify", "--listed", request.listed, needed, "write in_circuit into the table")
    place = Place(request.file)
    found: dict[str, Node] = {}
    positions: set[int] = set()
    entries = listing(read_document(request.file, nan=True), place)
    for i, value in enumerate(entries):
        fields = mapping(value, place.at(i), "kind", "position", "layer", "head")
        positions.add(integer(fields["position"], place.at(i, "position")))
        kind = text(fields["kind"], place.at(i, "kind"))
        layer, head = (None if fields[key] is None else integer(fields[key], place.at(i, key)) for key in ("layer", "head"))
        node = _node(kind, layer, head, place.at(i))
        kept = None if request.listed is None else request.listed == "kept"
        if fields.get("in_circuit") is not None:
            request.refuse_listed()
            kept = flag(fields["in_circuit"], place.at(i, "in_circuit"))
        score = None if fields.get("score") is None else scored(number(fields["score"], place.at(i, "score")))
        found[node.name] = _merged(found.get(node.name), node, kept, score)
    notes = ()
    if len(entries) > len(found):
        said = f"{len(entries)} nodes at {len(positions)} positions became {len(found)} components"
        notes = (f"{said}: one is kept if it is at any position, and has the score of greatest magnitude",)
    if request.listed is None:
        return ToolCircuit("transformer-lens", tuple(found.values()), notes=notes)
    return ToolCircuit("transformer-lens", tuple(found.values()), listed=request.listed, notes=notes)


def _node(kind: str, layer: int | None, head: int | None, place: Place) -> Node:
    if kind == "embed" and layer is None and head is None:
        return Node("hook_embed", "input")
    if kind == "logits":
        return Node("logits", "output")
    if kind in _READERS:
        raise place.error(f"a reader, {kind!r}", "writers: embed, attn_head_out, mlp_out", "leave readers and edges out")
    node = None
    if kind == "attn_head_out" and layer is not None and head is not None:
        node = hook_node(f"blocks.{layer}.attn.hook_z", head)
    elif kind == "mlp_out" and layer is not None and head is None:
        node = hook_node(f"blocks.{layer}.hook_mlp_out", None)
    if node is None:
        raise place.error(f"a node {kind!r} of layer {layer}, head {head}", "embed, attn_head_out, mlp_out or logits")
    return node


def _merged(known: Node | None, node: Node, kept: bool | None, score: float | None) -> Node:
    if known is not None:
        kept = kept if known.kept is None else known.kept if kept is None else kept or known.kept
        if known.score is not None and (score is None or abs(known.score) > abs(score)):
            score = known.score
    return Node(node.name, node.kind, node.layer, node.index, kept, score)
