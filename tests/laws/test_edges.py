"""Edges do what path patching does, and are bounded soundly under every kind of patching that takes values of its own."""

from __future__ import annotations

import pytest

from tests.laws.edges import check_bounded, check_closed, check_narrowed, check_patched


@pytest.mark.parametrize("seed", range(8))
def test_a_graph_of_edges_is_path_patching(seed: int) -> None:
    check_patched(seed)


def test_what_reads_whole_is_read_once() -> None:
    """Some circuits leave less than half of the nodes."""
    assert 0 < min(left for left in (check_narrowed(seed) for seed in range(6)) if left) < 150


@pytest.mark.parametrize("seed", range(2))
def test_what_is_called_monotone_of_edges_is(seed: int) -> None:
    assert check_closed(seed) >= 1


@pytest.mark.parametrize("seed", [0, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(1, 6))])
def test_edges_are_bounded_soundly(seed: int) -> None:
    check_bounded(seed)
