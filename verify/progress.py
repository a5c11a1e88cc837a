"""What a run says of itself while it runs. How that is shown is `verify.render.progress`'s business."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass

__all__ = ["Progress", "Silent", "Step"]


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


class Progress(ABC):
    """Takes steps as they begin. Must be quick, and must not raise."""

    @abstractmethod
    def show(self, step: Step) -> None:
        """A step begins."""


class Silent(Progress):
    """Shows nothing."""

    def show(self, step: Step) -> None:
        pass
