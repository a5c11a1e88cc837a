"""The circuit that keeps everything is the model: every agreement holds of it, with the tolerance as its margin."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from specs.encode import Problem, encode_scope
from specs.model import Model, model_from_module
from specs.record import Origin
from specs.spec import Spec
from verify.ladder.decide import Ladder
from verify.ladder.identity import whole
from verify.ladder.round import Round
from verify.verdict import Certified, Unknown
from verify.work.budget import Budget


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return model_from_module(nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 3)).eval(), torch.zeros(1, 4))


def asked(model: Model, **agreement: Any) -> Problem:
    entries: dict[str, Any] = {
        "format": "certify.spec/1",
        "input": {"kind": "linf", "center": 0.5, "epsilon": 3.0},
        "patching": {"kind": "zero"},
        "agreement": agreement,
    }
    spec = Spec.model_validate(entries, context=Origin("spec.yaml", Path(".")))
    return encode_scope({"relu": "neuron"}, spec, model, file="spec.yaml")


AGREEMENTS = [
    {"metric": "logits", "tolerance": 0.0},
    {"metric": "logits", "norm": "l1", "tolerance": 0.25},
    {"metric": "logits", "norm": "l2", "tolerance": 0.0},
    {"metric": "logit_difference", "target": 0, "against": 2, "tolerance": 0.0},
    {"metric": "output", "outputs": [1], "tolerance": 0.0},
    {"metric": "top1"},
]


@pytest.mark.parametrize("agreement", AGREEMENTS, ids=str)
def test_nothing_but_identity_is_needed(model: Model, agreement: dict[str, Any]) -> None:
    problem = asked(model, **agreement)
    (decision,) = Ladder(problem, problem.claims[0], ()).decide(problem.mask, Budget(60))
    assert decision.verdict == Certified(agreement.get("tolerance", 0.0)) and decision.rung == "identity"


def test_it_says_nothing_of_a_circuit_that_replaces_one_neuron(model: Model) -> None:
    problem = asked(model, metric="logits", tolerance=0.0)
    masks = torch.ones((2, 6), dtype=torch.bool)
    masks[0, 4] = False
    assert whole(problem.claims[0].query, masks) == [1]
    ladder, climbing = Ladder(problem, problem.claims[0], (), efforts=()), Round(masks)
    ladder.climb(climbing, Budget(60))
    assert climbing.rungs == [None, "identity"]


def test_it_says_nothing_of_a_feature(model: Model) -> None:
    """Such a claim is about the model itself, whose activations keep to a threshold or do not."""
    problem = asked(model, metric="feature", site="linear_1", element=0, below=-100.0)
    (decision,) = Ladder(problem, problem.claims[0], (), efforts=()).decide(problem.mask, Budget(60))
    assert isinstance(decision.verdict, Unknown)


def test_what_a_tolerance_of_rounding_takes_away_is_not_given_back(model: Model) -> None:
    from verify.float32 import in_float32

    problem = in_float32(asked(model, metric="logits", tolerance=0.0))
    (decision,) = Ladder(problem, problem.claims[0], (), efforts=()).decide(problem.mask, Budget(60))
    assert isinstance(decision.verdict, Unknown)
