"""Finite input sets, point by point."""

from __future__ import annotations

import torch

from bounds.enumeration import enumeration
from bounds.region import Box
from bounds.stack import stacked
from bounds.tokens import Tokens


def tokens(*rows: list[bool], radius: float = 0.0) -> Tokens:
    allowed = torch.tensor(rows)
    return Tokens(allowed, (1, *allowed.shape), radius)


def test_all_combinations_in_any_slices() -> None:
    region = tokens([True, False, True], [True, True, True])
    every = enumeration(region)
    assert every is not None and every.count == 6
    whole = every.points(0, 6)
    assert len(whole.flatten(1).unique(dim=0)) == 6 and all(region.contains(x) for x in whole)
    assert torch.equal(torch.cat([every.points(i, min(6, i + 4)) for i in (0, 4)]), whole)


def test_pairs_in_any_slices() -> None:
    first, second = tokens([True, True, False]), tokens([True, True, True])
    every = enumeration(stacked(first, second))
    assert every is not None and every.count == 6
    whole = every.points(0, 6)
    assert whole.shape == (6, 2, 1, 1, 3) and len(whole.flatten(1).unique(dim=0)) == 6
    for size in (1, 2, 4, 5):
        assert torch.equal(torch.cat([every.points(i, min(6, i + size)) for i in range(0, 6, size)]), whole)


def test_what_has_no_list() -> None:
    point = torch.zeros((1, 2), dtype=torch.float64)
    assert enumeration(tokens([True, True], radius=0.1)) is None
    assert enumeration(Box(point, point + 1)) is None
    single = enumeration(Box(point, point))
    assert single is not None and single.count == 1 and torch.equal(single.points(0, 1), point.unsqueeze(0))
