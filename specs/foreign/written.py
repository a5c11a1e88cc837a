"""Circuits of ours as files of other tools, with what is proven of each component."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass

from specs.errors import InputError
from specs.foreign.names import short_node
from specs.foreign.sites import Spot, read_map
from specs.model import Model

__all__ = ["Named", "circuitkit_text", "eap_text", "named"]

_LARGEST = 1 << 20
"""Edges of an EAP file: it lists every one that the model could have."""

Component = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Named:
    """A component by a tool's name, head `index` of `layer`, or the layer's MLP. `status` of its parts is one."""

    name: str
    layer: int
    index: int | None
    kept: bool
    status: str


def named(
    model: Model,
    scope: Mapping[str, str],
    kept: Mapping[Component, bool],
    status: Mapping[Component, str],
    map_file: str | None,
) -> tuple[Named, ...]:
    """Each component of the scope by name: as a map has it, which was used to import; else site `i` of the scope is layer `i`,
    and its component `j` head `j`.

    Raises: InputError: a component without a name, a name that is no `a0.h3` or `m2`, or one whose components differ.
    """
    if map_file is None:
        order = [site.name for site in model.sites() if site.name in scope]
        spots = {
            f"a{order.index(site)}.h{index}": Spot(site, "neuron", (index,)) for site, index in kept
        }  # the granularity does not matter here
    else:
        spots = {name: spot for name, spot in read_map(map_file, model).items() if isinstance(spot, Spot)}
    by: dict[Component, str] = {(spot.site, index): name for name, spot in spots.items() for index in spot.indices}
    for site, index in kept:
        if (site, index) not in by and map_file is not None:
            raise InputError(map_file, "", f"no name for {site}[{index}]", "one for every component in scope", "add it")
    found: list[Named] = []
    for name, spot in spots.items():
        parts = [(spot.site, index) for index in spot.indices if (spot.site, index) in kept]
        if not parts:
            continue
        node = short_node(name)
        if node is None or node.layer is None:
            raise InputError(map_file or "", f"$.{name}", "a name that these formats lack", "a0.h3 or m2")
        if len({kept[part] for part in parts}) > 1:
            raise InputError(map_file or "", f"$.{name}", "a node that the circuit keeps in part", "a map of single components")
        said = {status[part] for part in parts}
        found.append(Named(name, node.layer, node.index, kept[parts[0]], said.pop() if len(said) == 1 else "mixed"))
    return tuple(sorted(found, key=lambda entry: (entry.layer, entry.index is None, entry.index or 0)))


def eap_text(parts: tuple[Named, ...], claim: Mapping[str, object]) -> str:
    """EAP JSON (as `Graph.from_json` of EAP-IG reads it): an edge is kept where both of its nodes are. Each node has its
    `proof`, the file its `certify`; the tool does not read either. Raises: InputError: too many edges."""
    layers = 1 + max(part.layer for part in parts)
    heads = 1 + max((part.index for part in parts if part.index is not None), default=0)
    count = layers * (heads + 1)
    if 3 * count * count > _LARGEST:
        found = f"{layers} layers of {heads} heads, with up to {3 * count * count} edges"
        raise InputError("certify", "export eap", found, f"at most {_LARGEST}", "give a --map of larger nodes")
    given = {part.name: part for part in parts}
    nodes: dict[str, dict[str, object]] = {"input": {"in_graph": True, "proof": "outside the scope"}}
    writers, edges = ["input"], dict[str, dict[str, object]]()

    def kept(name: str) -> bool:
        return bool(nodes[name]["in_graph"])

    def read(name: str, ports: tuple[str, ...]) -> None:
        for writer in writers:
            for port in ports:
                edges[f"{writer}->{name}{port}"] = {"score": 0.0, "in_graph": kept(writer) and kept(name)}

    for layer in range(layers):
        names = [f"a{layer}.h{head}" for head in range(heads)]
        for name in [*names, f"m{layer}"]:
            part = given.get(name)
            kept_so, proof = (True, "outside the scope") if part is None else (part.kept, part.status)
            nodes[name] = {"in_graph": kept_so, "proof": proof}
        for name in names:
            read(name, ("<q>", "<k>", "<v>"))
        writers += names
        read(f"m{layer}", ("",))
        writers.append(f"m{layer}")
    nodes["logits"] = {"in_graph": True}
    read("logits", ("",))
    cfg = {"n_layers": layers, "n_heads": heads, "parallel_attn_mlp": False, "d_model": 1}
    return json.dumps({"cfg": cfg, "nodes": nodes, "edges": edges, "certify": claim}, indent=1, allow_nan=False) + "\n"


def circuitkit_text(parts: tuple[Named, ...], claim: Mapping[str, object], model_id: str) -> str:
    """A `CircuitArtifact` of circuitkit 0.2: all components, importance 1 for kept ones and 0 for ablated ones, threshold 0.5.
    The proofs are among `algorithm_params`, as its nodes take no other keys."""
    nodes: dict[str, dict[str, object]] = {}
    for part in parts:
        kind = "mlp_layer" if part.index is None else "attn_head"
        entry = {"layer_idx": part.layer, "node_type": kind, "index": part.index or 0, "importance": float(part.kept)}
        nodes[part.name] = {**entry, "name": part.name}
    metadata = {
        "model_id": model_id, "discovery_method": "eap", "task": "certify", "dataset": "certify", "granularity": "head",
        "threshold": 0.5, "algorithm_params": {"certify": {**claim, "proof": {part.name: part.status for part in parts}}},
    }  # fmt: skip
    return json.dumps({"version": "1.0", "metadata": metadata, "nodes": nodes, "edges": {}}, indent=1, allow_nan=False) + "\n"
