"""The order of the rungs: predicted time over the chance to decide, and what is not asked again."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from bounds.backends.native import Native
from specs.encode import Problem
from tests.nets import asked, random_net
from verify.ladder.choice import chosen
from verify.ladder.cost import Cost, Work
from verify.ladder.decide import Ladder
from verify.ladder.round import Round, RungCount, Tally
from verify.work.budget import Budget

REGION = {"kind": "linf", "center": [0.2, -0.1], "epsilon": 0.3}


@pytest.fixture
def problem(tmp_path: Path) -> Problem:
    return asked(random_net(tmp_path, 2, 8, 8, 2, seed=1), REGION, 0.3)


def climbed(problem: Problem, tally: Tally | None = None, measure: bool = False) -> list[str]:
    up = Ladder(problem, problem.claims[0], chosen("auto", "cpu"), tally=tally, split=True, measure=measure, cores=1)
    names: list[str] = []
    mask = torch.ones((1, 16), dtype=torch.bool)
    mask[0, ::2] = False
    up.decide(mask, Budget(30), names.append)
    return names


def test_cheap_before_dear(problem: Problem) -> None:
    assert climbed(problem)[:2] == ["witness pool", "interval bounds"]


def test_the_quick_attack_comes_first_where_deviations_are_measured(problem: Problem) -> None:
    assert climbed(problem, measure=True)[:2] == ["witness pool", "quick attack"]


def test_what_never_decided_waits(problem: Problem) -> None:
    never = ("interval bounds", "linear bounds", "difference bounds", "exact")
    tally = Tally({name: RungCount("bound", 10000, 0) for name in never} | {"quick attack": RungCount("attack", 1000, 1000)})
    assert climbed(problem, tally)[:2] == ["witness pool", "quick attack"]


def test_a_bound_that_another_includes_is_left_out_where_it_saves_nothing(problem: Problem) -> None:
    tally = Tally({"linear bounds": RungCount("bound", 10000, 0), "quick attack": RungCount("attack", 10000, 0)})
    assert "linear bounds" not in climbed(problem, tally)


def test_predictions_follow_what_was_measured(problem: Problem) -> None:
    cost = Cost(problem.claims[0].query, Tally())
    work = Work(10, 1e6)
    before = cost.seconds("x", work)
    for _ in range(20):
        cost.learn("x", work, 100 * before)
    assert cost.seconds("x", work) == pytest.approx(100 * before, rel=0.01) and cost.seconds("y", work) == before
    predicted = [cost.seconds("y", cost.bounds(method, 4)) for method in ("interval", "linear", "difference")]
    assert predicted == sorted(predicted)


def test_bounds_shared_between_methods_are_the_same(problem: Problem) -> None:
    """What one method takes over from another changes nothing that is proven."""
    query = problem.claims[0].query
    masks = torch.rand((5, 16), generator=torch.Generator().manual_seed(0)) < 0.5
    interval, linear, difference = Native("interval"), Native("linear"), Native("difference")
    for first, second in ((linear, difference), (difference, linear), (interval, linear)):
        one, other = first.open(query), second.open(query)
        one.bound(masks[:1])
        one.bound(masks)
        other.adopt(one)
        assert torch.equal(other.bound(masks).margin, second.open(query).bound(masks).margin)
        assert torch.equal(other.bound(masks[1:3]).margin, second.open(query).bound(masks[1:3]).margin)
    climbing = Round(masks)
    assert climbing.forms == [None] * 5
