"""The law of searches, over random claims."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.laws.search import check_search


@given(st.integers(0, 2**32 - 1))
def test_a_search_says_no_more_than_is_so(seed: int) -> None:
    check_search(seed)


@pytest.mark.slow
def test_a_search_says_no_more_than_is_so_on_many() -> None:
    for seed in range(20_000):
        check_search(seed)
