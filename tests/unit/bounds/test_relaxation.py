"""Bounds from multipliers: right whatever the multipliers are, and whatever the solver says."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.sparse import csc_array

from bounds.backends.program import Goal, Kinks
from bounds.backends.relaxation import Relaxation


def goal(seed: int, rows: int = 6, columns: int = 9) -> Goal:
    rng = np.random.default_rng(seed)
    matrix = rng.normal(size=(rows, columns)) * (rng.random((rows, columns)) < 0.6)
    inside = rng.uniform(-1, 1, columns)
    middle = matrix @ inside
    none = np.zeros(0, dtype=np.int64)
    return Goal(
        lower=-np.ones(columns),
        upper=np.ones(columns),
        matrix=csc_array(matrix),
        low=middle - rng.random(rows),
        high=middle + rng.random(rows),
        cost=rng.normal(size=columns),
        constant=0.25,
        kinks=Kinks(none, none, np.zeros(0), none, none, none),
    )


def least(goal: Goal) -> float:
    a = np.vstack([goal.matrix.toarray(), -goal.matrix.toarray()])
    found = linprog(goal.cost, a, np.append(goal.high, -goal.low), bounds=list(zip(goal.lower, goal.upper, strict=True)))
    return float(found.fun) + goal.constant


def never() -> bool:
    return False


@pytest.mark.parametrize("seed", range(20))
def test_the_bound_is_the_optimum_and_never_above_it(seed: int) -> None:
    asked = goal(seed)
    solved = Relaxation(asked).solve(asked.lower, asked.upper, asked.low, asked.high, np.inf, never)
    assert solved.bound == pytest.approx(least(asked), abs=1e-8) and solved.bound <= least(asked) + 1e-9
    assert solved.point is not None and solved.point @ asked.cost + asked.constant == pytest.approx(solved.bound, abs=1e-7)


@pytest.mark.parametrize("seed", range(20))
def test_any_multipliers_give_a_bound(seed: int) -> None:
    """As wrong as a solver may be: what is proven holds."""
    asked, rng = goal(seed), np.random.default_rng(seed)
    relaxation, optimum = Relaxation(asked), least(asked)
    right = relaxation.solve(asked.lower, asked.upper, asked.low, asked.high, np.inf, never).multipliers
    assert right is not None
    for noise in (1e-9, 1e-6, 1e-3, 1.0, 100.0):
        wrong = relaxation._bound(right + noise * rng.normal(size=len(right)), asked.cost, asked.constant)
        assert wrong <= optimum + 1e-12 * (1 + noise)
    assert relaxation._bound(np.full(len(right), np.nan), asked.cost, asked.constant) == -np.inf
    assert relaxation._bound(np.full(len(right), np.inf), asked.cost, asked.constant) == -np.inf


def test_an_empty_part_is_believed_only_on_its_multipliers(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = goal(0)
    relaxation = Relaxation(asked)
    high = asked.high.copy()
    low = asked.low.copy()
    low[0] = high[0] = 1000.0  # out of reach
    assert relaxation.solve(asked.lower, asked.upper, low, high, np.inf, never).bound == np.inf
    monkeypatch.setattr("bounds.backends.relaxation._ray", lambda _: np.zeros(len(low)))
    assert relaxation.solve(asked.lower, asked.upper, low, high, np.inf, never).bound == -np.inf
    monkeypatch.setattr("bounds.backends.relaxation._ray", lambda _: None)
    assert relaxation.solve(asked.lower, asked.upper, low, high, np.inf, never).bound == -np.inf


def test_tighter_ends_and_back_again() -> None:
    asked = goal(3)
    relaxation = Relaxation(asked)
    first = relaxation.solve(asked.lower, asked.upper, asked.low, asked.high, np.inf, never).bound
    tight = relaxation.solve(asked.lower * 0.5, asked.upper * 0.5, asked.low, asked.high, np.inf, never).bound
    again = relaxation.solve(asked.lower, asked.upper, asked.low, asked.high, np.inf, never).bound
    assert tight > first and again == pytest.approx(first, abs=1e-9)


def test_no_time_proves_nothing() -> None:
    asked = goal(1)
    assert Relaxation(asked).solve(asked.lower, asked.upper, asked.low, asked.high, np.inf, lambda: True).bound <= least(asked)
