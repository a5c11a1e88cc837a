"""What a search says of itself holds: against all subsets of a table, open answers among them."""

from __future__ import annotations

import random

from tests.unit.verify.minimize.tables import TableOracle, any_table, monotone_table
from verify.minimize.ascending import ascending
from verify.minimize.brute import Table, table
from verify.minimize.choose import minimized
from verify.minimize.known import Known
from verify.minimize.marco import marco
from verify.minimize.oracle import LEVELS, Answer, State

__all__ = ["check_search"]


def check_search(seed: int) -> None:
    """One random claim, every level: circuits are certified, brackets hold the cheapest, levels called proven are so, and an
    enumeration finds exactly the minimal circuits.

    Of a monotone claim some answers may be open; what follows from others is then known all the same, so that levels are held
    against the whole table, and refutations called for against what may be known.
    """
    draw = random.Random(seed)
    monotone, size, open_ = draw.random() < 0.5, draw.randint(1, 6), draw.choice([0.0, 0.0, 0.3])
    made = monotone_table if monotone else any_table
    costs = [draw.choice([1.0, 0.5, 2.0]) for _ in range(size)] if draw.random() < 0.5 else None
    oracle = TableOracle(made(size, seed, open_), size, monotone, costs, seed)
    truth = table(oracle)
    whole = table(TableOracle(made(size, seed, 0.0), size, monotone, costs)) if monotone else truth
    for level in LEVELS:
        order = draw.sample(range(size), size)
        states = list(minimized(Known(oracle), oracle.everything, level, order))
        for state in states:
            _check_state(state, whole)
        _check_end(states[-1], whole, open_)
    _check_all(oracle, whole, open_)


def _check_state(state: State, truth: Table) -> None:
    assert truth.answers[state.best] is Answer.YES, "a circuit that is not certified"
    faithful = [c for c, answer in truth.answers.items() if answer is not Answer.NO]
    assert state.lower <= min(map(truth.oracle.cost, faithful)), "a lower bound above the cheapest circuit"
    assert state.upper == truth.oracle.cost(state.best)


def _check_end(state: State, truth: Table, open_: float) -> None:
    standing = state.standing
    if standing.smaller is None and standing.proven:
        assert truth.minimal(state.best, standing.level), f"called {standing.level}"
    else:
        assert open_ > 0 and (standing.open or standing.smaller is not None), "everything was decided"


def _check_all(oracle: TableOracle, truth: Table, open_: float) -> None:
    items = list(marco(Known(oracle)) if oracle.monotone else ascending(Known(oracle)))
    circuits = [item.members for item in items if item.kind == "circuit"]
    assert len(circuits) == len(set(circuits))
    assert all(truth.minimal(item.members, "subset") for item in items if item.kind == "circuit" and item.proven)
    if open_ == 0:
        assert set(circuits) == truth.minimal_circuits()
