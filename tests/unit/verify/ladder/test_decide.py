"""The ladder: what each rung may conclude, and what it must not, whatever a backend answers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from bounds.backends.base import Backend, BackendRefusal, Bounder
from bounds.backends.native import Native
from bounds.query import Bound, Query
from specs.encode import Problem, encode_scope
from specs.model import Model, model_from_module
from specs.record import Origin
from specs.spec import Spec
from verify.ladder.decide import Effort, Ladder, SoundnessAlarm
from verify.ladder.round import Round
from verify.verdict import TIME_UP, UNDECIDED, Certified, Falsified, Unknown, Verdict, conjunction
from verify.work.budget import Budget, TimeUp

Answer = Callable[[Tensor], Sequence[float]]


@dataclass(frozen=True, eq=False)
class Said(Backend):
    """A backend that proves what it is told to, and remembers what it was asked."""

    name: ClassVar[str] = "said"
    answer: Answer
    asked: list[Tensor] = field(default_factory=list[Tensor])

    def open(self, query: Query) -> Bounder:
        return _Saying(self)


@dataclass(frozen=True, eq=False)
class _Saying(Bounder):
    backend: Said

    def bound(self, masks: Tensor) -> Bound:
        self.backend.asked.append(masks)
        margin = torch.tensor(list(self.backend.answer(masks)), dtype=torch.float64)
        return Bound(margin.unsqueeze(1), margin)


@dataclass(frozen=True, eq=False)
class Refusing(Backend):
    name: ClassVar[str] = "refusing"

    def open(self, query: Query) -> Bounder:
        raise BackendRefusal("Softplus at 'act' is not trusted")


def proves(*margins: float) -> Said:
    return Said(lambda masks: [margins[i % len(margins)] for i in range(len(masks))])


@pytest.fixture(scope="module")
def model() -> Model:
    """`y = relu(x) W` with four hidden units that are all on at inputs near 1, so a unit's weights say what its loss costs."""
    first, second = nn.Linear(2, 4), nn.Linear(4, 2)
    with torch.no_grad():
        first.weight[:] = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0], [0.5, 0.5]])
        first.bias[:] = 0
        second.weight[:] = torch.tensor([[1.0, 0.0, 0.5, 0.01], [0.0, 1.0, 0.5, 0.01]])
        second.bias[:] = 0
    return model_from_module(nn.Sequential(first, nn.ReLU(), second), torch.zeros(1, 2))


@pytest.fixture
def problem(model: Model) -> Problem:
    return ask(model, 0.1)


def ask(model: Model, tolerance: float) -> Problem:
    entries: dict[str, Any] = {
        "format": "certify.spec/1",
        "input": {"kind": "linf", "center": [1.0, 1.0], "epsilon": 0.1},
        "patching": {"kind": "zero"},
        "agreement": {"metric": "logits", "tolerance": tolerance},
    }
    spec = Spec.model_validate(entries, context=Origin("spec.yaml", Path(".")))
    return encode_scope({"relu": "neuron"}, spec, model, file="circuit.json", place="$.scope")


def without(*units: int) -> Tensor:
    mask = torch.ones((1, 4), dtype=torch.bool)
    mask[0, list(units)] = False
    return mask


def ladder(problem: Problem, *backends: Backend, **options: Any) -> Ladder:
    named = [(f"rung {i}", backend) for i, backend in enumerate(backends)]
    return Ladder(problem, problem.claims[0], named, **options)


HARMLESS, HARMFUL = without(3), without(0)


def test_certified_by_a_proof(problem: Problem) -> None:
    (decision,) = ladder(problem, proves(0.05)).decide(HARMLESS, Budget(10))
    assert isinstance(decision.verdict, Certified) and decision.verdict.margin == 0.05 and decision.rung == "rung 0 bounds"


@pytest.mark.parametrize("margin", [math.nan, math.inf, -math.inf, -1e-12])
def test_what_is_not_a_finite_margin_of_0_or_more_certifies_nothing(problem: Problem, margin: float) -> None:
    (decision,) = ladder(problem, proves(margin)).decide(HARMLESS, Budget(10))
    assert isinstance(decision.verdict, Unknown) and decision.verdict.reason == UNDECIDED
    assert decision.verdict.bound == (margin if margin == -1e-12 else -math.inf)


def test_a_margin_of_exactly_0_certifies(problem: Problem) -> None:
    (decision,) = ladder(problem, proves(0.0)).decide(HARMLESS, Budget(10))
    assert isinstance(decision.verdict, Certified)


