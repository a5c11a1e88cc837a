"""From files to queries: components, regions, patch values, margins; and what is refused."""

from __future__ import annotations

import math
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bounds.query import Clauses
from bounds.region import Ball, Box, Hull
from specs import sets
from specs.agreement import Agreement, LogitDifference, Logits, Output, Top1
from specs.circuit import Circuit
from specs.encode import Problem, encode, encode_scope
from specs.errors import InputError
from specs.margins import agreement_margins, deviation
from specs.model import Model, load_model
from specs.record import Origin
from specs.spec import Spec

SHAPE = (1, 2, 4, 4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Model:
    """`x (1,2,4,4) -> conv, /act/Relu (1,3,2,2) -> flatten -> relu_2 (1,5) -> logits (1,4)`."""
    rng = np.random.default_rng(1)

    def weight(name: str, *shape: int) -> Any:
        return numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name)

    nodes = [
        helper.make_node("Conv", ["x", "k"], ["c"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Relu", ["c"], ["/act/Relu"]),
        helper.make_node("Flatten", ["/act/Relu"], ["flat"]),
        helper.make_node("Gemm", ["flat", "w", "b"], ["h"], transB=1),
        helper.make_node("Relu", ["h"], ["relu_2"]),
        helper.make_node("Gemm", ["relu_2", "v"], ["logits"], transB=1),
    ]
    ends = [
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(SHAPE))],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 4])],
    ]
    weights = [weight("k", 3, 2, 2, 2), weight("w", 5, 12), weight("b", 5), weight("v", 4, 5)]
    graph = helper.make_graph(nodes, "g", ends[0], ends[1], weights)
    folder = tmp_path_factory.mktemp("net")
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 13)], ir_version=8)
    (folder / "net.onnx").write_bytes(made.SerializeToString())
    return load_model("net.onnx", shown="circuit.json", where="$.model.path", base=folder)


def _circuit(kept: dict[str, Any], scope: dict[str, str]) -> Circuit:
    entries = {"format": "certify.circuit/1", "model": {"path": "net.onnx"}, "scope": scope, "kept": kept}
    return Circuit.model_validate(entries, context=Origin("circuit.json", Path(".")))


def _spec(
    base: Path | str = ".",
    *,
    region: dict[str, Any] | None = None,
    patching: dict[str, Any] | None = None,
    agreement: dict[str, Any] | None = None,
) -> Spec:
    entries = {
        "format": "certify.spec/1",
        "input": region or {"kind": "linf", "center": 0.5, "epsilon": 0.125},
        "patching": patching or {"kind": "zero"},
        "agreement": agreement or {"metric": "logits", "tolerance": 1.0},
    }
    return Spec.model_validate(entries, context=Origin("spec.yaml", Path(base)))


NEURONS = {"/act/Relu": "channel", "relu_2": "neuron"}


def _problem(model: Model, base: Path | str = ".", scope: dict[str, str] | None = None, **parts: dict[str, Any]) -> Problem:
    return encode_scope(scope or NEURONS, _spec(base, **parts), model, file="spec.yaml")


def _saved(path: Path, images: NDArray[Any]) -> str:
    np.savez(path / "data.npz", images=images)
    return "data.npz"


def test_components_in_graph_order(model: Model) -> None:
    scope = {"relu_2": "neuron", "/act/Relu": "channel"}
    problem = encode(_circuit({"relu_2": [4, 0], "/act/Relu": "none"}, scope), _spec(), model)
    assert problem.components == (*(("/act/Relu", i) for i in range(3)), *(("relu_2", i) for i in range(5)))
    assert problem.mask.tolist() == [[False, False, False, True, False, False, False, True]]
    assert problem.kept(problem.mask[0]) == {"/act/Relu": [], "relu_2": [0, 4]}
    assert problem.gates.size == 8 and problem.gates.gates[0].group.shape == (1, 3, 2, 2)
    assert [claim.label for claim in problem.claims] == ["center"]
    every = encode(_circuit({"relu_2": "all", "/act/Relu": "all"}, scope), _spec(), model)
    assert bool(every.mask.all()) and torch.equal(every.mask, _problem(model).mask)


