"""Searches on small networks against brute force over all circuits with exact verdicts: results, levels, brackets."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from bounds.backends.milp import Milp
from bounds.query import Clauses
from specs.encode import Problem
from tests.exact.test_kinds import exactly, patching
from tests.nets import asked, random_net
from tests.unit.verify.minimize.tables import TableOracle
from verify.minimize.ascending import ascending
from verify.minimize.brute import Table, table
from verify.minimize.choose import ALGORITHMS
from verify.minimize.marco import marco
from verify.minimize.oracle import LEVELS, Answer, Components, Level, NotMonotone
from verify.search.run import Search
from verify.work.budget import Budget

NEEDS_MONOTONE = {"progression", "quickxplain", "hitting"}
CLEAR = 1e-4
BY_PATTERNS = 6
"""Components up to which exact answers come from every activation pattern; of more, from the mixed-integer program."""


def drawn(kind: str, folder: Path, seed: int, widths: tuple[int, ...]) -> tuple[Problem, Table] | None:
    """A random claim about all circuits of a network, with its exact answers; the tolerance parts them somewhere in the
    middle, clear of every margin."""
    rng = random.Random(seed)
    model = random_net(folder, 2, *widths, 2, seed=seed)
    region = {"kind": "linf", "center": [round(rng.uniform(-0.5, 0.5), 2) for _ in range(2)], "epsilon": 0.1}
    how = patching(kind, widths, rng)
    first = asked(model, region, patching=how)
    size = first.gates.size
    circuits: list[Components] = [frozenset(v for v in range(size) if bits >> v & 1) for bits in range(1 << size)]
    masks = torch.zeros((len(circuits), size), dtype=torch.bool)
    for row, circuit in zip(masks, circuits, strict=True):
        row[sorted(circuit)] = True
    deviations = _by_patterns(first, masks) if size <= BY_PATTERNS else _by_program(first, masks)
    if deviations is None:
        return None
    ranked = sorted(deviations)
    tolerance = round(max(ranked[int(len(ranked) * rng.uniform(0.1, 0.6))], deviations[-1]) + 1e-3, 4)
    if min(abs(d - tolerance) for d in deviations) < CLEAR:
        return None
    problem = asked(model, region, tolerance, patching=how)
    assert isinstance(problem.claims[0].query.margins, Clauses)
    answers = {c: Answer.YES if d < tolerance else Answer.NO for c, d in zip(circuits, deviations, strict=True)}
    return problem, table(TableOracle(answers, size, problem.claims[0].monotone.known))


def _by_patterns(problem: Problem, masks: torch.Tensor) -> list[float] | None:
    margins = [exactly(problem, mask.unsqueeze(0)) for mask in masks]
    return None if None in margins else [-margin for margin in margins if margin is not None]


def _by_program(problem: Problem, masks: torch.Tensor) -> list[float]:
    return (-Milp().open(problem.claims[0].query).bound(masks).margin).tolist()


def check_search(problem: Problem, truth: Table, level: Level, algorithm: str) -> bool:
    """A search ends certified, and is minimal at the level that it claims. Whether it reached the level that was asked."""
    search = Search.over(problem, Budget(60), question_s=20)
    everything = search.oracle.everything
    search.begin(everything)
    order = random.Random(algorithm).sample(range(search.oracle.size), search.oracle.size)
    search.minimize(everything, level, order, algorithm)
    state = search.state
    assert state is not None and truth.answers[state.best] is Answer.YES
    least = min(truth.oracle.cost(circuit) for circuit in truth.faithful)
    assert state.lower <= least <= state.upper == len(state.best)
    reached = search.reached()
    assert truth.minimal(state.best, reached), f"{sorted(state.best)} is not {reached}-minimal"
    if state.standing.smaller is not None:
        assert truth.answers[state.standing.smaller] is Answer.YES
    core = search.core()
    if core is not None:
        assert all(core.members <= circuit for circuit in truth.faithful)
    return LEVELS.index(reached) >= LEVELS.index(level)


def check_all(problem: Problem, truth: Table) -> None:
    """Enumeration finds all minimal circuits, and no others."""
    search = Search.over(problem, Budget(60), question_s=20)
    found = list(marco(search.known) if search.known.monotone else ascending(search.known))
    circuits = [item.members for item in found if item.kind == "circuit"]
    assert len(circuits) == len(set(circuits)) and set(circuits) == truth.minimal_circuits()
    assert all(item.proven for item in found)


def _check(kind: str, folder: Path, seeds: range, widths: tuple[int, ...], wanted: int) -> None:
    done = 0
    for seed in seeds:
        if done == wanted:
            break
        if (found := drawn(kind, folder, seed, widths)) is None:
            continue
        problem, truth = found
        done += 1
        for level in LEVELS:
            assert check_search(problem, truth, level, "auto"), f"seed {seed}: {level} not reached"
        for algorithm in ALGORITHMS:
            if algorithm in NEEDS_MONOTONE and not truth.oracle.monotone:
                with pytest.raises(NotMonotone):
                    check_search(problem, truth, "local", algorithm)
            else:
                check_search(problem, truth, "local", algorithm)
        check_all(problem, truth)
    assert done == wanted, f"{done} networks of {wanted} were drawn"


@pytest.mark.parametrize("kind", ["zero", "closed", "reachable"])
def test_searches_end_where_brute_force_does(kind: str, tmp_path: Path) -> None:
    _check(kind, tmp_path, range(20), (2, 3), 2)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zero", "mean", "box", "closed", "reachable"])
def test_searches_end_where_brute_force_does_on_many(kind: str, tmp_path: Path) -> None:
    _check(kind, tmp_path, range(100, 200), (4, 4), 8)
    _check(kind, tmp_path, range(200, 230), (5, 5), 2)
    _check(kind, tmp_path, range(230, 240), (6, 6), 1)