def test_falsified_before_any_proof_is_tried(problem: Problem) -> None:
    backend = proves(0.05)
    (decision,) = ladder(problem, backend).decide(HARMFUL, Budget(10))
    assert isinstance(decision.verdict, Falsified) and not backend.asked
    witness = decision.verdict.witness
    shown = float(np.abs(np.subtract(witness.model_output, witness.circuit_output)).max())
    assert witness.deviation == pytest.approx(shown) and witness.deviation > 0.1 and decision.deviation == witness.deviation


def test_a_violation_that_the_original_does_not_show_is_none(problem: Problem, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.witness.evidence.replay", lambda *_: None)
    (decision,) = ladder(problem, proves(-1.0)).decide(HARMFUL, Budget(10))
    assert isinstance(decision.verdict, Unknown)


def test_each_circuit_of_a_batch_gets_its_own_verdict(problem: Problem) -> None:
    masks = torch.cat([HARMLESS, HARMFUL, without(), without(2)])
    decisions = ladder(problem, Native("interval"), Native("linear")).decide(masks, Budget(30))
    assert [d.verdict.name for d in decisions] == ["certified", "falsified", "certified", "falsified"]


def test_only_what_is_open_goes_up_and_the_best_bound_is_kept(problem: Problem) -> None:
    first, second = proves(-0.5, 0.01), proves(-0.9)
    up = ladder(problem, first, second, efforts=())
    decisions = up.decide(torch.cat([HARMLESS, without(0)]), Budget(10))
    assert [len(masks) for masks in second.asked] == [1]
    assert isinstance(decisions[0].verdict, Unknown) and decisions[0].verdict.bound == -0.5
    assert {name: (count.asked, count.decided) for name, count in up.tally.rungs.items()} == {
        "witness pool": (2, 0), "rung 0 bounds": (2, 1), "rung 1 bounds": (1, 0),
    }  # fmt: skip
    assert up.tally.asked == 2 and up.tally.decided("bound") == 1


def test_a_witness_of_one_circuit_refutes_another_from_the_pool(problem: Problem) -> None:
    up = ladder(problem)
    up.decide(HARMFUL, Budget(10))
    (decision,) = up.decide(without(0, 1), Budget(10))
    assert isinstance(decision.verdict, Falsified) and decision.rung == "witness pool"
    assert up.tally.decided("pool") == 1 and up.tally.decided("attack") == 1


@pytest.mark.parametrize("options", [{}, {"efforts": (Effort("brief", 4, 3),)}])
def test_a_proof_against_what_was_seen_raises_the_alarm(problem: Problem, options: dict[str, Any]) -> None:
    # HARMLESS deviates by 0.011 at most, so no margin above 0.1 is true; the attack has seen it by then.
    with pytest.raises(SoundnessAlarm, match="wrong"):
        ladder(problem, proves(0.5), measure=True, **options).decide(HARMLESS, Budget(10))


def test_a_witness_against_an_earlier_proof_raises_the_alarm(problem: Problem) -> None:
    lies = proves(0.05)
    believing = ladder(problem, lies, efforts=())
    (decision,) = believing.decide(HARMFUL, Budget(10))
    assert isinstance(decision.verdict, Certified)  # nothing has contradicted it yet
    believing.efforts = (Effort("brief", 4, 3),)
    with pytest.raises(SoundnessAlarm):
        believing.decide(HARMFUL, Budget(10))


def test_no_time_is_unknown_and_says_so(problem: Problem) -> None:
    budget = Budget(1e-9)
    (decision,) = ladder(problem, proves(0.05)).decide(HARMLESS, budget)
    assert decision.verdict == Unknown(-math.inf, TIME_UP)


def test_time_that_runs_out_between_circuits_keeps_what_is_decided(problem: Problem) -> None:
    budget = Budget(3600)

    def answer(masks: Tensor) -> Sequence[float]:
        object.__setattr__(budget, "time_s", 1e-9)
        return [0.01] * len(masks)

    decisions = ladder(problem, Said(answer), efforts=()).decide(HARMLESS.repeat(100, 1), budget)
    names = [decision.verdict.name for decision in decisions]
    assert names == ["certified"] * 64 + ["unknown"] * 36
    assert isinstance(decisions[-1].verdict, Unknown) and decisions[-1].verdict.reason == TIME_UP


def test_a_hard_budget_stops_a_step_that_overruns(problem: Problem) -> None:
    def hang(masks: Tensor) -> Sequence[float]:
        clock = Budget(20)
        while not clock.expired:
            pass
        return [0.05] * len(masks)

    budget = Budget(0.3, hard=True)
    (decision,) = ladder(problem, Said(hang), efforts=()).decide(HARMLESS, budget)
    assert decision.verdict == Unknown(-math.inf, TIME_UP) and budget.elapsed < 5
    with pytest.raises(TimeUp), Budget(0.01, hard=True).enforced():
        while True:
            pass


def test_an_interrupt_leaves_what_was_proven(problem: Problem) -> None:
    def stop(_masks: Tensor) -> Sequence[float]:
        raise KeyboardInterrupt

    climbing = Round(HARMLESS)
    with pytest.raises(KeyboardInterrupt):
        ladder(problem, proves(-0.25), Said(stop), efforts=()).climb(climbing, Budget(10))
    assert climbing.decisions("interrupted")[0].verdict == Unknown(-0.25, "interrupted")


def test_refusals(problem: Problem) -> None:
    with pytest.raises(BackendRefusal):
        ladder(problem, Refusing()).open()
    with pytest.raises(BackendRefusal):
        ladder(problem, Refusing()).decide(HARMLESS, Budget(10))
    (decision,) = ladder(problem, Refusing(), skip_refusals=True).decide(HARMLESS, Budget(10))
    assert isinstance(decision.verdict, Unknown) and "Softplus" in decision.verdict.reason
    (decision,) = ladder(problem, Refusing(), proves(0.01), skip_refusals=True).decide(HARMLESS, Budget(10))
    assert isinstance(decision.verdict, Certified)


def test_out_of_memory_is_unknown_and_other_faults_are_raised(problem: Problem) -> None:
    def full(_masks: Tensor) -> Sequence[float]:
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")

    def broken(_masks: Tensor) -> Sequence[float]:
        raise RuntimeError("shapes do not fit")

    (decision,) = ladder(problem, Said(full)).decide(HARMLESS, Budget(10))
    assert isinstance(decision.verdict, Unknown) and "out of memory" in decision.verdict.reason
    with pytest.raises(RuntimeError, match="shapes"):
        ladder(problem, Said(broken)).decide(HARMLESS, Budget(10))


def test_a_batch_that_does_not_fit_is_halved(problem: Problem) -> None:
    """All circuits are decided, and no call that failed is made again."""
    asked: list[int] = []

    def tight(masks: Tensor) -> Sequence[float]:
        asked.append(len(masks))
        if len(masks) > 3:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes")
        return [0.01] * len(masks)

    decisions = ladder(problem, Said(tight), efforts=()).decide(HARMLESS.expand(10, -1), Budget(10))
    assert all(isinstance(decision.verdict, Certified) for decision in decisions)
    assert asked == [10, 5, 3, 3, 3, 1]


def test_measured_deviation_is_that_of_the_original(problem: Problem) -> None:
    (decision,) = ladder(problem, Native("linear"), measure=True).decide(HARMLESS, Budget(10))
    assert isinstance(decision.verdict, Certified)
    # 0.01 * relu(0.5 x1 + 0.5 x2), at x = 1.1
    assert decision.deviation == pytest.approx(0.011, abs=1e-5)
    assert decision.deviation is not None and decision.deviation <= 0.1 - decision.verdict.margin


def test_the_same_seed_gives_the_same_witness(problem: Problem) -> None:
    found: list[Verdict] = [ladder(problem, seed=5).decide(HARMFUL, Budget(60))[0].verdict for _ in range(2)]
    first, second = found
    assert isinstance(first, Falsified) and isinstance(second, Falsified)
    assert (first.witness.input == second.witness.input).all() and first.witness.deviation == second.witness.deviation


def test_verdicts_and_their_conjunction(problem: Problem) -> None:
    (decision,) = ladder(problem).decide(HARMFUL, Budget(10))
    falsified = decision.verdict
    certified, open_ = (Certified(0.2), Certified(0.1)), (Unknown(-1.0, "a"), Unknown(-2.0, "b"))
    assert conjunction(certified) == Certified(0.1)
    assert conjunction([*certified, *open_]) == Unknown(-2.0, "b")
    assert conjunction([*certified, *open_, falsified]) is falsified
    with pytest.raises(ValueError, match="no verdicts"):
        conjunction([])
    for margin in (-1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="certifies nothing"):
            Certified(margin)
    with pytest.raises(ValueError, match="NaN"):
        Unknown(math.nan, "")
    for verdict in (*certified, *open_, falsified):
        assert verdict.meaning.endswith(".") and verdict.meaning.count(". ") == 0


@pytest.mark.parametrize("seconds", [0, -1, math.inf, math.nan])
def test_a_budget_is_a_finite_span(seconds: float) -> None:
    with pytest.raises(ValueError, match="budget"):
        Budget(seconds)
