"""A batch of circuits on its way up the ladder, and the count of what each rung did."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from torch import Tensor

from verify.verdict import UNDECIDED, Unknown, Verdict

__all__ = ["Decision", "Effort", "Kind", "Round", "RungCount", "Tally"]

Kind: TypeAlias = Literal["pool", "attack", "bound", "split", "exact"]


@dataclass(frozen=True, slots=True)
class Effort:
    """How hard one attack tries; `restarts * steps` forward and backward passes a circuit."""

    name: str
    restarts: int
    steps: int


@dataclass(slots=True)
class RungCount:
    """What one rung did so far: questions that reached it, those it decided, seconds spent."""

    kind: Kind
    asked: int = 0
    decided: int = 0
    time_s: float = 0.0


@dataclass(slots=True)
class Tally:
    """What all rungs did, in the order in which they were first climbed. Shared by the ladders of a spec's claims. `speeds`
    holds how much longer each took than predicted (`verify.ladder.cost`)."""

    rungs: dict[str, RungCount] = field(default_factory=dict[str, RungCount])
    asked: int = 0
    speeds: dict[str, float] = field(default_factory=dict[str, float])

    def chance(self, name: str, prior: float) -> float:
        """How likely a rung decides a question that reaches it: what it did so far, with two questions' worth of `prior`."""
        count = self.rungs.get(name)
        return prior if count is None else (count.decided + 2 * prior) / (count.asked + 2)

    def decided(self, kind: Kind) -> int:
        """Questions decided by rungs of a kind."""
        return sum(rung.decided for rung in self.rungs.values() if rung.kind == kind)

    def time_s(self, kind: Kind) -> float:
        """Seconds spent on rungs of a kind."""
        return sum(rung.time_s for rung in self.rungs.values() if rung.kind == kind)


@dataclass(frozen=True, slots=True, eq=False)
class Decision:
    """The verdict on one circuit, the largest `deviation` replayed on the original model, and the `rung` that decided it."""

    verdict: Verdict
    deviation: float | None
    rung: str | None


@dataclass(slots=True, eq=False)
class Round:
    """A batch of circuits on their way up. Whatever stops the climb, `decisions` says what is known by then.

    Shapes: `masks` `(circuits, components)`. `bounds` are the best proven, `seen` the least margins evaluated, `forms` (each
    `(forms,)`, or None) lower bounds of the margins' forms.
    """

    masks: Tensor
    reason: str = UNDECIDED
    verdicts: list[Verdict | None] = field(init=False)
    rungs: list[str | None] = field(init=False)
    bounds: list[float] = field(init=False)
    seen: list[float] = field(init=False)
    deviations: list[float | None] = field(init=False)
    forms: list[Tensor | None] = field(init=False)

    def __post_init__(self) -> None:
        n = len(self.masks)
        self.verdicts, self.rungs, self.deviations = [None] * n, [None] * n, [None] * n
        self.bounds, self.seen, self.forms = [-math.inf] * n, [math.inf] * n, [None] * n

    @property
    def open(self) -> list[int]:
        """Numbers of the circuits without a verdict."""
        return [i for i, verdict in enumerate(self.verdicts) if verdict is None]

    def decisions(self, reason: str | None = None) -> list[Decision]:
        """A verdict each; what is open is unknown, for `reason`."""
        found: list[Decision] = []
        for verdict, bound, deviation, rung in zip(self.verdicts, self.bounds, self.deviations, self.rungs, strict=True):
            found.append(Decision(verdict or Unknown(bound, reason or self.reason), deviation, rung))
        return found
