"""Claims over finite sets of token sequences."""

from __future__ import annotations

import pytest

from tests.laws.tokens import check_choices, check_deep, check_enumeration, check_halves, check_point_boxes, check_sharp_points


@pytest.mark.parametrize("seed", range(3))
def test_boxes_at_points(seed: int) -> None:
    check_point_boxes(seed)


@pytest.mark.parametrize("seed", range(6))
def test_boxes_at_points_by_backward_bounds(seed: int) -> None:
    check_sharp_points(seed)


@pytest.mark.parametrize("seed", range(3))
def test_enumeration_of_deep_networks(seed: int) -> None:
    check_deep(seed)


@pytest.mark.parametrize("seed", range(6))
def test_enumeration_says_what_brute_force_says(seed: int) -> None:
    check_enumeration(seed)


@pytest.mark.parametrize("seed", range(3))
def test_halves_lose_no_sequence(seed: int) -> None:
    check_halves(seed)


@pytest.mark.parametrize("seed", [1, 2])
def test_branching_says_what_brute_force_says(seed: int) -> None:
    check_choices(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3, 15))
def test_branching_says_what_brute_force_says_of_many(seed: int) -> None:
    check_choices(seed)
