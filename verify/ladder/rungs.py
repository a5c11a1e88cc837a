"""The rungs of the ladder, an object each: what it is called, what it will cost, and what it does to a round."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

from torch import Tensor

from bounds.backends.base import Backend, BackendRefusal, Bounder
from bounds.backends.native import Native
from verify.ladder.cost import Cost, Work
from verify.ladder.round import Effort, Kind, Round
from verify.witness.attack import attack
from verify.witness.evidence import Evidence
from verify.work.budget import Budget, TimeUp
from verify.work.memory import in_parts

__all__ = ["AttackRung", "BoundRung", "Openings", "PoolRung", "Rung"]

_TOGETHER = 64
"""Circuits bounded in one call; between calls the clock is read."""

_INCLUDED = {"interval": ("interval",), "linear": ("interval", "linear"), "difference": ("interval", "linear", "difference")}


class Rung(ABC):
    """One way of deciding. `prior` is how likely it is to decide a question, before anything is known.

    A rung with `proves` False can only falsify. `run` takes note of what it finds in the evidence, and may be stopped anywhere
    by `TimeUp` or an interrupt.
    """

    name: str
    kind: Kind
    prior: ClassVar[float] = 0.5

    @abstractmethod
    def work(self, climbing: Round) -> Work | None:
        """Predicted work on what is open; None where nothing is known of it."""

    @abstractmethod
    def run(self, climbing: Round, budget: Budget) -> None:
        """Try what is open."""


class PoolRung(Rung):
    """The claim's own witnesses, evaluated on every circuit."""

    name, kind, prior = "witness pool", "pool", 0.3

    def __init__(self, evidence: Evidence, cost: Cost) -> None:
        self.evidence, self.cost = evidence, cost

    def work(self, climbing: Round) -> Work:
        return self.cost.evaluations(len(self.evidence.pool) * len(climbing.open), 1)

    def run(self, climbing: Round, budget: Budget) -> None:
        evidence, which = self.evidence, climbing.open
        held = evidence.pool.points
        if held is None:
            return
        masks = climbing.masks[which].to(evidence.query.graph.device)
        margins, at = evidence.pool.worst(evidence.attackable, masks)
        for i, margin, row in zip(which, margins.tolist(), at.tolist(), strict=True):
            evidence.seen(climbing, i, margin, held[row : row + 1], held=True)


class AttackRung(Rung):
    """One gradient attack, for at most `allowed_s()` seconds."""

    kind, prior = "attack", 0.3

    def __init__(self, evidence: Evidence, cost: Cost, effort: Effort, allowed_s: Callable[[], float]) -> None:
        self.evidence, self.cost, self.effort, self.allowed_s = evidence, cost, effort, allowed_s
        self.name = effort.name

    def work(self, climbing: Round) -> Work:
        effort = self.effort
        rows = effort.restarts * len(climbing.open)
        return self.cost.evaluations(rows * (4 + 3 * effort.steps), 3 * effort.steps)

    def run(self, climbing: Round, budget: Budget) -> None:
        which = climbing.open
        part = Budget(max(min(self.allowed_s(), budget.remaining()), 1e-6))
        in_parts(which, len(which), lambda some: self._attacked(climbing, some, part))

    def _attacked(self, climbing: Round, which: list[int], part: Budget) -> bool:
        """Attack some circuits. Returns False: there is more to do."""
        evidence = self.evidence
        found = attack(
            evidence.attackable,
            climbing.masks[which].to(evidence.query.graph.device),
            seed=evidence.seed,
            restarts=self.effort.restarts,
            steps=self.effort.steps,
            starts=evidence.pool.points,
            expired=lambda: part.expired,
        )
        for row, (i, margin) in enumerate(zip(which, found.margin.tolist(), strict=True)):
            evidence.seen(climbing, i, margin, found.points[row : row + 1])
        return False


class Openings:
    """The backends opened on one claim, by name; and why some refused it."""

    def __init__(self, evidence: Evidence, skip_refusals: bool) -> None:
        self.evidence, self.skip_refusals = evidence, skip_refusals
        self.bounders: dict[str, Bounder] = {}
        self.refusals: dict[str, str] = {}

    def open(self, name: str, backend: Backend) -> Bounder | None:
        """The bounder, None where it refused. Raises: BackendRefusal, unless such are skipped; BackendUnavailable."""
        if name in self.refusals:
            return None
        if name not in self.bounders:
            try:
                opened = backend.open(self.evidence.claim.query)
            except BackendRefusal as refusal:
                self.refuse(name, refusal)
                return None
            self.bounders[name] = opened
        for other in self.bounders.values():
            self.bounders[name].adopt(other)
        return self.bounders[name]

    def stopped(self, name: str) -> None:
        """Take note that a call of a bounder was stopped: what cannot go on is opened anew."""
        bounder = self.bounders.pop(name, None)
        if bounder is not None and (left := bounder.stopped()) is not None:
            self.bounders[name] = left

    def refuse(self, name: str, refusal: BackendRefusal) -> None:
        """Take note of a refusal. Raises: it, unless such are skipped."""
        if not self.skip_refusals:
            raise refusal
        self.refusals[name] = f"{name}: {refusal}"


class BoundRung(Rung):
    """One backend's bounds."""

    def __init__(self, evidence: Evidence, cost: Cost, name: str, backend: Backend, openings: Openings) -> None:
        self.evidence, self.cost, self.backend, self.openings = evidence, cost, backend, openings
        self.opening = name
        self.name = f"{name} bounds"
        self.kind = "exact" if backend.name == "milp" else "bound"

    def work(self, climbing: Round) -> Work | None:
        if not isinstance(self.backend, Native):
            return None
        return self.cost.bounds(self.backend.method, len(climbing.open))

    def includes(self, other: Rung) -> bool:
        """Whether this rung proves all that the other one would, so that the other is worth its time only by being quick."""
        if not (isinstance(other, BoundRung) and isinstance(self.backend, Native) and isinstance(other.backend, Native)):
            return False
        return other is not self and other.backend.method in _INCLUDED[self.backend.method]

    def run(self, climbing: Round, budget: Budget) -> None:
        in_parts(climbing.open, _TOGETHER, lambda part: self._bounded(climbing, part, budget))

    def _bounded(self, climbing: Round, part: list[int], budget: Budget) -> bool:
        """Bound some circuits. Returns whether the backend refused. Raises: TimeUp."""
        if budget.expired:
            raise TimeUp
        bounder = self.openings.open(self.opening, self.backend)
        if bounder is None:
            return True
        masks: Tensor = climbing.masks[part]
        try:
            # Cut off, a bound is worth nothing, and it would be begun anew when the circuit is asked about again.
            with budget.shared():
                bound = bounder.bound(masks)
        except BackendRefusal as refusal:
            self.openings.refuse(self.opening, refusal)
            return True
        except BaseException:
            self.openings.stopped(self.opening)
            raise
        self.evidence.bounded(climbing, part, bound, self.name)
        return False
