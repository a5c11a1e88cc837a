"""Shares with their uncertainty, and whether two methods differ: exact or closed-form, nothing simulated."""

from __future__ import annotations

from collections.abc import Sequence
from math import comb, sqrt
from statistics import NormalDist

__all__ = ["holm", "mcnemar", "wilson"]


def wilson(hits: int, count: int, confidence: float = 0.95) -> tuple[float, float]:
    """The score interval of a share. For several shares that are to hold together at 0.95, ask each at `1 - 0.05 / several`
    (Bonferroni). Raises: ValueError. Source: Wilson 1927."""
    if not 0 <= hits <= count or count < 1 or not 0 < confidence < 1:
        raise ValueError(f"{hits} of {count} at {confidence}")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, shrink = hits / count, 1 + z * z / count
    middle = (share + z * z / (2 * count)) / shrink
    half = z / shrink * sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    # At the ends the formula is exact but for rounding.
    return (0.0 if hits == 0 else max(middle - half, 0.0)), (1.0 if hits == count else min(middle + half, 1.0))


def mcnemar(only_first: int, only_second: int) -> float:
    """The two-sided exact p-value that two methods succeed equally often, from the inputs on which just one of them does.
    Source: McNemar 1947, with the binomial distribution in place of chi-square."""
    count, least = only_first + only_second, min(only_first, only_second)
    tail = sum(comb(count, k) for k in range(least + 1))
    return min(1.0, 2 * tail / 2**count)


def holm(values: Sequence[float]) -> list[float]:
    """p-values corrected for being several, in their order. Source: Holm 1979."""
    order = sorted(range(len(values)), key=lambda i: values[i])
    found, highest = [0.0] * len(values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - rank) * values[i]))
        found[i] = highest
    return found
