"""How an unsound change is planted in the real code for the length of one test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

__all__ = ["MUTANTS", "Mutant", "Patch", "changed", "mutant"]

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change and the law that must notice it. `plant` gets a `Patch`, which puts everything back."""

    name: str
    law: str
    plant: Callable[[Patch], None]


MUTANTS: list[Mutant] = []


def mutant(law: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    """Enter a change in the list."""

    def enter(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS.append(Mutant(plant.__name__, law, plant))
        return plant

    return enter


def changed(patch: Patch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """Replace `owner.name` by `change`, which gets the original first."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **given: change(original, *args, **given))
