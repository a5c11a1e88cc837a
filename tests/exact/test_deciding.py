"""Branch and bound and the mixed-integer backend against the exact margin: a disagreement is a release blocker."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, note, settings
from hypothesis import strategies as st
from torch import Tensor

from bounds.backends.milp import Milp, refusal
from bounds.backends.native import Native
from bounds.query import Query
from bounds.region import Hull
from specs.strategies import cases, describe
from tests.exact.branching import check_branching, shifted
from tests.exact.patterns import TooLarge, exact_margin
from tests.exact.programs import check_program, open_case
from tests.exact.test_exact import SMALL
from tests.laws.examples import share
from verify.branch.run import Branching
from verify.ladder.exact import Exact

Case = tuple[Query, Tensor]


def exact_of(query: Query, mask: Tensor) -> float | None:
    try:
        return exact_margin(query, mask, pieces=200)
    except (TooLarge, NotImplementedError):
        return None


def check_both_ways(query: Query, mask: Tensor, gap: float) -> None:
    exact = exact_of(query, mask[0])
    if exact is not None:
        for by_input in (True, False):
            check_branching(query, mask, exact, gap, by_input)
        check_branching(query, mask, exact, gap, by_input=False, known=True)


@share(1.5)
@given(cases(SMALL, max_circuits=1), st.sampled_from([0.05, 0.3, -0.01, -0.2]))
def test_branch_and_bound_never_passes_the_exact_margin(case: Case, gap: float) -> None:
    note(describe(*case))
    check_both_ways(*case, gap)


def test_branch_and_bound_on_open_queries() -> None:
    """Claims that hold by some margin and that the root leaves open are closed, by splits of activations alone."""
    closed = 0
    for seed in range(25):
        query, mask = open_case(seed)
        exact = exact_of(query, mask[0])
        if exact is not None:
            closed += check_branching(query, mask, exact, 0.05, by_input=False, rounds=40)
            check_branching(query, mask, exact, -0.02, by_input=False)
    assert closed >= 15, f"{closed} closed"


@share(0.5)
@given(cases(SMALL, max_circuits=1))
def test_milp_is_exact(case: Case) -> None:
    query, masks = case
    note(describe(query, masks))
    exact = exact_of(query, masks[0])
    if exact is not None and refusal(query) is None:
        check_program(query, masks, exact)


@pytest.mark.slow
@settings(max_examples=2000)
@given(cases(SMALL, max_circuits=1))
def test_milp_is_exact_on_many(case: Case) -> None:
    query, masks = case
    note(describe(query, masks))
    exact = exact_of(query, masks[0])
    if exact is not None and refusal(query) is None:
        check_program(query, masks, exact)


def check_open(seed: int) -> bool:
    """The exact backend on a query that bounds leave open. Whether there was one."""
    query, mask = open_case(seed)
    exact = exact_of(query, mask[0])
    if exact is None:
        return False
    check_program(query, mask, exact)
    for gap in (1e-5, -1e-5, 1e-6, -1e-6):
        check_near(query, mask, gap * (1 + abs(exact)))
    return True


def test_the_exact_rung_on_open_queries() -> None:
    assert sum(check_open(seed) for seed in range(15)) >= 8, "hardly any had an exact margin"


@pytest.mark.slow
@pytest.mark.parametrize("start", range(0, 2000, 50))
def test_the_exact_rung_on_many_open_queries(start: int) -> None:
    assert sum(check_open(seed) for seed in range(1000 + start, 1050 + start)) >= 20, "hardly any had an exact margin"


def check_near(query: Query, mask: Tensor, gap: float) -> None:
    """With the tolerance moved so that the exact margin is `gap`, the exact rung never proves what does not hold."""
    exact = exact_of(query, mask[0])
    if exact is None or refusal(query) is not None:
        return
    asked = shifted(query, gap - exact)
    native = Native("difference").open(asked)
    forms = native.bound(mask).forms[0]
    trace = native.trace(mask)
    rung = Exact(asked, mask, trace, forms)
    rung.run(lambda: False)
    size = 1e-7 * (1 + abs(exact))  # how exact the reference is
    # What rounding, which bounds are charged with, may leave open: relative to the largest value on the way.
    clear = size + 1e-12 * max(float(box.magnitude.max()) for box in trace.read.values())
    assert rung.ended
    assert rung.bound <= gap + size, f"{rung.bound} proven, the exact margin is {gap}"
    if gap < -size:
        assert rung.bound < 0, "a claim that fails was certified"
    # A hull's points are projected onto it without their rounding: a violation that needs it is not found.
    if gap < -clear and not isinstance(query.region, Hull):
        assert rung.candidates, "a claim that fails was left open"
    if gap > clear:
        assert rung.bound >= 0, f"a claim that holds was left open at {rung.bound}"


@share(0.5)
@given(cases(SMALL, max_circuits=1), st.sampled_from([1e-6, -1e-6, 1e-5, -1e-5, 0.05, -0.05]))
def test_the_exact_rung_near_the_tolerance(case: Case, gap: float) -> None:
    note(describe(*case))
    check_near(*case, gap)


@pytest.mark.slow
@settings(max_examples=2000)
@given(cases(SMALL, max_circuits=1), st.sampled_from([1e-6, -1e-6, 1e-5, -1e-5, 0.05, -0.05]))
def test_the_exact_rung_near_the_tolerance_on_many(case: Case, gap: float) -> None:
    note(describe(*case))
    check_near(*case, gap)


@pytest.mark.slow
@settings(max_examples=1000)
@given(cases(SMALL, max_circuits=1), st.sampled_from([0.02, 0.1, 0.5, -0.001, -0.05, -0.3]))
def test_branch_and_bound_on_many(case: Case, gap: float) -> None:
    note(describe(*case))
    check_both_ways(*case, gap)


def test_a_hopeless_root_is_closed_by_splitting() -> None:
    """`|x| - x` patched in two halves: the root is loose, the splits close it."""
    from bounds.build import Builder
    from bounds.gates import Gate, Gates
    from bounds.ops import Relu
    from bounds.region import Box
    from specs.agreement import Logits
    from specs.margins import agreement_margins

    torch.manual_seed(0)
    b = Builder("x", (1, 3))
    b.dense("x", torch.randn(12, 3), torch.randn(12) / 3, name="h1")
    b.elementwise(Relu(), "h1", name="r1")
    b.dense("r1", torch.randn(12, 12) / 3, torch.randn(12) / 3, name="h2")
    b.elementwise(Relu(), "h2", name="r2")
    b.dense("r2", torch.randn(2, 12), name="y")
    graph = b.build("y")
    zero = torch.zeros((1, 12), dtype=torch.float64)
    gates = Gates((Gate("r1", torch.arange(12).reshape(1, 12), 12, Box(zero, zero)),))
    center = torch.zeros((1, 3), dtype=torch.float64)
    query = Query(graph, gates, Box(center - 0.4, center + 0.4), agreement_margins(Logits(tolerance=0.0), (1, 2)))
    mask = torch.ones((1, 12), dtype=torch.bool)
    mask[0, [2, 5]] = False
    exact = float(Milp().open(query).bound(mask).margin)
    for by_input in (True, False):
        branching = Branching(shifted(query, -exact + 0.4 * abs(exact)), mask)
        branching.by_input = by_input
        branching.root()
        for _ in range(150):
            if not branching.open:
                break
            branching.step()
        assert not branching.open and branching.bound >= 0
