"""Every elementwise operator is enclosed by what it says encloses it."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import bounds.ops
from bounds.ops.base import Elementwise
from specs.strategies import functions, intervals
from tests.laws.elementwise import check_elementwise
from tests.laws.examples import collect, share, subclasses

CLASSES = subclasses(bounds.ops, Elementwise)
Ends = tuple[Tensor, Tensor]


@cache
def _operators() -> list[Elementwise]:
    known: dict[str, Elementwise] = {}
    for op in collect(functions(), 200):
        known.setdefault(repr(op), op)
    return list(known.values())


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_elementwise_operator(cls: type[Elementwise]) -> None:
    ops = [op for op in _operators() if type(op) is cls]
    assert ops, f"specs.strategies draws no {cls.__name__}: add it to functions() in specs/strategies/operators.py"
    for dtype in (torch.float64, torch.float32):
        for seed, ends in enumerate(collect(intervals((12,), dtype), 4)):
            for op in ops:
                check_elementwise(op, *ends, seed)


@share(0.5)
@given(functions(), intervals((8,)), st.integers(0, 99))
def test_elementwise_in_float64(op: Elementwise, ends: Ends, seed: int) -> None:
    check_elementwise(op, *ends, seed)


@share(0.5)
@given(functions(), intervals((8,), torch.float32), st.integers(0, 99))
def test_elementwise_in_float32(op: Elementwise, ends: Ends, seed: int) -> None:
    check_elementwise(op, *ends, seed)
