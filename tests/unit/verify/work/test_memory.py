"""Running out of memory: halved batches, nothing lost, the same answers. And input splitting, whose batches are halved too."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import nn

from bounds.domains import boxes as domain
from bounds.gates import Gates
from bounds.query import Clauses, Query
from bounds.region import Box
from specs.model import model_from_module
from verify.branch.run import Branching
from verify.ladder import boxes
from verify.ladder.boxes import Boxes
from verify.work.memory import in_parts, out_of_memory

NO_GATES = torch.ones((1, 0), dtype=torch.bool)


def question(slack: float, inputs: int = 3) -> Query:
    """That a small network stays above its least sampled value, less `slack` of its spread, on a box."""
    torch.manual_seed(3)
    module = nn.Sequential(nn.Linear(inputs, 12), nn.ReLU(), nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 1))
    graph = model_from_module(module, torch.zeros(1, inputs)).graph
    region = Box(-torch.ones(1, inputs, dtype=torch.float64), torch.ones(1, inputs, dtype=torch.float64))
    seen = graph(region.sample(20_000, torch.Generator().manual_seed(0)))
    least, most = float(seen.min()), float(seen.max())
    one = torch.ones((1, 1, 1), dtype=torch.float64)
    offset = torch.tensor([slack * (most - least) - least], dtype=torch.float64)
    return Query(graph, Gates(()), region, Clauses(torch.zeros_like(one), one, offset, torch.tensor([[0]])))


def test_what_running_out_of_memory_looks_like() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert out_of_memory(caught.value) and out_of_memory(MemoryError()) and out_of_memory(RuntimeError("std::bad_alloc"))
    assert not out_of_memory(RuntimeError("shapes do not fit")) and not out_of_memory(ValueError("not enough memory"))


@pytest.mark.parametrize("fits", range(1, 9))
def test_parts_are_halved_and_all_are_done(fits: int) -> None:
    done: list[int] = []

    def run(part: list[int]) -> bool:
        if len(part) > fits:
            raise MemoryError
        done.extend(part)
        return False

    in_parts(list(range(11)), 8, run)
    assert done == list(range(11))


def test_one_that_does_not_fit_and_other_faults_are_raised() -> None:
    def fails(error: Exception) -> Callable[[list[int]], bool]:
        def run(part: list[int]) -> bool:
            raise error

        return run

    with pytest.raises(MemoryError):
        in_parts([1, 2, 3], 3, fails(MemoryError()))
    with pytest.raises(RuntimeError, match="shapes"):
        in_parts([1, 2, 3], 3, fails(RuntimeError("shapes")))
    asked: list[list[int]] = []
    in_parts([1, 2, 3], 2, lambda part: not asked.append(part))  # enough after the first
    assert asked == [[1, 2]]


@pytest.mark.parametrize("fits", [2, 3, 8])
def test_branch_and_bound_goes_on_with_smaller_batches(fits: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The claim is proven, however few parts fit into memory at once."""
    branching = Branching(question(0.2, inputs=13), NO_GATES, batch=64)
    tuned: Any = branching._tuned
    failed: list[int] = []

    def tight(parts: Any, *rest: Any) -> Any:
        if len(parts) > fits:
            failed.append(len(parts))
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory")
        return tuned(parts, *rest)

    monkeypatch.setattr(branching, "_tuned", tight)
    progress = branching.root()
    assert progress.bound < 0
    for _ in range(100):
        before = progress.bound
        if progress.bound >= 0:
            break
        progress = branching.step()
        assert progress.bound >= before
    assert progress.bound >= 0 and not progress.open
    assert failed and branching.batch <= max(2, fits)


def test_input_splitting_proves_what_is_so_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    holds = Boxes(question(0.01))
    while len(holds.waiting.lower):
        _, values = holds.step()
        assert not len(values) or float(values.min()) >= 0
    assert 0 <= holds.closed <= 0.5

    fails = Boxes(question(-0.01))
    for _ in range(60):
        _, values = fails.step()
        if len(values) and float(values.min()) < 0:
            break
    else:
        raise AssertionError("no counterexample among the points of open boxes")
    assert len(fails.waiting.lower)


def test_boxes_that_are_points_end_and_prove_nothing() -> None:
    query = question(-2.0)
    point = Box(query.region.box().center, query.region.box().center)
    stuck = Boxes(Query(query.graph, query.gates, point, query.margins))
    stuck.step()
    assert not len(stuck.waiting.lower) and stuck.closed < 0


def test_bounds_over_boxes_hold_at_their_points() -> None:
    """Lower bounds of forms on each box lie below what is seen there, and are those of the whole region's domain or better."""
    query = question(0.0)
    generator = torch.Generator().manual_seed(1)
    ends = torch.sort(query.region.sample(40, generator).reshape(20, 2, 1, 3), dim=1).values
    parts = Box(ends[:, 0], ends[:, 1])
    forms = torch.tensor([[[1.0]], [[-2.0]]], dtype=torch.float64)
    least, slopes = domain.bounded(query.graph, parts, forms)
    assert least.shape == (20, 2) and slopes.shape == (20, 2, 1, 3)
    for _ in range(200):
        x = parts.lower + torch.rand(parts.lower.shape, generator=generator, dtype=torch.float64) * (parts.upper - parts.lower)
        y = query.graph(x).flatten(1)
        assert bool((torch.cat([y, -2 * y], 1) >= least).all())
    with pytest.raises(ValueError, match="two or more"):
        domain.bounded(query.graph, Box(parts.lower[:1], parts.upper[:1]), forms)


def test_which_questions_are_split_by_input() -> None:
    assert boxes.BoxRung.fits(question(0.1)) and not boxes.BoxRung.fits(question(0.1, inputs=9))
