"""`spec.yaml` into a `Spec`: every kind of region, patching and agreement, and each way in which they can be wrong."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from specs.agreement import LogitDifference, Logits, Output, Top1
from specs.errors import InputError
from specs.load import read_spec
from specs.patching import Bounds, Box, Closed, Constant, Inputs, Mean, Quantiles, Zero
from specs.record import ArrayFile
from specs.region import L2, Hull, Linf
from specs.region import Box as InputBox
from specs.spec import Spec

WHOLE = """
format: certify.spec/1
input:                       # Z
  kind: linf
  center: {file: ../data/mnist.npz, array: images, index: 7}
  epsilon: 1e-2
  clip: [0.0, 1.0]
  scale: {divide: 255, mean: [0.1, 0.2, 0.3], std: 0.5}
patching:
  kind: zero
agreement:
  metric: logits
  norm: linf
  tolerance: 0.5
minimality: none
weights: {}
budget: {time_s: 300}
"""

LINF: dict[str, Any] = {"kind": "linf", "center": [0, 0.5], "epsilon": 0.1}


def document(**parts: object) -> dict[str, Any]:
    agreement = {"metric": "logits", "tolerance": 1}
    return {"format": "certify.spec/1", "input": LINF, "patching": {"kind": "zero"}, "agreement": agreement, **parts}


def read(folder: Path, value: object) -> Spec:
    path = folder / "spec.json"
    path.write_text(json.dumps(value))
    return read_spec(str(path))


def test_the_contract_s_own_example(tmp_path: Path) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(WHOLE)
    spec = read_spec(path)
    region = spec.input
    assert isinstance(region, Linf) and isinstance(region.center, ArrayFile) and region.scale is not None
    assert (region.epsilon, region.clip, region.center.index) == (0.01, (0.0, 1.0), 7)
    assert region.center.file == str(tmp_path / "../data/mnist.npz")
    assert (region.scale.mean, region.scale.std) == ((0.1, 0.2, 0.3), (0.5,))
    assert isinstance(spec.patching, Zero) and isinstance(spec.agreement, Logits)
    assert (spec.minimality, spec.weights, spec.budget.time_s, spec.file) == ("none", {}, 300.0, str(path))


def test_defaults(tmp_path: Path) -> None:
    spec = read(tmp_path, document())
    assert (spec.model, spec.scope, spec.minimality, spec.weights, spec.budget.time_s) == (None, None, "none", {}, 300.0)


def test_discovery_names_model_and_scope(tmp_path: Path) -> None:
    spec = read(tmp_path, document(model={"path": "net.onnx"}, scope={"a": "neuron"}, weights={"a": [1, 2.5], "b": 3}))
    assert spec.model is not None and spec.model.path == str(tmp_path / "net.onnx")
    assert (spec.scope, spec.weights) == ({"a": "neuron"}, {"a": (1.0, 2.5), "b": 3.0})


def test_regions(tmp_path: Path) -> None:
    def region(**parts: object) -> object:
        return read(tmp_path, document(input=parts)).input

    ball = region(kind="l2", center={"file": "a.npz", "index": [1, 2]}, epsilon=0, clip=[None, [1, 1]], layout="hwc")
    assert isinstance(ball, L2) and isinstance(ball.center, ArrayFile)
    assert (ball.center.index, ball.clip, ball.layout) == ((1, 2), (None, (1.0, 1.0)), "hwc")
    box = region(kind="box", lower=0, upper=[[1, 2]])
    assert isinstance(box, InputBox) and (box.lower, box.upper) == (0.0, ((1.0, 2.0),))
    hull = region(kind="hull", points=[[0, 0], [1, 1]])
    assert isinstance(hull, Hull) and hull.points == ((0.0, 0.0), (1.0, 1.0))


def test_patchings_under_their_name_or_beside_the_kind(tmp_path: Path) -> None:
    def patching(**parts: object) -> object:
        return read(tmp_path, document(patching=parts)).patching

    file = str(tmp_path / "a.npz")
    assert patching(kind="mean", mean={"relu": 0.5, "x": {"file": "a.npz"}}) == Mean(
        mean={"relu": 0.5, "x": ArrayFile(file=file)}
    )
    inputs = Inputs(file=file, array="images", indices=(1, 2))
    entries = {"file": "a.npz", "array": "images", "indices": [1, 2]}
    assert patching(kind="mean", mean=entries) == patching(kind="mean", **entries) == Mean(mean=inputs)
    assert patching(kind="constant", constant=entries) == Constant(constant=inputs)
    assert patching(kind="constant", constant={"file": [1, 2]}) == Constant(constant={"file": (1.0, 2.0)})
    ends = {"lower": {"relu": 0}, "upper": {"relu": [1, 2]}}
    bounds = Box(box=Bounds(lower={"relu": 0.0}, upper={"relu": (1.0, 2.0)}))
    assert patching(kind="box", **ends) == patching(kind="box", box=ends) == bounds
    sampled = {"file": "a.npz", "quantiles": [0.01, 0.99]}
    assert patching(kind="box", **sampled) == patching(kind="box", box=sampled)
    assert patching(kind="box", **sampled) == Box(box=Quantiles(file=file, quantiles=(0.01, 0.99)))
    assert patching(kind="closed", closed=LINF) == Closed(closed=Linf(center=(0.0, 0.5), epsilon=0.1))


def test_agreements(tmp_path: Path) -> None:
    def agreement(**parts: object) -> object:
        return read(tmp_path, document(agreement=parts)).agreement

    assert agreement(metric="logits", norm="l2", tolerance=1, outputs=[3]) == Logits(norm="l2", tolerance=1, outputs=(3,))
    difference = LogitDifference(target=3, against=5, tolerance=0)
    assert agreement(metric="logit_difference", target=3, against=5, tolerance=0) == difference
    assert agreement(metric="top1") == Top1(tolerance=0)
    assert agreement(metric="output", outputs=[0], tolerance=2) == Output(outputs=(0,), tolerance=2)


@pytest.mark.parametrize(
    ("parts", "where", "said"),
    [
        ({"input": {**LINF, "epsilon": -0.1}}, "$.input.epsilon", "-0.1; a radius of 0 or more"),
        ({"input": {**LINF, "epsilon": [[0.1], [-1]]}}, "$.input.epsilon[1][0]", "-1.0; a radius of 0 or more"),
        ({"input": {**LINF, "epsilon": "0.1"}}, "$.input.epsilon", "'0.1'; a number"),
        ({"input": {**LINF, "epsilon": True}}, "$.input.epsilon", "true; a number"),
        ({"input": {**LINF, "epsilon": None}}, "$.input.epsilon", "null; a number"),
        ({"input": {**LINF, "kind": "l2", "epsilon": -1}}, "$.input.epsilon", "-1; a number of at least 0"),
        ({"input": {**LINF, "kind": "l2", "epsilon": [1]}}, "$.input.epsilon", "a list; a number"),
        ({"input": {"kind": "linf", "center": 0}}, "$.input", "no key 'epsilon'"),
        ({"input": {"kind": "linf", "center": 0, "epsilom": 1}}, "$.input.epsilom", "unknown key 'epsilom'; use 'epsilon'"),
        ({"input": {**LINF, "kind": "lnf"}}, "$.input.kind", "unknown input region 'lnf'; one of: linf, l2"),
        ({"input": {"kind": "tokens"}}, "$.input", "neither of `positions` and `sequences`; one of them"),
        ({"input": {"kind": "tokens", "positions": "all", "sequences": [[0]]}}, "$.input", "both; one of them"),
        ({"input": {"kind": "tokens", "positions": []}}, "$.input.positions", "a list; a list of alternatives"),
        ({"input": {"kind": "tokens", "positions": [[0], "every"]}}, "$.input.positions[1]", "'every'; a list of token"),
        ({"input": {"kind": "tokens", "positions": [[]]}}, "$.input.positions[0]", "an empty list; at least one token"),
        ({"input": {"kind": "tokens", "positions": [[0], [1, 1]]}}, "$.input.positions[1][1]", "token 1 again"),
        ({"input": {"kind": "tokens", "positions": [[0, -1]]}}, "$.input.positions[0][1]", "token -1; an integer"),
        ({"input": {"kind": "tokens", "positions": "all", "epsilon": -1}}, "$.input.epsilon", "-1; a number of at least 0"),
        ({"input": {"center": 0}}, "$.input", "no `kind`"),
        ({"input": [1]}, "$.input", "a list; a mapping with `kind`"),
        ({"input": {**LINF, "kind": ["linf"]}}, "$.input.kind", "unknown input region a list"),
        ({"input": {**LINF, "center": [[1, 2], [3]]}}, "$.input.center[1]", "shape (1,); the shape of its neighbours, (2,)"),
        ({"input": {**LINF, "center": [1, "2"]}}, "$.input.center[1]", "'2'; a number"),
        ({"input": {**LINF, "center": []}}, "$.input.center", "an empty list"),
        ({"input": {**LINF, "center": {"array": "x"}}}, "$.input.center", "no key 'file'"),
        ({"input": {**LINF, "center": {"file": "x", "idx": 1}}}, "$.input.center.idx", "unknown key 'idx'; use 'index'"),
        ({"input": {**LINF, "center": {"file": "x", "index": -1}}}, "$.input.center.index", "-1; an integer"),
        ({"input": {**LINF, "center": {"file": "x", "index": [0, 1.5]}}}, "$.input.center.index[1]", "index 1.5"),
        ({"input": {**LINF, "center": {"file": "x", "index": []}}}, "$.input.center.index", "an empty list"),
        ({"input": {**LINF, "clip": [1, 0]}}, "$.input.clip", "[1.0, 0.0]; the lower end first"),
        ({"input": {**LINF, "clip": [1]}}, "$.input.clip", "a list; [lowest, highest]"),
        ({"input": {**LINF, "clip": [0, "x"]}}, "$.input.clip[1]", "'x'; a number"),
        ({"input": {**LINF, "scale": {"divide": 0}}}, "$.input.scale.divide", "0; a number greater than 0"),
        ({"input": {**LINF, "scale": {"std": [1, 0]}}}, "$.input.scale.std[1]", "0; a number greater than 0"),
        ({"input": {**LINF, "scale": {"std": -1}}}, "$.input.scale.std", "-1; a number greater than 0"),
        ({"input": {**LINF, "scale": {"mean": []}}}, "$.input.scale.mean", "an empty list"),
        ({"input": {**LINF, "scale": {"mean": [1, 2], "std": [1, 2, 3]}}}, "$.input.scale.std", "3 values, and mean has 2"),
        ({"input": {**LINF, "layout": "nchw"}}, "$.input.layout", "'nchw'; one of: chw, hwc; use 'chw'"),
        ({"patching": {"kind": "zeros"}}, "$.patching.kind", "unknown patching 'zeros'"),
        ({"patching": {"kind": "zero", "value": 0}}, "$.patching.value", "unknown key 'value'"),
        ({"patching": {"kind": "mean"}}, "$.patching", "no key 'mean'"),
        ({"patching": {"kind": "mean", "mean": {"relu": "x"}}}, "$.patching.mean.relu", "'x'; a number"),
        ({"patching": {"kind": "mean", "mean": 3}}, "$.patching.mean", "3; a mapping"),
        ({"patching": {"kind": "mean", "file": "x", "aray": "y"}}, "$.patching.aray", "use 'array'"),
        (
            {"patching": {"kind": "mean", "file": "x", "indices": [0, -2]}},
            "$.patching.indices[1]",
            "-2; a number of at least 0",
        ),
        ({"patching": {"kind": "box", "lower": {}}}, "$.patching", "no key 'upper'"),
        ({"patching": {"kind": "box", "lower": {"a": 1}, "upper": {}}}, "$.patching.upper", "no entry for site 'a'"),
        ({"patching": {"kind": "box", "file": "x", "quantiles": [0.9, 0.1]}}, "$.patching.quantiles", "the lower first"),
        ({"patching": {"kind": "box", "file": "x", "quantiles": [0.1]}}, "$.patching.quantiles", "two numbers"),
        ({"patching": {"kind": "box", "file": "x"}}, "$.patching", "no key 'quantiles'"),
        ({"patching": {"kind": "closed", "closed": {**LINF, "epsilon": -1}}}, "$.patching.closed.epsilon", "0 or more"),
        ({"patching": {"kind": "resample"}}, "$.patching", "no key 'resample'"),
        ({"agreement": {"metric": "logit", "tolerance": 1}}, "$.agreement.metric", "use 'logits'"),
        ({"agreement": {"metric": "logits"}}, "$.agreement", "no key 'tolerance'"),
        ({"agreement": {"metric": "logits", "tolerance": -1}}, "$.agreement.tolerance", "-1; a number of at least 0"),
        ({"agreement": {"metric": "logits", "tolerance": 1, "norm": "max"}}, "$.agreement.norm", "one of: linf, l1, l2"),
        ({"agreement": {"metric": "output", "tolerance": 1}}, "$.agreement", "no key 'outputs'"),
        ({"agreement": {"metric": "output", "tolerance": 1, "outputs": []}}, "$.agreement.outputs", "an empty list"),
        ({"agreement": {"metric": "output", "tolerance": 1, "outputs": [1, 1]}}, "$.agreement.outputs[1]", "output 1 again"),
        ({"agreement": {"metric": "logit_difference", "tolerance": 1, "target": 1, "against": 1}}, "$.agreement.against", "1"),
        ({"minimality": "minimal"}, "$.minimality", "one of: none, quasi, local, subset, cardinal"),
        ({"budget": {"time_s": 0}}, "$.budget.time_s", "0; a number greater than 0"),
        ({"budget": {"time": 1}}, "$.budget.time", "use 'time_s'"),
        ({"weights": {"a": [1, -1]}}, "$.weights.a[1]", "-1; a number greater than 0"),
        ({"weights": {"a": "x"}}, "$.weights.a", "'x'; a number"),
        ({"agreemnt": 1}, "$.agreemnt", "unknown key 'agreemnt'; use 'agreement'"),
        ({"format": 1}, "$.format", "1; one of: certify.spec/1"),
    ],
)
def test_bad_spec_is_one_line_with_its_place(tmp_path: Path, parts: dict[str, Any], where: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        read(tmp_path, document(**parts))
    line = str(caught.value)
    assert line.startswith(f"{tmp_path}/spec.json {where}: ") and "\n" not in line, line
    assert said in line


@pytest.mark.parametrize("written", [".nan", ".inf", "-.inf", "1e999"])
def test_numbers_are_finite(tmp_path: Path, written: str) -> None:
    path = tmp_path / "spec.yaml"
    path.write_text(WHOLE.replace("1e-2", written))
    with pytest.raises(InputError, match=r"\$\.input\.epsilon: .*finite"):
        read_spec(path)
