"""Models that take token numbers: read as models of one-hot rows, replayed on the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import verify
from benchmarks.models.transformer import Transformer, written
from specs.circuit import Circuit
from specs.encode import encode_scope
from specs.errors import InputError
from specs.model import Model, load_model
from specs.record import Origin
from specs.spec import Spec
from verify.ladder.choice import chosen
from verify.ladder.decide import Ladder
from verify.work.budget import Budget


def numbered(folder: Path, node: Any = None, kind: int = TensorProto.INT64) -> Path:
    """A small transformer whose embedding looks token numbers up; `node` stands in for that look-up."""
    torch.manual_seed(0)
    made = written(Transformer(vocabulary=5, length=3, width=4, heads=2, layers=1), "net")
    made.graph.node[0].CopyFrom(node or helper.make_node("Gather", ["embed.W_E", "tokens"], ["hook_embed"], name="look up"))
    made.graph.input[0].CopyFrom(helper.make_tensor_value_info("tokens", kind, [1, 3]))
    (folder / "net.onnx").write_bytes(made.SerializeToString())
    return folder / "net.onnx"


def load(path: Path) -> Model:
    return load_model(path.name, shown=path.name, where="", base=path.parent)


def spec(**region: Any) -> Spec:
    entries = {
        "format": "certify.spec/1",
        "input": region,
        "patching": {"kind": "zero"},
        "agreement": {"metric": "logits", "tolerance": 0.001},
    }
    return Spec.model_validate(entries, context=Origin("spec.yaml", Path(".")))


@pytest.mark.parametrize("kind", [TensorProto.INT64, TensorProto.INT32])
def test_the_reading_is_the_model_at_token_numbers(tmp_path: Path, kind: int) -> None:
    path = numbered(tmp_path, kind=kind)
    model = load(path)
    assert model.tokens and model.graph.input_shape == (1, 3, 5) and "hook_embed" in {site.name for site in model.sites()}
    ids = torch.tensor([[4, 0, 2]])
    import onnxruntime

    session = onnxruntime.InferenceSession(path.read_bytes(), providers=["CPUExecutionProvider"])
    given: Any = session.run(None, {"tokens": ids.numpy().astype(np.int64 if kind == TensorProto.INT64 else np.int32)})[0]
    x = torch.nn.functional.one_hot(ids, 5).double()
    assert np.allclose(model.graph(x.unsqueeze(0))[0].numpy(), given, atol=1e-5)
    assert np.array_equal(model.runtime.outputs(x.numpy()), given)
    with pytest.raises(ValueError, match="not one-hot"):
        model.runtime.outputs(x.numpy() * 0.5)


def test_falsified_on_the_model_itself(tmp_path: Path) -> None:
    problem = encode_scope(
        {"blocks.0.attn.hook_z": "head"}, spec(kind="tokens", positions="all"), load(numbered(tmp_path)), file="s"
    )
    ladder = Ladder(problem, problem.claims[0], chosen("auto", "cpu"))
    verdicts = [d.verdict.name for d in ladder.decide(torch.tensor([[True, True], [False, True]]), Budget(60))]
    assert verdicts == ["certified", "falsified"]


@pytest.mark.parametrize(
    "region",
    [
        {"kind": "box", "lower": 0, "upper": 1},
        {"kind": "tokens", "positions": "all", "epsilon": 0.1},
    ],
)
def test_refuses_regions_of_anything_but_tokens(tmp_path: Path, region: dict[str, Any]) -> None:
    with pytest.raises(
        InputError, match=r"\$\.input: a region of points that are no tokens; `kind: tokens`, without epsilon, as"
    ):
        encode_scope({"blocks.0.attn.hook_z": "head"}, spec(**region), load(numbered(tmp_path)), file="s")


def test_refuses_numbers_that_are_computed_with(tmp_path: Path) -> None:
    cast = helper.make_node("Cast", ["tokens"], ["hook_embed"], name="as float", to=TensorProto.FLOAT)
    with pytest.raises(InputError, match=r"token numbers 'tokens' are read by node 'as float' \(Cast\); embeddings"):
        load(numbered(tmp_path, cast))


def test_refuses_two_vocabularies(tmp_path: Path) -> None:
    path = numbered(tmp_path)
    made = onnx.load(path)
    made.graph.initializer.append(numpy_helper.from_array(np.zeros((7, 4), np.float32), "other"))
    made.graph.node.insert(1, helper.make_node("Gather", ["other", "tokens"], ["more"]))
    path.write_bytes(made.SerializeToString())
    with pytest.raises(InputError, match="looked up in tables of 5 and 7 rows"):
        load(path)


@pytest.mark.parametrize("open_batch", [False, True])
def test_numbers_in_another_shape(tmp_path: Path, open_batch: bool) -> None:
    """As HuggingFace's GPT-2 does: the numbers are reshaped before they are looked up. They are no site."""
    path = numbered(tmp_path)
    made = onnx.load(path)
    shape = numpy_helper.from_array(np.array([-1, 3]), "ids.shape")
    made.graph.initializer.append(shape)
    made.graph.node[0].input[1] = "ids.rows"
    flat = helper.make_node("Flatten", ["tokens"], ["ids.flat"], name="ids.flat", axis=0)
    nodes = [flat, helper.make_node("Reshape", ["ids.flat", "ids.shape"], ["ids.rows"], name="ids.rows"), *made.graph.node]
    del made.graph.node[:]
    made.graph.node.extend(nodes)
    if open_batch:
        made.graph.input[0].CopyFrom(helper.make_tensor_value_info("tokens", TensorProto.INT64, ["n", 3]))
    onnx.save(made, path)
    model = load(path)
    assert model.graph.input_shape == (1, 3, 5) and not {"ids.rows", "ids.flat"} & {site.name for site in model.sites()}
    ids = torch.tensor([[4, 0, 2]])
    x = torch.nn.functional.one_hot(ids, 5).double()
    assert np.allclose(model.graph(x.unsqueeze(0))[0].numpy(), model.runtime.outputs(x.numpy()), atol=1e-5)


