"""The last rungs: the exact program forced on, a second thread beside branch and bound, and every way of stopping both."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from specs.encode import Problem
from tests.nets import asked, random_net
from verify.branch.kept import Branchings
from verify.branch.run import Branching
from verify.ladder.close import EXACT, SPLITTING, Closing
from verify.ladder.decide import Ladder
from verify.ladder.exact import Exact
from verify.ladder.round import Round
from verify.verdict import TIME_UP, Certified, Falsified, Unknown
from verify.work.beside import Beside
from verify.work.budget import Budget, TimeUp

REGION = {"kind": "linf", "center": [0.2, -0.1], "epsilon": 0.3}


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Callable[[float], tuple[Problem, torch.Tensor]]:
    """A network that intervals leave far from decided, and one of its circuits; asked with a tolerance."""
    model = random_net(tmp_path_factory.mktemp("net"), 2, 12, 12, 2, seed=4)
    mask = torch.ones((1, 24), dtype=torch.bool)
    mask[0, ::3] = False
    return lambda tolerance: (asked(model, REGION, tolerance), mask)


def deviation(wide: Any) -> float:
    """The exact one, by the exact backend."""
    from bounds.backends.milp import Milp

    problem, mask = wide(0.0)
    return -float(Milp().open(problem.claims[0].query).bound(mask).margin)


def alone(problem: Problem, cores: int = 1) -> Ladder:
    """No attack and no bounds: only the last rungs."""
    return Ladder(problem, problem.claims[0], (), split=True, efforts=(), cores=cores)


def threads() -> int:
    return sum(thread.name == "certify beside" for thread in threading.enumerate())


def test_the_exact_rung_decides_both_ways(wide: Any) -> None:
    true = deviation(wide)
    for factor, kind in ((1.001, Certified), (0.999, Falsified)):
        problem, mask = wide(factor * true)
        up = alone(problem)
        (decision,) = up.decide(mask, Budget(30))
        assert isinstance(decision.verdict, kind) and decision.rung == EXACT
        assert up.tally.decided("exact") == 1 and up.tally.decided("split") == 0


def test_margins_within_rounding_of_zero_are_not_certified_wrongly(wide: Any) -> None:
    true = deviation(wide)
    for gap in (1e-6, -1e-6):
        problem, mask = wide(true + gap)
        (decision,) = alone(problem).decide(mask, Budget(30))
        assert not isinstance(decision.verdict, Certified if gap < 0 else Falsified)


def no_program(monkeypatch: pytest.MonkeyPatch, kinks: int = 0) -> None:
    """As if every program had too many open signs to go first."""
    monkeypatch.setattr("verify.ladder.close.SMALL_KINKS", kinks)


@pytest.mark.parametrize("cores", [1, 2])
def test_branch_and_bound_and_the_program_beside_it(wide: Any, monkeypatch: pytest.MonkeyPatch, cores: int) -> None:
    no_program(monkeypatch)
    problem, mask = wide(1.05 * deviation(wide))
    up = alone(problem, cores)
    began = time.monotonic()
    (decision,) = up.decide(mask, Budget(60))
    wall = time.monotonic() - began
    assert isinstance(decision.verdict, Certified) and decision.rung in (EXACT, SPLITTING)
    assert sum(count.time_s for count in up.tally.rungs.values()) <= wall
    assert threads() == 0


def test_the_first_decision_stops_the_other(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Branch and bound that never ends: the program beside it decides, and is heard."""
    no_program(monkeypatch)
    monkeypatch.setattr("verify.ladder.close.Branching", Endless)
    problem, mask = wide(1.05 * deviation(wide))
    (decision,) = alone(problem, 2).decide(mask, Budget(60))
    assert isinstance(decision.verdict, Certified) and decision.rung == EXACT and threads() == 0


