"""Features as quantities: what a direction reads at a site, of the model and of circuits, and what is refused."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

import verify
from bounds.ops import Take
from specs.agreement import Feature
from specs.circuit import Circuit
from specs.encode import Problem, encode
from specs.errors import InputError
from specs.margins import agreement_margins, deviation
from specs.model import Model, load_model, model_from_module
from specs.record import Origin
from specs.spec import Spec
from tests.nets import random_net


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    return random_net(tmp_path_factory.mktemp("net"), 2, 6, 5, 2, seed=3)


def _spec(agreement: Mapping[str, Any], base: Path = Path("."), **parts: Any) -> Spec:
    entries = {
        "format": "certify.spec/1",
        "input": {"kind": "box", "lower": -1.0, "upper": 1.0},
        "patching": {"kind": "zero"},
        "agreement": {"metric": "feature", **agreement},
        "budget": {"time_s": 30},
        **parts,
    }
    return Spec.model_validate(entries, context=Origin("spec.yaml", base))


def _circuit(**kept: Any) -> Circuit:
    entries = {"format": "certify.circuit/1", "model": {"path": "net.onnx"}, "kept": kept}
    return Circuit.model_validate({**entries, "scope": dict.fromkeys(kept, "neuron")}, context=Origin("c.json", Path(".")))


def _grid(problem: Problem, count: int = 201) -> torch.Tensor:
    """The feature of the circuit at every point of a grid."""
    line = torch.linspace(-1, 1, count, dtype=torch.float64)
    x = torch.cartesian_prod(line, line).unsqueeze(1)
    query = problem.claims[0].query
    patches = {gate.tensor: gate.patch.lower.expand(len(x), *gate.patch.shape) for gate in query.gates.gates}
    return query.graph.evaluate(x, query.gates, problem.mask.expand(len(x), -1), patches)[query.graph.output].flatten()


DIRECTION = [1.0, -0.5, 0.0, 2.0, 0.25]


@pytest.mark.parametrize("kept", [{"act_0": "all"}, {"act_0": [0, 2, 5], "act_1": "all"}, {"act_0": "all", "act_1": [0, 3]}])
def test_reachable_values_are_bracketed(model: Model, kept: dict[str, Any]) -> None:
    """Certified just over the greatest value on a grid and its spread, falsified just under it; the same from below."""
    said = {"site": "act_1", "direction": DIRECTION}
    values = _grid(encode(_circuit(**kept), _spec({**said, "below": 0.0}), model))
    most, least = float(values.max()), float(values.min())
    for key, inside, outside in (("below", most + 0.05, most - 0.01), ("above", least - 0.05, least + 0.01)):
        certified = verify.certify(_circuit(**kept), _spec({**said, key: inside}), model)
        assert certified.verdict == "certified" and certified.deviation is not None and certified.deviation < 0
        falsified = verify.certify(_circuit(**kept), _spec({**said, key: outside}), model)
        assert falsified.verdict == "falsified" and falsified.witness is not None
        value = falsified.witness.circuit_output[0][0]
        assert value > outside if key == "below" else value < outside


def test_witness_is_the_originals_own_activation(model: Model) -> None:
    """The feature of a witness is recomputed from the activations that onnxruntime gives at the site."""
    spec = _spec({"site": "act_1", "direction": DIRECTION, "below": -9.0})
    report = verify.certify(_circuit(act_0="all"), spec, model)
    assert report.witness is not None
    x = np.asarray(report.witness.input, dtype=np.float32)
    seen = model.runtime.activations(x, ["act_1"])["act_1"][0]
    exact = sum(Fraction(d) * Fraction(float(a)) for d, a in zip(DIRECTION, seen, strict=True))
    assert report.witness.circuit_output == [[float(exact)]] == report.witness.model_output


def test_patched_values_at_the_site_itself_count(model: Model) -> None:
    """What is ablated at the site is read as what it is patched with."""
    patching = {"kind": "constant", "constant": {"act_1": 3.0}}
    said = {"site": "act_1", "element": 3}
    for threshold, verdict in ((3.1, "certified"), (2.9, "falsified")):
        spec = _spec({**said, "below": threshold}, patching=patching)
        assert verify.certify(_circuit(act_1=[0, 1]), spec, model).verdict == verdict


def test_sites_out_of_its_reach_are_allowed(model: Model) -> None:
    """A component that no feature depends on changes nothing."""
    problem = encode(_circuit(act_0="none", act_1="none"), _spec({"site": "h0", "element": 1, "below": 0.0}), model)
    assert float(_grid(problem).max()) > 0
    assert {"act_1", "h0.feature"} <= set(problem.model.graph.node) and "y" not in problem.model.graph.node


def test_file_of_directions_and_every_position(tmp_path: Path) -> None:
    """On `(1, 3, 4)` the direction lies along the last axis; without `at` the claim is of all three positions."""
    module = torch.nn.Sequential(torch.nn.Linear(4, 4), torch.nn.ReLU(), torch.nn.Linear(4, 2))
    model = model_from_module(module, torch.zeros(1, 3, 4))
    np.savez(tmp_path / "d.npz", w=np.arange(8.0).reshape(2, 4))
    direction = {"file": "d.npz", "array": "w", "index": 1}
    whole = encode(_circuit(relu="all"), _spec({"site": "relu", "direction": direction, "below": 0.0}, tmp_path), model)
    one = encode(_circuit(relu="all"), _spec({"site": "relu", "direction": direction, "at": 2, "below": 0.0}, tmp_path), model)
    x = torch.rand(5, 1, 3, 4, dtype=torch.float64)
    relu = model.graph.evaluate(x, keep=frozenset({"relu"}))["relu"]
    expected = relu @ torch.tensor([4.0, 5, 6, 7], dtype=torch.float64)
    assert torch.allclose(whole.model.graph(x).flatten(1), expected.flatten(1))
    assert torch.allclose(one.model.graph(x).flatten(), expected[..., 2].flatten())
    found = one.model.runtime.outputs(x[0].numpy())
    assert found.shape == (1, 1) and abs(float(found[0, 0]) - float(expected[0, 0, 2])) < 1e-5


def test_channels_of_a_convolution(tmp_path: Path) -> None:
    weight = numpy_helper.from_array(np.random.default_rng(0).normal(size=(3, 1, 2, 2)).astype(np.float32), "k")
    flat = numpy_helper.from_array(np.ones((12, 2), dtype=np.float32), "w")
    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["r"]),
        helper.make_node("Flatten", ["r"], ["f"]),
        helper.make_node("MatMul", ["f", "w"], ["y"]),
    ]
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in (("x", [1, 1, 4, 4]), ("y", [1, 2])))
    graph = helper.make_graph(nodes, "g", [x], [y], [weight, flat])
    made = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 13)])
    (tmp_path / "net.onnx").write_bytes(made.SerializeToString())
    model = load_model("net.onnx", shown="c", where="", base=tmp_path)
    problem = encode(_circuit(c="all"), _spec({"site": "r", "direction": [0, 1, 0], "at": [1, 0], "below": 9}), model)
    read = problem.model.graph.node["r.feature.read"].op
    assert isinstance(read, Take) and read.index.tolist() == [[4 + 2]]


@pytest.mark.parametrize(
    ("agreement", "message"),
    [
        ({"site": "act_9", "element": 0, "below": 0}, "$.agreement.site: the model has no site 'act_9'"),
        ({"site": "act_1", "element": 5, "below": 0}, "$.agreement.element: element 5; site act_1 of shape [1, 5] has 5"),
        ({"site": "act_1", "direction": [1, 2], "below": 0}, "$.agreement.direction: 2 numbers"),
        ({"site": "act_1", "direction": [0, 0, 0, 0, 0], "below": 0}, "a direction of zeros"),
        ({"site": "act_1", "element": 0, "at": 3, "below": 0}, "$.agreement.at: 1 indices"),
    ],
)
def test_refuses(model: Model, agreement: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        encode(_circuit(act_0="all"), _spec(agreement), model)
    assert message in str(error.value)


@pytest.mark.parametrize(
    "agreement",
    [
        {"site": "a", "below": 0},
        {"site": "a", "element": 0},
        {"site": "a", "element": 0, "direction": [1.0], "below": 0},
        {"site": "a", "element": 0, "below": 0, "above": 1},
        {"site": "a", "element": 0, "below": 0, "at": -1},
    ],
)
def test_refuses_records(agreement: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        _spec(agreement)


def test_deviation_is_past_the_threshold_and_margin_its_negative() -> None:
    record = Feature(metric="feature", site="a", element=0, below=1.0, above=-0.5, tolerance=0.25)
    g = torch.zeros(2, 1)
    for values, past in (([0.0, 0.5], -0.5), ([2.0, 0.0], 1.0), ([0.0, -1.5], 1.0), ([1.125, 0.0], 0.125)):
        c = torch.tensor(values, dtype=torch.float64).reshape(2, 1)
        assert deviation(record, c, g) == past
        assert float(agreement_margins(record, (2, 1)).at(c.unsqueeze(0), g.double().unsqueeze(0))) == 0.25 - past


def test_a_value_that_may_have_been_rounded_up_violates_nothing() -> None:
    """`0.1 + 0.2` is no float: the float above it may stand for a value that does not pass the tolerance."""
    record = Feature(metric="feature", site="a", element=0, below=0.1, tolerance=0.2)
    just = torch.tensor([[0.1 + 0.2]], dtype=torch.float64)
    assert Fraction(0.1 + 0.2) > Fraction(0.1) + Fraction(0.2)
    assert deviation(record, just, just) <= 0.2
    assert deviation(record, just.nextafter(torch.ones(1, dtype=torch.float64)), just) > 0.2
