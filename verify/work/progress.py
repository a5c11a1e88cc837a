"""What a run says of itself while it runs. How that is shown is `verify.render.progress`'s business."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

__all__ = ["Progress", "Silent", "Stage", "Step"]


@dataclass(frozen=True, slots=True)
class Step:
    """The step that begins: `rung` of claim number `claim` of `claims`. `bound` is the best proven margin so far (minus
    infinity: none), `deviation` the largest seen so far."""

    claim: int
    claims: int
    label: str
    rung: str
    bound: float
    deviation: float | None


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a search stands: the best circuit's `size` in a scope of `scope`, the bracket on the least cost, circuits left
    open, questions asked so far, and what it does now."""

    size: int
    scope: int
    lower: float
    upper: float
    unresolved: int
    asked: int
    doing: str


class Progress(ABC):
    """Takes steps as they begin. Must be quick, and must not raise."""

    @abstractmethod
    def show(self, step: Step | Stage) -> None:
        """A step begins, or a search comes to a stage."""


class Silent(Progress):
    """Shows nothing."""

    def show(self, step: Step | Stage) -> None:
        pass
