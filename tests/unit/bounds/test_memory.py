"""Bounds in as little memory as they can do with: the same, but for the order of their sums."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from bounds.backends.native import Native
from bounds.domains import refine
from tests.nets import asked, random_net

REGION = {"kind": "linf", "center": [0.2, -0.1, 0.4], "epsilon": 0.3}


@pytest.mark.parametrize("method", ["linear", "difference"])
def test_bounds_do_not_depend_on_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: Any) -> None:
    query = asked(random_net(tmp_path, 3, 16, 16, 16, 2, seed=2), REGION, 0.5).claims[0].query
    masks = torch.rand((7, 48), generator=torch.Generator().manual_seed(0)) < 0.8
    most: list[int] = []
    pulled = refine.linear.pull_back

    def watched(trace: Any, form: Any, *rest: Any, **named: Any) -> Any:
        most.extend(a.numel() for a in form.pending.values())
        return pulled(trace, form, *rest, **named)

    monkeypatch.setattr(refine.linear, "pull_back", watched)
    wide = Native(method, memory=1 << 30).open(query).bound(masks)
    needed, least = max(most), 5 * 8 * 16
    most.clear()
    narrow = Native(method, memory=least).open(query).bound(masks)
    assert torch.allclose(narrow.forms, wide.forms, rtol=0, atol=1e-9) and bool((narrow.margin <= wide.margin + 1e-9).all())
    assert max(most) <= 5 * 16 < needed, "one element of a layer at a time, and the five rows of the margins"
