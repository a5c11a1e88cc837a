"""Models that take token numbers: read as models of one-hot rows, replayed on the numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from benchmarks.models.transformer import Transformer, written
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