@pytest.mark.parametrize(
    ("scope", "kept", "message"),
    [
        (
            {"relu_2": "neuron"},
            {"relu_2": [0, 3, 4, 612]},
            "circuit.json $.kept.relu_2[3]: component 612; site relu_2 has 5; use 0..4",
        ),
        (
            {"/act/Relu": "channel"},
            {"/act/Relu": [3]},
            "circuit.json $.kept['/act/Relu'][0]: component 3; site /act/Relu has 3; use 0..2",
        ),
        ({"relu2": "neuron"}, {"relu2": "all"}, "circuit.json $.scope.relu2: the model has no site 'relu2'; use 'relu_2'"),
        ({"logits": "neuron"}, {"logits": "all"}, "circuit.json $.scope.logits: the model has no site 'logits'"),
        ({"x": "neuron"}, {"x": "all"}, "circuit.json $.scope.x: the model has no site 'x'"),
        ({"relu_2": "channel"}, {"relu_2": "all"}, "$.scope.relu_2: site relu_2 of shape [1, 5] has no granularity 'channel'"),
        ({"relu_2": "head"}, {"relu_2": "all"}, "has no granularity 'head'; use 'neuron'"),
        ({}, {}, "circuit.json $.scope: no sites; at least one"),
    ],
)
def test_refuses_sites_and_components(model: Model, scope: dict[str, str], kept: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        encode(_circuit(kept, scope), _spec(), model)
    assert message in str(caught.value)


@given(
    center=st.floats(-3, 3, width=32),
    epsilon=st.one_of(st.just(0.0), st.floats(2**-60, 2, allow_subnormal=False)),
)
def test_linf_ends_are_the_tightest_that_enclose(center: float, epsilon: float) -> None:
    record = _spec(region={"kind": "linf", "center": center, "epsilon": epsilon}).input
    ((_, region, _),) = sets.read_regions(record, (2,), torch.float32, file="s", where="$.input")
    assert isinstance(region, Box)
    low, high = float(region.lower[0]), float(region.upper[0])
    exact = Fraction(center) - Fraction(epsilon), Fraction(center) + Fraction(epsilon)
    assert Fraction(low) <= exact[0] < Fraction(math.nextafter(low, math.inf))
    assert Fraction(math.nextafter(high, -math.inf)) < exact[1] <= Fraction(high)


def test_the_center_is_what_the_model_receives(model: Model) -> None:
    region = _problem(model, region={"kind": "linf", "center": 0.1, "epsilon": 0.0, "clip": [0.0, 1.0]}).claims[0].query.region
    assert isinstance(region, Box) and region.shape == SHAPE
    assert bool((region.lower == float(np.float32(0.1))).all()) and bool((region.upper == region.lower).all())


def test_clip_cuts_exactly_and_may_leave_the_center_out(model: Model) -> None:
    given = {"kind": "linf", "center": 1.0625, "epsilon": 0.125, "clip": [0.1, 1.0]}
    box = _problem(model, region=given).claims[0].query.region.box()
    assert bool((box.lower == 0.9375).all()) and bool((box.upper == 1.0).all())
    low = _problem(model, region={**given, "center": 0.15}).claims[0].query.region.box()
    assert bool((low.lower == 0.1).all()), "clip is not rounded to float32"


@pytest.mark.parametrize(
    ("region", "message"),
    [
        ({"kind": "linf", "center": 5.0, "epsilon": 0.5, "clip": [0.0, 1.0]}, "the region is empty at coordinate 0"),
        ({"kind": "box", "lower": 1.0, "upper": 0.0}, "the region is empty at coordinate 0 (lower 1, upper 0)"),
        ({"kind": "l2", "center": 1.2, "epsilon": 0.5, "clip": [0.0, 1.0]}, "the nearest point that clip allows is 1.13137"),
        ({"kind": "linf", "center": 1e39, "epsilon": 0.5}, "$.input.center: 1e+39; numbers of at most 3.40282e+38"),
        ({"kind": "linf", "center": [1.0, 2.0], "epsilon": 0.5}, "$.input.center: an array of shape (2)"),
        ({"kind": "hull", "points": [[2.0] * 32, [0.0] * 32], "clip": [0.0, 1.0]}, "a point of the hull outside"),
    ],
)
def test_refuses_regions(model: Model, region: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        _problem(model, region=region)
    assert str(caught.value).startswith("spec.yaml $.input") and message in str(caught.value)


def test_one_claim_for_each_index(model: Model, tmp_path: Path) -> None:
    images = np.random.default_rng(0).random((3, 2, 4, 4))
    center = {"file": _saved(tmp_path, images), "array": "images", "index": [2, 0]}
    problem = _problem(model, tmp_path, region={"kind": "l2", "center": center, "epsilon": 0.25})
    assert [claim.label for claim in problem.claims] == ["index 2", "index 0"]
    region = problem.claims[0].query.region
    assert isinstance(region, Ball) and region.radius == 0.25
    assert np.array_equal(region.center.numpy(), images[2].astype(np.float32)[None].astype(np.float64))
    assert bool((region.clip.lower <= region.center - 0.25).all())


def test_hull_admits_what_float32_makes_of_it(model: Model) -> None:
    points = np.random.default_rng(3).random((3, 32))
    region = _problem(model, region={"kind": "hull", "points": points.tolist()}).claims[0].query.region
    assert isinstance(region, Hull) and region.points.shape == (3, *SHAPE)
    inside = (torch.tensor([[0.2, 0.3, 0.5]], dtype=torch.float64) @ region.points.flatten(1)).reshape(1, *SHAPE)
    assert region.contains(region.inward(inside, torch.float32)[0].double())
    outside = 1.5 * region.points[0] - 0.5 * region.points[1]
    assert not region.contains(outside)


def test_patch_values(model: Model) -> None:
    zero = _problem(model).gates.gates
    assert all(bool((gate.patch.lower == 0).all() and (gate.patch.upper == 0).all()) for gate in zero)
    element = np.arange(12.0).reshape(3, 2, 2) / 10
    values = {"/act/Relu": [0.1, 0.2, 0.3], "relu_2": 0.7}
    given = _problem(model, patching={"kind": "constant", "constant": values}).gates.gates
    assert given[0].patch.lower[0, :, 1, 0].tolist() == [float(np.float32(v)) for v in (0.1, 0.2, 0.3)]
    assert given[1].patch.upper.unique().tolist() == [float(np.float32(0.7))]
    whole = _problem(model, patching={"kind": "mean", "mean": {"/act/Relu": element.tolist(), "relu_2": 0}}).gates.gates
    assert np.array_equal(whole[0].patch.lower[0].numpy(), element.astype(np.float32).astype(np.float64))
    bounds = {"lower": {"/act/Relu": 0, "relu_2": [0, 1, 2, 3, 4]}, "upper": {"/act/Relu": 1, "relu_2": 5}}
    box = _problem(model, patching={"kind": "box", **bounds}).gates.gates[1].patch
    assert box.lower.tolist() == [[0, 1, 2, 3, 4]] and box.upper.tolist() == [[5] * 5]


def test_patch_values_from_inputs(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    images = np.random.default_rng(0).random((300, 2, 4, 4))
    file = {"file": _saved(tmp_path, images), "array": "images"}
    x = torch.tensor(images.astype(np.float32)).double().unsqueeze(1)
    seen = model.graph.evaluate(x, keep=frozenset(NEURONS))
    for kind in ("mean", "constant"):
        for gate in _problem(model, tmp_path, patching={"kind": kind, **file}).gates.gates:
            assert torch.allclose(gate.patch.lower, seen[gate.tensor].mean(0), atol=1e-6)
            assert torch.equal(gate.patch.lower, gate.patch.upper)
            assert torch.equal(gate.patch.lower, gate.patch.lower.float().double()), "values are float32's"
    picked = _problem(model, tmp_path, patching={"kind": "mean", **file, "indices": [4, 5]}).gates.gates[0].patch.lower
    assert torch.allclose(picked, seen["/act/Relu"][4:6].mean(0), atol=1e-6)
    monkeypatch.setattr("specs.patches._QUANTILE_NUMBERS", 900)
    for gate in _problem(model, tmp_path, patching={"kind": "box", **file, "quantiles": [0.05, 0.95]}).gates.gates:
        expected = np.quantile(seen[gate.tensor].numpy(), [0.05, 0.95], axis=0)
        assert np.allclose(gate.patch.lower.numpy(), expected[0], atol=1e-6)
        assert np.allclose(gate.patch.upper.numpy(), expected[1], atol=1e-6)


@pytest.mark.parametrize(
    ("patching", "message"),
    [
        (
            {"kind": "constant", "constant": {"/act/Relu": 0}},
            "spec.yaml $.patching.constant: no values for site 'relu_2', which is in scope",
        ),
        (
            {"kind": "constant", "constant": {"/act/Relu": 0, "relu2": 0}},
            "add 'relu_2'; 'relu2' is there and not in scope",
        ),
        (
            {"kind": "mean", "mean": {"/act/Relu": [1.0, 2.0], "relu_2": 0}},
            "spec.yaml $.patching.mean['/act/Relu']: an array of shape (2)",
        ),
        ({"kind": "constant", "constant": {"/act/Relu": 0, "relu_2": 1e39}}, "$.patching.constant.relu_2: 1e+39"),
        (
            {"kind": "box", "lower": {"/act/Relu": 0, "relu_2": [0, 0, 2, 0, 0]}, "upper": {"/act/Relu": 0, "relu_2": 1}},
            "spec.yaml $.patching.box.lower.relu_2: element 2 is above its upper end",
        ),
    ],
)
def test_refuses_patches(model: Model, patching: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        _problem(model, patching=patching)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("agreement", "message"),
    [
        ({"metric": "output", "outputs": [0, 4], "tolerance": 1}, "$.agreement.outputs[1]: output 4; the model has 4 outputs"),
        ({"metric": "logits", "outputs": [9], "tolerance": 1}, "$.agreement.outputs[0]: output 9"),
        ({"metric": "logit_difference", "target": 4, "against": 0, "tolerance": 1}, "$.agreement.target: output 4"),
        ({"metric": "logit_difference", "target": 0, "against": 7, "tolerance": 1}, "$.agreement.against: output 7"),
    ],
)
def test_refuses_outputs(model: Model, agreement: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as caught:
        _problem(model, agreement=agreement)
    assert message in str(caught.value)


AGREEMENTS: list[Agreement] = [
    Logits(tolerance=0.75),
    Logits(tolerance=0.75, outputs=(3, 1)),
    Logits(norm="l1", tolerance=2.0),
    Logits(norm="l2", tolerance=1.25),
    Logits(norm="l2", tolerance=1.25, outputs=(0, 2)),
    LogitDifference(target=2, against=0, tolerance=1.0),
    Output(outputs=(1,), tolerance=0.5),
]


@pytest.mark.parametrize("agreement", AGREEMENTS, ids=repr)
def test_margin_is_tolerance_less_deviation(agreement: Agreement) -> None:
    random = torch.Generator().manual_seed(0)
    c, g = torch.randn((2, 200, 1, 4), generator=random, dtype=torch.float64)
    margins = agreement_margins(agreement, (1, 4)).at(c, g)
    expected = [agreement.tolerance - deviation(agreement, a, b) for a, b in zip(c, g, strict=True)]
    assert torch.allclose(margins, torch.tensor(expected, dtype=torch.float64), atol=1e-9)


@pytest.mark.parametrize("tolerance", [0.0, 0.5])
def test_top1_margin_is_negative_where_the_claim_fails(tolerance: float) -> None:
    """By brute force, on coarse values so that ties are common: violated means so for some first output of the model."""
    random = torch.Generator().manual_seed(0)
    c, g = torch.randint(0, 4, (2, 2000, 1, 3), generator=random).double() / 2
    margins = agreement_margins(Top1(tolerance=tolerance), (1, 3)).at(c, g).tolist()
    for margin, a, b in zip(margins, c.flatten(1).tolist(), g.flatten(1).tolist(), strict=True):
        violated = any(max(a) - a[t] > tolerance for t in range(3) if b[t] == max(b))
        assert (margin < 0) == violated
        if deviation(Top1(tolerance=tolerance), torch.tensor(a), torch.tensor(b)) > tolerance:
            assert violated, "a replay never shows more than the claim says"


def test_top1_leaves_out_what_is_never_first(model: Model) -> None:
    """In a small region one output is first: a clause for each other output; in a large one, several may be."""
    agreement = {"metric": "top1"}
    near = _problem(model, region={"kind": "linf", "center": 0.5, "epsilon": 1e-4}, agreement=agreement)
    far = _problem(model, region={"kind": "box", "lower": -50.0, "upper": 50.0}, agreement=agreement)
    few, many = near.claims[0].query.margins, far.claims[0].query.margins
    assert isinstance(few, Clauses) and isinstance(many, Clauses)
    assert few.clauses.shape == (3, 2) and len(many.clauses) > 3
    first = int(model.graph(torch.full((1, *SHAPE), 0.5, dtype=torch.float64)).argmax())
    assert bool((few.circuit[:, 0, first] == 1).all())


@pytest.mark.parametrize("tops", [[1], [0, 2], [0, 1, 2, 3]])
def test_top1_of_some_that_can_be_first_claims_the_same_where_they_are(tops: list[int]) -> None:
    """Where the model's first are among `tops`, the margin has the sign of that over all outputs."""
    random = torch.Generator().manual_seed(0)
    c, g = torch.randint(0, 4, (2, 3000, 1, 4), generator=random).double() / 2
    first = g == g.amax(-1, keepdim=True)
    first[..., tops] = False
    c, g = c[~first.flatten(1).any(1)], g[~first.flatten(1).any(1)]
    every, some = (agreement_margins(Top1(tolerance=0.5), (1, 4), chosen).at(c, g) for chosen in (None, tops))
    assert len(c) > 400 and torch.equal(every < 0, some < 0) and bool((some < 0).any())


def test_the_outputs_that_can_be_first_are_found(model: Model) -> None:
    random = torch.Generator().manual_seed(0)
    for radius in (1e-3, 0.2, 3.0):
        spec = {"kind": "linf", "center": 0.5, "epsilon": radius}
        margins = _problem(model, region=spec, agreement={"metric": "top1"}).claims[0].query.margins
        x = 0.5 + radius * (2 * torch.rand((2000, *SHAPE), generator=random, dtype=torch.float64) - 1)
        first = model.graph(x).flatten(1).argmax(1).unique().tolist()
        clauses = margins.clauses if isinstance(margins, Clauses) else torch.zeros((0, 2), dtype=torch.long)
        assert set(first) <= set(margins.circuit[clauses[:, 0]].flatten(1).argmax(1).tolist())


def test_deviation_is_exact() -> None:
    """Where floats round up onto the far side of the tolerance, the exact value decides."""
    c = torch.tensor([3 * 2.0**-40, 4 * 2.0**-40, 1.0], dtype=torch.float64)
    g = torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64)
    assert deviation(Logits(norm="l2", tolerance=0.1), c, g) == 5 * 2.0**-40
    tenth = torch.full((10,), 0.1, dtype=torch.float64)
    total = deviation(Logits(norm="l1", tolerance=1.0), tenth, torch.zeros(10, dtype=torch.float64))
    assert total == float(10 * Fraction(0.1)), "one rounding, of the exact sum"
    root = math.sqrt(2)  # above the real root of 2
    assert Fraction(root) ** 2 > 2
    one = torch.ones(2, dtype=torch.float64)
    assert not deviation(Logits(norm="l2", tolerance=root), one, 0 * one) > root
    assert math.isnan(deviation(Logits(tolerance=1.0), torch.tensor([math.inf, 0.0]), torch.tensor([0.0, 0.0])))
    assert math.isnan(deviation(Top1(), torch.tensor([math.nan, 0.0]), torch.tensor([0.0, 0.0])))
