"""Intervals and tests, against closed forms and scipy."""

from __future__ import annotations

import pytest
from scipy.stats import binomtest

from verify.bench.statistics import holm, mcnemar, wilson


@pytest.mark.parametrize(("hits", "count"), [(0, 10), (1, 10), (5, 10), (10, 10), (47, 50), (50, 50), (1, 1)])
@pytest.mark.parametrize("confidence", [0.9, 0.95, 0.9875])
def test_wilson_is_scipys(hits: int, count: int, confidence: float) -> None:
    expected = binomtest(hits, count).proportion_ci(confidence, method="wilson")
    low, high = wilson(hits, count, confidence)
    assert low == pytest.approx(expected.low, abs=1e-12) and high == pytest.approx(expected.high, abs=1e-12)
    assert 0 <= low <= hits / count <= high <= 1


@pytest.mark.parametrize(("hits", "count", "confidence"), [(-1, 3, 0.95), (4, 3, 0.95), (0, 0, 0.95), (1, 2, 1.0)])
def test_what_is_no_share_is_refused(hits: int, count: int, confidence: float) -> None:
    with pytest.raises(ValueError):
        wilson(hits, count, confidence)


@pytest.mark.parametrize(("first", "second"), [(0, 0), (1, 0), (5, 0), (0, 12), (3, 9), (7, 7)])
def test_mcnemar_is_the_binomial_test(first: int, second: int) -> None:
    expected = 1.0 if first + second == 0 else binomtest(first, first + second).pvalue
    assert mcnemar(first, second) == pytest.approx(expected)


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []
