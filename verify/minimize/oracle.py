"""What a search may ask of a claim, what it gets, and what it says of where it stands."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

__all__ = [
    "LEVELS",
    "Answer",
    "Components",
    "Level",
    "Masks",
    "NotMonotone",
    "Oracle",
    "Search",
    "Standing",
    "State",
    "implies",
]

Components: TypeAlias = frozenset[int]
"""A circuit, by the numbers `0..size-1` of the components that it keeps."""

Masks: TypeAlias = npt.NDArray[np.bool_]
"""Many circuits, `(count, size)`, True for kept."""

Level: TypeAlias = Literal["none", "quasi", "local", "subset", "cardinal"]

LEVELS: tuple[Level, ...] = ("none", "quasi", "local", "subset", "cardinal")
"""Weakest first; each implies those before it (THEORY section 4)."""


def implies(reached: Level, level: Level) -> bool:
    """Whether what stands at one level stands at another."""
    return LEVELS.index(reached) >= LEVELS.index(level)


class Answer(Enum):
    """Whether a circuit is faithful: shown, refuted by a replayed witness, or neither within what was spent."""

    YES = "certified"
    NO = "falsified"
    OPEN = "unknown"


class NotMonotone(ValueError):
    """An algorithm whose conclusions need a monotone claim was given one that is not known to be."""


class Oracle(ABC):
    """One claim about all circuits of a scope. `monotone`: whether a faithful circuit makes every larger one faithful."""

    size: int
    monotone: bool
    costs: tuple[float, ...]

    @abstractmethod
    def ask(self, candidates: Sequence[Components], thorough: bool = True) -> list[Answer]:
        """An answer for each circuit. What is not `thorough` looks for witnesses only, cheaply, and proves nothing new."""

    def refuted(self, masks: Masks) -> Masks:
        """Which of many circuits are refuted by what is at hand already. Shapes: `(count, size)` to `(count,)`."""
        answers = self.ask([frozenset(np.flatnonzero(row).tolist()) for row in masks], thorough=False)
        return np.array([answer is Answer.NO for answer in answers], dtype=bool)

    def masks(self, circuits: Sequence[Components]) -> Masks:
        """Circuits as rows. Shape: `(count, size)`."""
        masks = np.zeros((len(circuits), self.size), dtype=bool)
        for row, circuit in zip(masks, circuits, strict=True):
            row[list(circuit)] = True
        return masks

    @property
    def everything(self) -> Components:
        """The circuit that keeps all."""
        return frozenset(range(self.size))

    def cost(self, circuit: Iterable[int]) -> float:
        """Number of components, or their total weight."""
        return sum(self.costs[i] for i in circuit)

    def faithful(self, circuit: Components) -> bool:
        """Whether a circuit is certified."""
        return self.ask([circuit])[0] is Answer.YES


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a certified circuit stands: `level` holds, `proven` by witnesses alone or relative to `unresolved`, the circuits
    that it needs refuted and that are only not certified. `smaller`: a certified circuit that shows that `level` fails."""

    level: Level
    proven: bool
    unresolved: tuple[Components, ...] = ()
    smaller: Components | None = None
    count: int | None = None
    """How many are unresolved, where that is more than `unresolved` lists."""

    @property
    def open(self) -> int:
        """How many circuits are unresolved."""
        return len(self.unresolved) if self.count is None else self.count


@dataclass(frozen=True, slots=True)
class State:
    """A search at one moment. `best` is certified; every faithful circuit costs at least `lower`, and the cheapest at most what
    `best` costs (`upper`). `lower` rests on witnesses alone."""

    best: Components
    upper: float
    lower: float = 0.0
    standing: Standing = field(default_factory=lambda: Standing("none", True))
    doing: str = ""


Search: TypeAlias = Iterator[State]
"""A search tells its state as it goes; the last one is its result, and any one before it an anytime answer."""


def needs_monotone(oracle: Oracle, algorithm: str) -> None:
    """Raises: NotMonotone: the claim is not known to be monotone."""
    if not oracle.monotone:
        raise NotMonotone(f"{algorithm} needs a claim that is known to be monotone; use iterated deletion or exhaustive search")


def without(circuit: Components, removed: Collection[int] | int) -> Components:
    """The circuit less some components."""
    return circuit - ({removed} if isinstance(removed, int) else frozenset(removed))
