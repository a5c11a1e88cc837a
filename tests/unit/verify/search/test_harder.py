"""What questions may cost when they are asked again."""

from __future__ import annotations

import pytest

from verify.search.run import harder


@pytest.mark.parametrize(
    ("question_s", "open_", "remaining_s", "next_s"),
    [
        (1.0, 3, 100.0, 4.0),  # and once more after that
        (30.0, 1, 203.0, 203.0),  # the last time: all there is
        (30.0, 4, 203.0, 120.0),  # too little for all of them: some get enough
        (10.0, 4, 200.0, 50.0),
        (30.0, 2, 40.0, 40.0),
    ],
)
def test_time_is_neither_hoarded_nor_left(question_s: float, open_: int, remaining_s: float, next_s: float) -> None:
    assert harder(question_s, open_, remaining_s) == next_s