class Looked(torch.nn.Module):
    """A module of token numbers."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.table, self.a, self.b = torch.nn.Embedding(5, 4), torch.nn.Linear(4, 6), torch.nn.Linear(6, 3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        return self.b(torch.relu(self.a(self.table(ids.view(-1, 3))))).sum(1)


@pytest.mark.parametrize(
    ("region", "verdict", "tolerance"),
    [({"positions": [[0, 1], "all", [2]]}, "certified", 100.0), ({"sequences": [[0, 4, 2], [1, 1, 1]]}, "falsified", 1e-4)],
)
def test_modules_of_token_numbers(region: dict[str, Any], verdict: str, tolerance: float) -> None:
    """A claim over sequences about a module that takes their numbers; a counterexample is replayed on these."""
    circuit = Circuit.model_validate(
        {"format": "certify.circuit/1", "model": {"path": "mine"}, "scope": {"relu": "neuron"}, "kept": {"relu": [0, 1, 2]}}
    )
    asked = spec(kind="tokens", **region)
    asked = asked.model_copy(update={"agreement": asked.agreement.model_copy(update={"tolerance": tolerance})})
    module = Looked().eval()
    report = verify.certify(circuit, asked, module)
    assert report.verdict == verdict
    if verdict == "falsified":
        assert report.witness is not None
        ids = torch.tensor(report.witness.input).argmax(-1)
        assert np.allclose(report.witness.model_output, module(ids).detach().numpy())


def test_a_module_of_any_tokens_needs_a_length() -> None:
    circuit = Circuit.model_validate(
        {"format": "certify.circuit/1", "model": {"path": "mine"}, "scope": {"relu": "neuron"}, "kept": {"relu": "all"}}
    )
    with pytest.raises(InputError, match="tokens states no input shape"):
        verify.certify(circuit, spec(kind="tokens", positions="all"), Looked().eval())
