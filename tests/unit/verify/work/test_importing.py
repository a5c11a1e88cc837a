"""A run that is out of time does not break an import that it is in the middle of."""

from __future__ import annotations

import importlib
import sys
import time
from pathlib import Path

import pytest

from verify.work.budget import Budget, TimeUp
from verify.work.importing import importing


def test_an_import_is_finished_before_time_is_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "slow_to_import.py").write_text("import time\nfor _ in range(30):\n    time.sleep(0.01)\nwhole = True\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    reached = False
    with pytest.raises(TimeUp), Budget(0.05, hard=True).enforced():
        module = importlib.import_module("slow_to_import")
        reached = module.whole
        time.sleep(5)
    assert reached and sys.modules["slow_to_import"].whole
    del sys.modules["slow_to_import"]


def test_elsewhere_nothing_is_imported() -> None:
    assert not importing(sys._getframe())