def test_branch_and_bound_stops_the_program(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    no_program(monkeypatch)
    monkeypatch.setattr(Exact, "run", lambda _, expired: wait(expired))
    problem, mask = wide(1.5 * deviation(wide))
    (decision,) = alone(problem, 2).decide(mask, Budget(60))
    assert isinstance(decision.verdict, Certified) and decision.rung == SPLITTING and threads() == 0


class Endless:
    """Branch and bound that proves nothing and always has more to do."""

    bound, open, whole, bytes = -1.0, 1, False, 0

    def __init__(self, query: Any, mask: Any, traced: Any, forms: Any) -> None:
        self.query = query

    def root(self, expired: Callable[[], bool]) -> Any:
        from verify.branch.run import Progress

        self.whole = True
        return Progress(-1.0, 1, 0, self.query.region.box().center.unsqueeze(0))

    def step(self, expired: Callable[[], bool]) -> Any:
        time.sleep(0.01)
        return self.root(expired)


def wait(expired: Callable[[], bool]) -> None:
    while not expired():
        time.sleep(0.005)


@pytest.mark.parametrize("hard", [False, True])
def test_time_up_leaves_no_thread(wide: Any, monkeypatch: pytest.MonkeyPatch, hard: bool) -> None:
    no_program(monkeypatch)
    monkeypatch.setattr("verify.ladder.close.Branching", Endless)
    monkeypatch.setattr(Exact, "run", lambda _, expired: wait(expired))
    problem, mask = wide(1.05 * deviation(wide))
    (decision,) = alone(problem, 2).decide(mask, Budget(1.0, hard))
    assert isinstance(decision.verdict, Unknown) and decision.verdict.reason == TIME_UP and threads() == 0


def test_an_interrupt_leaves_no_thread(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Interrupted(Endless):
        def step(self, expired: Callable[[], bool]) -> Any:
            raise KeyboardInterrupt

    no_program(monkeypatch)
    monkeypatch.setattr("verify.ladder.close.Branching", Interrupted)
    monkeypatch.setattr(Exact, "run", lambda _, expired: wait(expired))
    problem, mask = wide(1.05 * deviation(wide))
    climbing = Round(mask)
    with pytest.raises(KeyboardInterrupt):
        alone(problem, 2).climb(climbing, Budget(60))
    assert threads() == 0


def test_an_error_beside_is_raised_here(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_exact: Exact, _expired: Callable[[], bool]) -> None:
        raise RuntimeError("shapes do not fit")

    no_program(monkeypatch)
    monkeypatch.setattr("verify.ladder.close.Branching", Endless)
    monkeypatch.setattr(Exact, "run", broken)
    problem, mask = wide(1.05 * deviation(wide))
    with pytest.raises(RuntimeError, match="shapes"):
        alone(problem, 2).decide(mask, Budget(60))
    assert threads() == 0


def test_networks_without_a_program_are_attacked_beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("verify.ladder.close.Branching", Endless)
    model = random_net(tmp_path, 2, 4, 2, activation="Sigmoid", seed=1)
    problem = asked(model, REGION, 0.01)
    (decision,) = alone(problem, 2).decide(torch.tensor([[True, False, True, True]]), Budget(60))
    assert isinstance(decision.verdict, Falsified) and threads() == 0


def test_a_block_left_by_any_exception_ends_the_thread() -> None:
    for error in (TimeUp, KeyboardInterrupt, ValueError):
        with pytest.raises(error), Beside(wait):
            raise error
        assert threads() == 0
    with Beside(lambda _: None) as beside:
        while not beside.finished:
            time.sleep(0.001)
    beside.outcome()


def test_a_program_is_made_once(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    original = Closing._made

    def counted(closing: Closing, i: int) -> Exact | None:
        made.append(i)
        return original(closing, i)

    monkeypatch.setattr(Closing, "_made", counted)
    no_program(monkeypatch)
    problem, mask = wide(1.05 * deviation(wide))
    alone(problem, 1).decide(mask, Budget(60))
    assert made == [0]


def test_what_is_left_open_goes_on_where_it_was(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Asked again and again with too little time, branch and bound bounds the whole region once and comes to its end."""
    no_program(monkeypatch)
    roots: list[Branching] = []
    root = Branching.root
    monkeypatch.setattr(Branching, "root", lambda self, expired: roots.append(self) or root(self, expired))  # pyright: ignore[reportUnknownLambdaType]
    monkeypatch.setattr(Exact, "run", lambda _, expired: None)
    problem, mask = wide(1.01 * deviation(wide))
    up, kept, turns = alone(problem), Branchings(), 0
    climbing = Round(mask)
    while climbing.verdicts[0] is None and turns < 1000:
        turns += 1
        Closing(up.evidence, up.tally, lambda: None, climbing, kept, 1).run(0, Budget(1e-6))
    assert isinstance(climbing.verdicts[0], Certified) and climbing.rungs == [SPLITTING]
    assert len(roots) == 1 and turns > 1


def test_branch_and_bound_that_was_cut_off_in_a_step_begins_anew(wide: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    problem, mask = wide(1.01 * deviation(wide))
    query = problem.claims[0].query
    branching, kept = Branching(query, mask, batch=2), Branchings()
    branching.root()
    kept.put(mask, branching)
    assert kept.take(mask, lambda: Branching(query, mask)) is branching
    bounded = Branching._bounded

    def cut(_self: Branching, _parts: Any, _expired: Any) -> Any:
        raise TimeUp

    monkeypatch.setattr(Branching, "_bounded", cut)
    before, parts = branching.bound, branching.open
    with pytest.raises(TimeUp):
        branching.step()
    assert branching.bound <= before and branching.open == parts and not branching.whole
    kept.put(mask, branching)
    monkeypatch.setattr(Branching, "_bounded", bounded)
    assert kept.take(mask, lambda: Branching(query, mask)) is not branching


def test_branchings_make_room(wide: Any) -> None:
    problem, mask = wide(1.01 * deviation(wide))
    query = problem.claims[0].query
    kept, held = Branchings(), [Branching(query, mask) for _ in range(2)]
    for branching in held:
        branching.root()
    kept.room = max(branching.bytes for branching in held)
    other = mask.clone()
    other[0, 1] = ~other[0, 1]
    kept.put(mask, held[0])
    kept.put(other, held[1])
    assert kept.take(other, lambda: Branching(query, mask)) is held[1]
    assert kept.take(mask, lambda: Branching(query, mask)) is not held[0]
