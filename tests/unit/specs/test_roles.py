"""Other tools' edges become edges of ours, by the part that each end plays in the model."""

from __future__ import annotations

import json
from itertools import product
from pathlib import Path

import pytest
import torch

from specs.errors import InputError
from specs.foreign.circuit import Edge, Node, Request, ToolCircuit
from specs.foreign.place import place
from specs.foreign.roles import edges_by_role
from specs.formats import reader
from specs.model import Model, model_from_module
from tests.residual import POSITIONS, Blocks

WRITERS = {"a0": ["input"], "m0": ["input", "a0.h0", "a0.h1"], "a1": ["input", "a0.h0", "a0.h1", "m0"]}
WRITERS["m1"] = [*WRITERS["a1"], "a1.h0", "a1.h1"]
WRITERS["logits"] = [*WRITERS["m1"], "m1"]


def names() -> list[str]:
    """Every edge of two layers of two heads and an MLP, as EAP calls them."""
    found: list[str] = []
    for reader_, writers in WRITERS.items():
        heads = [f"{reader_}.h{h}<{port}>" for h, port in product(range(2), "qkv")] if reader_[0] == "a" else [reader_]
        found += [f"{writer}->{name}" for name in heads for writer in writers]
    return found


@pytest.fixture(scope="module")
def model() -> Model:
    return model_from_module(Blocks(norm=True).eval(), torch.rand(1, POSITIONS, 2))


def test_every_edge_of_a_transformer_has_its_name(model: Model) -> None:
    roles = edges_by_role(model)
    assert sorted(roles) == sorted(names())
    places = [(spot.site, index) for spot in roles.values() for index in spot.indices]
    assert len(set(places)) == len(places) == sum(read.group[1] for read in model.edges())
    ends = {(read.consumer, i): end for read in model.edges() for i, end in enumerate(read.ends)}
    for name, spot in roles.items():  # heads' names agree with those that `certify show` has
        producer, consumer = ends[spot.site, spot.indices[0]]
        writer, _, target = name.partition("->")
        assert producer.endswith(f"[{writer[-1]}]") == (".h" in writer)
        assert consumer.endswith(f"[{target.partition('<')[0][-1]}]") == (".h" in target)


def test_a_circuit_of_edges_is_imported_edge_by_edge(model: Model, tmp_path: Path) -> None:
    kept = {name: i % 3 != 0 for i, name in enumerate(names())}
    nodes = {
        name: {"in_graph": name != "a0.h1"} for name in ("input", "a0.h0", "a0.h1", "m0", "a1.h0", "a1.h1", "m1", "logits")
    }
    edges = {name: {"score": 0.0, "in_graph": stays} for name, stays in kept.items()}
    file = tmp_path / "eap.json"
    file.write_text(json.dumps({"cfg": {}, "nodes": nodes, "edges": edges}))
    made = place(reader("eap")(Request(str(file))), model, str(file))
    assert set(made.circuit.scope.values()) == {"edge"} and made.scope == len(kept)
    found = {name: _kept(made.circuit.kept[spot.site], spot.indices[0]) for name, spot in edges_by_role(model).items()}
    # A head that is not in the graph writes nothing: what leaves it is ablated.
    assert found == {name: stays and not name.startswith("a0.h1->") for name, stays in kept.items()}
    assert any("leave an ablated node" in note for note in made.notes)


def _kept(entry: object, index: int) -> bool:
    return entry == "all" or (isinstance(entry, tuple) and index in entry)


def test_what_a_list_of_edges_leaves_out_is_ablated(model: Model, tmp_path: Path) -> None:
    file = tmp_path / "edges.json"
    file.write_text('[["embeds", "a0.h1.q"], ["a0.h1", "m1"], ["m1", "resid_post"]]')
    made = place(reader("edge-pruning")(Request(str(file))), model, str(file))
    kept = {name for name, spot in edges_by_role(model).items() if _kept(made.circuit.kept[spot.site], spot.indices[0])}
    assert kept == {"input->a0.h1<q>", "a0.h1->m1", "m1->logits"}
    assert made.scope == len(names())


def circuit(*edges: Edge) -> ToolCircuit:
    nodes = (Node("input", "input"), Node("a1.h0", "head", 1, 0), Node("m0", "mlp", 0), Node("m7", "mlp", 7))
    return ToolCircuit("t", nodes, edges, listed="kept", about="edges")


def test_without_a_port_all_three_and_what_is_cut_is_ablated(model: Model, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    given = circuit(Edge("e", "m0", "a1.h0", True), Edge("d", "input", "a1.h0", True, port="q", cut=True))
    made = place(given, model, str(tmp_path / "f"))
    kept = {name for name, spot in edges_by_role(model).items() if _kept(made.circuit.kept[spot.site], spot.indices[0])}
    assert kept == {"m0->a1.h0<q>", "m0->a1.h0<k>", "m0->a1.h0<v>"}


def test_an_edge_that_the_model_lacks_is_told(model: Model, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    with pytest.raises(InputError, match="m7->m0"):
        place(circuit(Edge("e", "m7", "m0", True)), model, str(tmp_path / "f"))
    with pytest.raises(InputError, match="more than once"):
        place(circuit(Edge("e@0", "input", "m0", True), Edge("e@1", "input", "m0", True)), model, str(tmp_path / "f"))
