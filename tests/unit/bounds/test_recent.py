"""Bounders keep what they made: for the same circuits again, for one another, and when they are stopped."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from bounds.backends import native
from bounds.backends.native import Native, NativeBounder
from bounds.backends.recent import Recent
from bounds.query import Query
from tests.nets import asked, random_net

KEPT = torch.tensor([[True, True, False, True, False, True], [False, True, True, True, True, True]])


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often each kind of trace was made."""
    count: Counter[str] = Counter()
    for name in ("model_trace", "circuit_trace", "difference_trace"):
        real = getattr(native, name)

        def counted(*arguments: Any, _real: Any = real, _name: str = name, **named: Any) -> Any:
            count[_name] += 1
            return _real(*arguments, **named)

        monkeypatch.setattr(native, name, counted)
    return count


@pytest.fixture
def query(tmp_path: Path) -> Query:
    region = {"kind": "linf", "center": [0.1, 0.2, 0.3], "epsilon": 0.2}
    return asked(random_net(tmp_path, 3, 3, 3, 2), region).claims[0].query


def _opened(query: Query, method: Literal["linear", "difference"]) -> NativeBounder:
    return Native(method).open(query)


def test_what_two_bounders_share_is_made_once_and_never_stale(query: Query, made: Counter[str]) -> None:
    linear, difference = _opened(query, "linear"), _opened(query, "difference")
    for mask in (KEPT[:1], KEPT[1:], KEPT[:1]):
        for one, other in ((linear, difference), (difference, linear)):
            one.bound(mask)
            other.adopt(one)
        held = difference.trace(mask)
        fresh = _opened(query, "difference").trace(mask)
        assert held is difference.trace(mask)
        for name, box in fresh.value.items():
            assert torch.equal(held.value[name].lower, box.lower) and torch.equal(held.value[name].upper, box.upper)
    # Three bounders of their own beside the two that share.
    assert made == {"model_trace": 4, "circuit_trace": 5, "difference_trace": 5}


def test_a_bounder_that_was_stopped_goes_on_with_the_models_bounds(
    query: Query, made: Counter[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    bounder = _opened(query, "difference")
    real = native.difference_trace

    def stopping(*_: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(native, "difference_trace", stopping)
    with pytest.raises(KeyboardInterrupt):
        bounder.bound(KEPT[:1])
    monkeypatch.setattr(native, "difference_trace", real)
    left = bounder.stopped()
    found = left.bound(KEPT[:1]).margin
    assert made == {"model_trace": 1, "circuit_trace": 1, "difference_trace": 1}
    assert torch.equal(found, _opened(query, "difference").bound(KEPT[:1]).margin)


def test_room_is_made_by_what_was_asked_for_longest_ago(query: Query) -> None:
    bounder = _opened(query, "linear")
    traces = [bounder.trace(mask.unsqueeze(0)) for mask in KEPT]
    recent = Recent(room=1)
    for mask, trace in zip(KEPT, traces, strict=True):
        recent.put("linear", mask.unsqueeze(0), trace)
    assert recent.get("linear", KEPT[:1]) is None and recent.get("linear", KEPT[1:]) is traces[1]
    assert recent.get("difference", KEPT[1:]) is None and recent.get("linear", KEPT) is None
