"""A frontier that is stopped half-way."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from specs.load import read_spec
from verify.api import Interrupted
from verify.discover import discover
from verify.found import Found
from verify.frontier import Stopped, frontier

SPEC = Path(__file__).resolve().parents[3] / "benchmarks" / "suites" / "digits" / "mlp_certified" / "spec.yaml"
MODEL = SPEC.parents[2].parent / "models" / "digits_mlp.onnx"


def test_what_was_found_comes_with_the_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Found] = []

    def stopped(*given: Any, **options: Any) -> Found:
        if asked:
            raise Interrupted(asked[0].report, asked[0].circuit)
        asked.append(discover(*given, **options))
        return asked[0]

    monkeypatch.setattr(sys.modules["verify.frontier"], "discover", stopped)
    with pytest.raises(Stopped) as stop:
        frontier(str(MODEL), read_spec(SPEC), "tolerance", [6.0, 3.0, 4.0], timeout_s=20.0)
    assert [point.value for point in stop.value.points] == [3.0, 4.0]
    assert stop.value.points[1].lower <= stop.value.points[0].upper
