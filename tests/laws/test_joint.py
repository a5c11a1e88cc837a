"""Every joint operator is enclosed by what it says encloses it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bounds.ops
from bounds.ops.base import Joint
from specs.strategies import intervals, joints
from tests.laws.examples import collect, share, subclasses
from tests.laws.joint import before, check_joint

_OPERATORS = collect(joints(), 60)


@pytest.mark.parametrize("cls", subclasses(bounds.ops, Joint), ids=lambda cls: cls.__name__)
def test_every_joint_operator(cls: type[Joint]) -> None:
    ops = [op for op in _OPERATORS if type(op) is cls]
    assert ops, f"specs.strategies draws no {cls.__name__}: add it to joints() in specs/strategies/operators.py"
    for seed, op in enumerate(ops):
        for ends in collect(intervals((2, *before(op))), 4, start=seed):
            check_joint(op, *ends, seed)


@share(2)
@given(st.data(), joints(), st.integers(0, 99))
def test_joint_operators_on_any_box(data: st.DataObject, op: Joint, seed: int) -> None:
    check_joint(op, *data.draw(intervals((2, *before(op)))), seed)


@share(1)
@given(st.data(), joints(), st.integers(0, 99))
def test_joint_planes_in_float32(data: st.DataObject, op: Joint, seed: int) -> None:
    check_joint(op, *data.draw(intervals((2, *before(op)), torch.float32)), seed)
