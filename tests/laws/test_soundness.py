"""No sampled point lies outside any bound, at any tensor: random graphs, circuits, regions and patch boxes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st
from torch import Tensor

from bounds.backends.base import Backend
from bounds.query import Query
from specs.strategies import cases, describe
from tests.laws.backend import backends, check_all_kept, check_batch, check_order, check_sound
from tests.laws.examples import collect, share
from tests.laws.shrink import check_shrink, dense_case
from tests.laws.split import check_split
from tests.laws.trace import check_nested, check_trace

Case = tuple[Query, Tensor]
SEEDS = st.integers(0, 999)


@share(4)
@given(cases(), SEEDS)
def test_points_are_inside_every_box(case: Case, seed: int) -> None:
    note(describe(*case))
    check_trace(*case, seed)


@share(2)
@given(cases(), SEEDS)
def test_points_are_inside_every_box_in_float32(case: Case, seed: int) -> None:
    note(describe(*case))
    check_trace(*case, seed, torch.float32)


@share(1.5)
@given(cases(max_circuits=1), SEEDS)
def test_subproblems_lose_no_point(case: Case, seed: int) -> None:
    note(describe(*case))
    check_split(case[0], case[1][0], seed)


def test_dead_neurons_are_not_missed() -> None:
    """The same examples on every run; enough of them have neurons to drop."""
    gone = [check_shrink(*dense_case(seed), seed) for seed in range(40)]
    assert sum(n > 0 for n in gone) >= 20


@share(2)
@given(cases())
def test_tighter_domains_are_tighter(case: Case) -> None:
    note(describe(*case))
    check_nested(*case)
    check_order(*case)


@pytest.mark.parametrize("backend", backends(), ids=repr)
def test_bounds_hold(backend: Backend) -> None:
    """The same examples for every backend; at least one of them is not refused."""
    answered = [check_sound(backend, *case, seed) for seed, case in enumerate(collect(cases(), 25))]
    assert any(answered)


@pytest.mark.parametrize("backend", backends(), ids=repr)
def test_batches_change_nothing(backend: Backend) -> None:
    for case in collect(cases(max_circuits=4), 8, start=1):
        check_batch(backend, *case)


@pytest.mark.parametrize("backend", [b for b in backends() if b.name == "native"], ids=repr)
def test_bounds_hold_of_many_clauses(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where only clauses that looser bounds leave open are bounded more tightly, as of more than 64."""
    monkeypatch.setattr("bounds.backends.native._FEW", 0)
    for seed, case in enumerate(collect(cases(max_circuits=4), 15, start=2)):
        check_sound(backend, *case, seed)
        check_batch(backend, *case)
        check_order(*case)


@given(cases())
def test_a_circuit_that_keeps_everything_is_the_model(case: Case) -> None:
    note(describe(*case))
    check_all_kept(case[0])


@pytest.mark.slow
@pytest.mark.parametrize("backend", backends(), ids=repr)
def test_bounds_hold_on_many(backend: Backend) -> None:
    """As many as a backend's speed allows: auto_LiRPA traces every query anew, and milp solves a program a form."""

    @settings(max_examples={"lirpa": 60, "milp": 200}.get(backend.name, 500))
    @given(cases(), SEEDS)
    def holds(case: Case, seed: int) -> None:
        note(describe(*case))
        check_sound(backend, *case, seed)
        if backend.name == "native":
            check_batch(backend, *case)

    holds()


@pytest.mark.slow
@settings(max_examples=2000)
@given(cases(), SEEDS)
def test_points_are_inside_every_box_of_many(case: Case, seed: int) -> None:
    note(describe(*case))
    check_trace(*case, seed)
    check_nested(*case)
