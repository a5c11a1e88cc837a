"""Every search against all subsets: what it returns is certified, and stands where it says."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import pytest

from tests.unit.verify.minimize.tables import TableOracle, any_table, monotone_table
from verify.minimize.binary import binary
from verify.minimize.brute import table
from verify.minimize.choose import minimized
from verify.minimize.deletion import deletion
from verify.minimize.hitting import hitting
from verify.minimize.iterated import iterated
from verify.minimize.known import Known
from verify.minimize.marco import marco
from verify.minimize.oracle import LEVELS, Answer, Components, Level, NotMonotone, Oracle, Search, State
from verify.minimize.progression import progression
from verify.minimize.quickxplain import quickxplain
from verify.minimize.standing import standing

Algorithm = Callable[[Oracle, Components, Sequence[int]], Search]


def _cheapest(oracle: Oracle, start: Components, _order: Sequence[int]) -> Search:
    return hitting(oracle, start)


ANY: dict[str, tuple[Algorithm, Level]] = {
    "deletion": (deletion, "none"),
    "iterated": (iterated, "local"),
    "binary": (binary, "none"),
}
MONOTONE: dict[str, tuple[Algorithm, Level]] = {
    "deletion": (deletion, "subset"),
    "iterated": (iterated, "subset"),
    "binary": (binary, "quasi"),
    "progression": (progression, "subset"),
    "quickxplain": (quickxplain, "subset"),
    "hitting": (_cheapest, "cardinal"),
}
SEEDS = range(60)


def _oracle(seed: int, monotone: bool, open_: float = 0.0, weighted: bool = False) -> TableOracle:
    draw = random.Random(seed)
    size = draw.randint(1, 7)
    costs = [draw.choice([1.0, 0.5, 2.0, 3.25]) for _ in range(size)] if weighted else None
    return TableOracle((monotone_table if monotone else any_table)(size, seed, open_), size, monotone, costs, seed)


def _check(oracle: Oracle, states: list[State], least: Level) -> None:
    truth = table(oracle)
    for state in states:
        assert truth.answers[state.best] is Answer.YES, "a circuit that is not certified"
        assert state.upper == oracle.cost(state.best)
        cheapest = min(oracle.cost(c) for c, answer in truth.answers.items() if answer is Answer.YES)
        assert state.lower <= cheapest, "a lower bound above the cheapest circuit"
    found = states[-1].standing
    if found.proven:
        assert truth.minimal(states[-1].best, found.level), f"called {found.level}"
        assert LEVELS.index(found.level) >= LEVELS.index(least), f"only {found.level}"
    else:
        assert found.unresolved and all(truth.answers[c] is Answer.OPEN for c in found.unresolved)


@pytest.mark.parametrize("name", ANY)
def test_searches_of_any_claim(name: str) -> None:
    for seed in SEEDS:
        oracle = _oracle(seed, False, random.Random(seed).choice([0.0, 0.2]))
        order = random.Random(seed).sample(range(oracle.size), oracle.size)
        algorithm, least = ANY[name]
        _check(oracle, list(algorithm(Known(oracle), oracle.everything, order)), least)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("name", MONOTONE)
def test_searches_of_monotone_claims(name: str, weighted: bool) -> None:
    for seed in SEEDS:
        oracle = _oracle(seed, True, 0.0, weighted)
        order = random.Random(seed).sample(range(oracle.size), oracle.size)
        algorithm, least = MONOTONE[name]
        states = list(algorithm(Known(oracle), oracle.everything, order))
        assert states[-1].standing.proven
        _check(oracle, states, least)


@pytest.mark.parametrize("level", LEVELS[1:])
@pytest.mark.parametrize("monotone", [False, True])
def test_a_level_is_reached_where_nothing_stays_open(level: Level, monotone: bool) -> None:
    # Also where no smaller circuit is faithful at all, so that everything is kept.
    for seed in SEEDS:
        oracle = _oracle(seed, monotone)
        states = list(minimized(Known(oracle), oracle.everything, level, range(oracle.size)))
        assert states[-1].standing.proven and states[-1].standing.smaller is None
        _check(oracle, states, level)


@pytest.mark.parametrize("name", MONOTONE)
def test_what_stays_open_makes_it_relative(name: str) -> None:
    """Answers that follow from others may be open in the table: what is claimed is checked against what all of it implies."""
    relative = 0
    for seed in SEEDS:
        oracle = _oracle(seed, True, 0.3)
        order = random.Random(seed).sample(range(oracle.size), oracle.size)
        whole = TableOracle(monotone_table(oracle.size, seed, 0.0), oracle.size, True)
        states = list(MONOTONE[name][0](Known(oracle), oracle.everything, order))
        truth, found = table(whole), states[-1].standing
        assert all(truth.answers[state.best] is Answer.YES for state in states)
        assert all(state.lower <= min(whole.cost(c) for c in truth.faithful) for state in states)
        relative += not found.proven
        if found.proven:
            assert truth.minimal(states[-1].best, found.level)
    assert relative, "nothing stayed open"


@pytest.mark.parametrize("algorithm", [progression, quickxplain, _cheapest])
def test_those_that_need_monotonicity_refuse_without(algorithm: Algorithm) -> None:
    oracle = _oracle(1, False)
    with pytest.raises(NotMonotone, match="needs a claim that is known"):
        list(algorithm(oracle, oracle.everything, range(oracle.size)))
    with pytest.raises(NotMonotone):
        list(marco(oracle))


@pytest.mark.parametrize("monotone", [True, False])
@pytest.mark.parametrize("level", LEVELS)
def test_standings(level: Level, monotone: bool) -> None:
    proven = refuted = 0
    for seed in SEEDS:
        oracle = _oracle(seed, monotone, weighted=seed % 2 == 1)
        truth = table(oracle)
        for circuit in truth.faithful[:: max(1, len(truth.faithful) // 5)]:
            states = list(standing(Known(oracle), circuit, level))
            found, true = states[-1].standing, truth.minimal(circuit, level)
            assert found.proven == true, f"{sorted(circuit)} at {level}: {found}"
            proven, refuted = proven + true, refuted + (not true)
            if not true:
                assert found.smaller is not None and truth.answers[found.smaller] is Answer.YES
                assert oracle.cost(found.smaller) < oracle.cost(circuit)
                assert level == "cardinal" or found.smaller < circuit
    assert proven and (refuted or level == "none")


def test_a_standing_with_open_answers_is_relative() -> None:
    for seed in SEEDS:
        oracle = _oracle(seed, False, 0.3)
        truth = table(oracle)
        circuit = truth.faithful[0]
        for level in LEVELS[1:]:
            found = list(standing(Known(oracle), circuit, level))[-1].standing
            if not found.proven and found.smaller is None:
                assert found.open > 0 and all(truth.answers[c] is Answer.OPEN for c in found.unresolved)
            if found.proven:
                assert truth.minimal(circuit, level)


def test_all_minimal_circuits_and_blocking_sets() -> None:
    for seed in SEEDS:
        oracle = _oracle(seed, True)
        truth = table(oracle)
        items = list(marco(Known(oracle)))
        circuits = [item.members for item in items if item.kind == "circuit"]
        assert set(circuits) == truth.minimal_circuits() and len(circuits) == len(set(circuits))
        blocking = {
            oracle.everything - c
            for c, answer in truth.answers.items()
            if answer is Answer.NO and all(truth.answers[c | {v}] is Answer.YES for v in oracle.everything - c)
        }
        assert {item.members for item in items if item.kind == "blocking"} == blocking
        assert all(item.proven for item in items)


def test_planted_pairs_are_seen_by_the_subset_check_alone() -> None:
    """Every single removal breaks, a double one does not."""
    size = 5
    answers = dict.fromkeys(any_table(size, 0), Answer.NO)
    whole = frozenset(range(size))
    answers[whole] = answers[whole - {1, 3}] = Answer.YES
    oracle = TableOracle(answers, size, False)
    state = list(iterated(Known(oracle), whole, range(size)))[-1]
    assert state.best == whole and state.standing.level == "local" and state.standing.proven
    found = list(standing(Known(oracle), whole, "subset"))[-1].standing
    assert not found.proven and found.smaller == whole - {1, 3}
    assert list(standing(Known(oracle), whole - {1, 3}, "cardinal"))[-1].standing.proven


def test_what_follows_is_not_asked() -> None:
    oracle = TableOracle(monotone_table(6, 3), 6, True)
    known = Known(oracle)
    for circuit in table(oracle).answers:
        known.ask([circuit])
    first = oracle.proofs - 2**6
    assert first < 2**6
    table(known)
    assert oracle.proofs - 2**6 == first
    again = Known(oracle)
    again.learn([(c, Answer.YES) for c in known.certified] + [(c, Answer.NO) for c in known.falsified])
    table(again)
    assert oracle.proofs - 2**6 == first, "what a journal holds decides everything"


def test_a_limit_leaves_the_rest_unresolved() -> None:
    oracle = TableOracle(any_table(7, 5), 7, False)
    whole = oracle.everything
    found = list(standing(Known(oracle), whole, "subset", limit=10))[-1].standing
    assert not found.proven
