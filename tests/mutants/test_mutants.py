"""Every planted unsound change is noticed by the law it names; and the laws hold without one."""

from __future__ import annotations

import pytest

from tests.mutants import domains, joint, jumps, operators, patching, programs, searches, streams, tokens
from tests.mutants.battery import LAWS
from tests.mutants.planting import MUTANTS, Mutant

# Imported for what they plant.
assert domains and joint and jumps and operators and patching and programs and searches and streams and tokens


@pytest.mark.parametrize("law", LAWS)
def test_the_law_holds_without_a_mutant(law: str) -> None:
    LAWS[law]()


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_the_mutant_is_noticed(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    mutant.plant(monkeypatch)
    with pytest.raises(AssertionError):
        LAWS[mutant.law]()


def test_there_are_enough() -> None:
    assert len(MUTANTS) >= 10
    assert {mutant.law for mutant in MUTANTS} <= set(LAWS)
