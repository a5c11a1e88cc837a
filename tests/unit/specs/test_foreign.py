"""Other tools' circuits: what strangers' files cannot do, where names go, what is dead, and that the registry is whole."""

from __future__ import annotations

import io
import json
import pickle
import sys
import zipfile
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from specs.errors import InputError
from specs.foreign.circuit import Edge, Node, Request, ToolCircuit
from specs.foreign.level import components
from specs.foreign.pickles import read_archive, read_pickle, rows
from specs.foreign.place import place
from specs.foreign.select import Selection, select
from specs.formats import formats, reader
from specs.formats.circuit_tracer import cantor
from specs.model import Model, load_model, model_from_module
from verify.command_line.files import FORMATS


def test_the_command_knows_every_format() -> None:
    assert formats() == FORMATS
    assert all(callable(reader(name)) for name in formats())
    with pytest.raises(KeyError):
        reader("eap-ig")


def test_no_producer_is_imported() -> None:
    for name in formats():
        reader(name)
    assert not {"acdc", "auto_circuit", "circuit_tracer", "circuitkit", "eap", "transformer_lens"} & sys.modules.keys()


@pytest.mark.parametrize(
    "content",
    [
        b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        b"\x80\x04\x8c\x02os\x8c\x06system\x93(S'true'\ntR.",
        b"\x80\x02]r\xff\xff\xff\x7f.",  # a memo of two thousand million entries
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\x00\x00.",  # a byte array of as many
        b"(i__main__\nFoo\n.",
        pickle.dumps([object()]),
        b"",
        pickle.dumps(list(range(1000)))[:-20],
    ],
)
def test_pickles_that_are_no_plain_values_are_refused(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "edges.pkl"
    file.write_bytes(content)
    with pytest.raises(InputError):
        read_pickle(str(file), {})


def test_archives_take_no_more_memory_than_their_file(tmp_path: Path) -> None:
    file = tmp_path / "x.pt"
    buffer = io.BytesIO()
    torch.save({"a": torch.zeros(1).expand(1 << 30)}, buffer)
    file.write_bytes(buffer.getvalue())
    with pytest.raises(InputError, match="1073741824 elements"):
        rows(read_archive(str(file))["a"], str(file), "a")
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", bytes(1 << 20))
    with pytest.raises(InputError, match="compressed"):
        read_archive(str(file))
    torch.save([1], file, _use_new_zipfile_serialization=False)
    with pytest.raises(InputError, match="not an archive"):
        read_archive(str(file))


def node(name: str, **fields: object) -> Node:
    kinds = {"i": "input", "o": "output"}
    layer = int(name[1]) if name[1:] else None
    return Node(name, kinds.get(name[0], "mlp"), layer, **fields)  # pyright: ignore[reportArgumentType]


def test_top_k_and_threshold() -> None:
    nodes = [node("m0", score=-3.0), node("m1", score=1.0), node("m2", score=1.0), node("m3")]
    assert select(nodes, Selection(top=2), "f")[0] == {"m0", "m1", "m3"}
    assert "1 components left out have the same score" in select(nodes, Selection(top=2), "f")[1][-1]
    assert select(nodes, Selection(threshold=1.0, signed=True), "f")[0] == {"m1", "m2", "m3"}
    with pytest.raises(InputError, match="has 3 scores"):
        select(nodes, Selection(top=4), "f")
    with pytest.raises(InputError, match="does not say"):
        select(nodes, Selection(), "f")


def test_dead_nodes_are_told_and_stay() -> None:
    nodes = (node("i", kept=True), *(node(f"m{i}", kept=True) for i in range(4)), node("o", kept=True))
    ends = [("i", "m0"), ("m0", "o"), ("i", "m1"), ("m2", "o")]
    edges = tuple(Edge(f"{a}->{b}", a, b, True) for a, b in ends)
    found = components(ToolCircuit("t", nodes, edges, about="edges"), Selection(), "f", as_nodes=True, mapped=None)
    assert found.dead == ("m1", "m2", "m3")
    assert all(part.kept for part in found.parts)


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = torch.nn.Linear(3, 4), torch.nn.Linear(4, 4), torch.nn.Linear(4, 2)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.c(torch.relu(self.b(torch.relu(self.a(x)))))


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return model_from_module(Small(), torch.zeros(1, 3))


def test_what_a_list_leaves_out_is_the_opposite_of_what_it_lists(model: Model, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "map.json").write_text('{"m0": ["relu", 0], "m1": ["relu", [1, 2]], "m2": ["relu_1", "all"]}')
    for listed, expected in (("kept", {"relu": (0, 3), "relu_1": "none"}), ("removed", {"relu": (1, 2, 3), "relu_1": "all"})):
        given = ToolCircuit("t", (node("m0", kept=listed == "kept"),), listed=listed)  # pyright: ignore[reportArgumentType]
        made = place(given, model, str(tmp_path / "f"), map_file=str(tmp_path / "map.json"))
        assert made.circuit.kept == expected


@pytest.mark.parametrize(
    ("entries", "said"),
    [
        ('{"m0": ["relu", 0], "a": ["relu", 0]}', "'m0' stands for too"),
        ('{"m0": ["relu", 4]}', "component 4"),
        ('{"m0": ["nowhere", 0]}', "no site"),
        ('{"m0": ["relu", 0, "head"]}', "granularity 'head'"),
        ('{"m0": ["relu", []]}', "or none"),
        ('{"m0": ["relu", -1]}', "0 or more"),
        ('{"m0": null}', "ablates 'm0'"),
        ('{"kind:mlp": ["relu", 0]}', "whole kind"),
        ('{"m0": ["relu", 0], "m9": ["relu", 1]}', "has no 'm9'"),
        ("{}", "no site"),
    ],
)
def test_a_map_that_does_not_fit_is_told(entries: str, said: str, model: Model, tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    (tmp_path / "map.json").write_text(entries)
    with pytest.raises(InputError, match=said):
        place(ToolCircuit("t", (node("m0", kept=False),)), model, str(tmp_path / "f"), map_file=str(tmp_path / "map.json"))


def test_older_eap_files_hold_plain_booleans_and_neurons_apart(tmp_path: Path) -> None:
    nodes = {"input": True, "a0.h0": True, "m0": False, "logits": True}
    edges = {"input->a0.h0<q>": True, "input->m0": {"score": float("nan"), "in_graph": False}, "a0.h0->logits": True}
    entries = {"cfg": {}, "nodes": nodes, "edges": edges, "neurons": {"a0.h0": [[True, False]], "input": [True, True]}}
    (tmp_path / "old.json").write_text(json.dumps(entries))
    found = reader("eap")(Request(str(tmp_path / "old.json")))
    by_name = {node.name: node for node in found.nodes}
    assert by_name["a0.h0"].units == (True, False) and by_name["m0"].kept is False
    assert [(edge.kept, edge.score) for edge in found.edges] == [(True, None), (False, None), (True, None)]


def test_sites_are_found_by_name_and_what_a_list_leaves_out_is_ablated(tmp_path: Path) -> None:
    weights = [numpy_helper.from_array(np.eye(3, dtype=np.float32), f"w{i}") for i in range(3)]
    names = ["x", "/blocks.0/hook_mlp_out", "m1", "y"]
    nodes = [helper.make_node("MatMul", [a, f"w{i}"], [b]) for i, (a, b) in enumerate(pairwise(names))]
    ends = [[helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3])] for name in ("x", "y")]
    file = tmp_path / "named.onnx"
    graph = helper.make_graph(nodes, "named", ends[0], ends[1], weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), str(file))
    model = load_model(str(file), shown="model", where="", base=Path())
    (tmp_path / "edges.json").write_text('[["embeds", "m1"], ["m1", "resid_post"]]')
    given = reader("edge-pruning")(Request(str(tmp_path / "edges.json")))
    made = place(given, model, str(tmp_path / "edges.json"), as_nodes=True)
    assert made.circuit.kept == {"/blocks.0/hook_mlp_out": "none", "m1": "all"}
    (tmp_path / "edges.json").write_text('[["m2", "resid_post"]]')
    given = reader("edge-pruning")(Request(str(tmp_path / "edges.json")))
    with pytest.raises(InputError, match="'m2'"):
        place(given, model, str(tmp_path / "edges.json"), as_nodes=True)


def test_pairing_is_one_to_one() -> None:
    assert len({cantor(layer, feature) for layer in range(20) for feature in range(20)}) == 400
    assert cantor(1, 5) == 26
