"""What is said of monotonicity holds, and the boxes of continuous patching hold what they must."""

from __future__ import annotations

from hypothesis import given, note
from hypothesis import strategies as st
from torch import Tensor

from bounds.query import Query
from specs.strategies import cases, describe, queries
from tests.laws.examples import share
from tests.laws.monotone import check_monotone


@share(0.5)
@given(cases(queries(reachable=False), max_circuits=1), st.integers(0, 99))
def test_what_is_called_monotone_is(case: tuple[Query, Tensor], seed: int) -> None:
    note(describe(*case))
    assert check_monotone(case[0], seed) >= 1
