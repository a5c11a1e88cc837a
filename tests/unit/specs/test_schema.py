"""The published JSON Schemas are those of the records, and say what the records say."""

from __future__ import annotations

from typing import Any

import pytest
from jsonschema import Draft202012Validator

from specs.schema import FOLDER, circuit_schema, spec_schema, texts


@pytest.mark.parametrize("name", sorted(texts()))
def test_published_schemas_are_current(name: str) -> None:
    assert (FOLDER / name).read_text() == texts()[name], "run `python -m specs.schema`"


def spec(**parts: Any) -> dict[str, Any]:
    region = {"kind": "linf", "center": {"file": "a.npz", "index": [1, 2]}, "epsilon": 0.1, "clip": [0, None]}
    agreement = {"metric": "top1"}
    return {"format": "certify.spec/1", "input": region, "patching": {"kind": "zero"}, "agreement": agreement, **parts}


@pytest.mark.parametrize(
    ("document", "valid"),
    [
        (spec(), True),
        (spec(patching={"kind": "mean", "mean": {"relu": [0.5, 1]}}), True),
        (spec(patching={"kind": "mean", "file": "a.npz"}), True),
        (spec(patching={"kind": "box", "box": {"lower": {"a": 0}, "upper": {"a": 1}}}), True),
        (spec(patching={"kind": "box", "lower": {"a": 0}, "upper": {"a": 1}}), True),
        (spec(patching={"kind": "box", "file": "a.npz", "quantiles": [0, 1]}), True),
        (spec(input={"kind": "box", "lower": 0, "upper": [1, 2], "scale": {"mean": 3}}), True),
        (spec(patching={"kind": "box", "lower": {"a": 0}}), False),
        (spec(patching={}), False),
        (spec(input={"kind": "linf", "center": 0}), False),
        (spec(agreement={"metric": "logits"}), False),
        (spec(unknown=1), False),
    ],
)
def test_spec_schema(document: Any, valid: bool) -> None:
    assert Draft202012Validator(spec_schema()).is_valid(document) is valid


def test_circuit_schema() -> None:
    check = Draft202012Validator(circuit_schema())
    good = {"format": "certify.circuit/1", "model": {"path": "a.onnx"}, "scope": {"a": "neuron"}, "kept": {"a": [0, 1]}}
    assert check.is_valid(good)
    for kept in ({"a": [0, 0]}, {"a": [-1]}, {"a": "some"}, []):
        assert not check.is_valid({**good, "kept": kept})
