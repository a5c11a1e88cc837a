"""docs/python.md, run."""

from __future__ import annotations

import doctest

import pytest

from tests.golden.conftest import ROOT

PAGE = ROOT / "docs" / "python.md"


def test_the_page_is_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    found = doctest.testfile(str(PAGE), module_relative=False, encoding="utf-8", optionflags=doctest.NORMALIZE_WHITESPACE)
    assert found.failed == 0 and found.attempted > 15
