"""The ladder: pool, attacks, bounds, the exact program, branch and bound; a batch of circuits in, a verdict each out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Literal, TypeAlias

from torch import Tensor

from bounds.backends.base import Backend, Bounder
from bounds.backends.milp import refusal
from bounds.backends.native import Native
from bounds.query import Query
from specs.encode import Claim, Problem
from verify.branch.kept import Branchings
from verify.ladder.boxes import BoxRung
from verify.ladder.close import SPLITTING, Closing, ExactRung
from verify.ladder.cost import Cost
from verify.ladder.enumerate import EnumerationRung
from verify.ladder.identity import IdentityRung, whole
from verify.ladder.round import Decision, Effort, Kind, Round, RungCount, Tally
from verify.ladder.rungs import AttackRung, BoundRung, Openings, PoolRung, Rung
from verify.verdict import TIME_UP, UNDECIDED
from verify.witness.evidence import Evidence, Replayed, SoundnessAlarm
from verify.witness.library import Library
from verify.witness.pool import WitnessPool
from verify.work.beside import cores as cores_here
from verify.work.budget import Budget, TimeUp
from verify.work.memory import out_of_memory

__all__ = ["ATTACK_SHARE", "LONG", "QUICK", "Effort", "Ladder", "Reach", "SoundnessAlarm"]

ATTACK_SHARE = 0.15
"""The most of the budget that looking for witnesses may take, before branch and bound."""

QUICK = Effort("quick attack", 8, 12)
LONG = Effort("long attack", 32, 100)


Reach: TypeAlias = Literal["pool", "look", "proof"]
"""How far up: to the witnesses already held, to the quick attack, or all the way."""


def _silent(_rung: str) -> None:
    pass


class Ladder:
    """Decides circuits on one claim. Keeps the claim's witnesses, opened backends and unfinished branch and bound from call to
    call.

    `problem` is what the claim is part of or, for a question without a circuit, how a point is replayed on the original.
    `backends` are bound rungs by name. With `skip_refusals` a backend that refuses the graph is left out and says so in the
    reason of an unknown; otherwise its refusal is raised. With `measure` the worst point seen of every circuit is replayed, not
    only what violates the claim. With `split` what the bounds leave open goes to the exact program and to branch and bound, on
    a second core to both at once (`cores`: how many may be used; None: those that this process has).

    Rungs are climbed in the order of predicted time over chance to decide, both corrected by what this run has seen
    (`verify.ladder.cost`), in steps of a factor of 2, so that noise does not reorder them. Witnesses already held come first,
    with `measure` the quick attack second. A bound that a dearer one includes is left out where it is not likely enough to save
    it.
    Deterministic for a seed, but for what time cuts off, which order it makes cheapest, and which of two rungs on two cores
    ends first.
    """

    def __init__(
        self,
        problem: Problem | Replayed,
        claim: Claim,
        backends: Sequence[tuple[str, Backend]],
        *,
        seed: int = 0,
        device: str = "cpu",
        tally: Tally | None = None,
        skip_refusals: bool = False,
        measure: bool = False,
        split: bool = False,
        efforts: tuple[Effort, ...] = (QUICK, LONG),
        cores: int | None = None,
    ) -> None:
        self.backends, self.efforts, self.measure, self.split = tuple(backends), efforts, measure, split
        self.tally = Tally() if tally is None else tally
        self.evidence = Evidence(problem, claim, device, seed, measure)
        self._cost = Cost(self.evidence.query, self.tally)
        self._openings = Openings(self.evidence, skip_refusals)
        self._branchings = Branchings()
        self._cores = cores_here() if cores is None else cores

    @property
    def query(self) -> Query:
        """The claim's query in float64, on the ladder's device."""
        return self.evidence.query

    @property
    def pool(self) -> WitnessPool:
        """The claim's witnesses."""
        return self.evidence.pool

    @property
    def library(self) -> Library | None:
        """Inputs that resampled values come from; None where values come from elsewhere."""
        return self.evidence.library

    @property
    def attackable(self) -> Query:
        """The query that attacks move in."""
        return self.evidence.attackable

    def open(self) -> None:
        """Open every backend now, so that one that cannot answer says so before anything is run. Raises: as `climb`."""
        for name, backend in self.backends:
            self._openings.open(name, backend)

    def decide(self, masks: Tensor, budget: Budget, notify: Callable[[str], None] = _silent) -> list[Decision]:
        """A verdict for each circuit. Shapes: `masks` `(circuits, components)` bool. Raises: as `climb`."""
        climbing = Round(masks)
        self.climb(climbing, budget, notify)
        return climbing.decisions()

    def climb(self, climbing: Round, budget: Budget, notify: Callable[[str], None] = _silent, reach: Reach = "proof") -> None:
        """Take a round up the ladder, as far as `reach` says, until all is decided or the budget is spent.

        Guarantees: certified only for a finite proven margin of at least 0; falsified only after a replay on the original
        model. Raises: BackendUnavailable; BackendRefusal (see the class); SoundnessAlarm.
        """
        self.tally.asked += len(climbing.masks)
        attacks_until = self.tally.time_s("attack") + ATTACK_SHARE * budget.remaining()
        closing = Closing(self.evidence, self.tally, self._native, climbing, self._branchings, self._cores)
        rungs = self._rungs(lambda: attacks_until - self.tally.time_s("attack"), closing, climbing.masks)
        rungs = rungs if reach == "proof" else rungs[: 1 if reach == "pool" else 2]
        try:
            with budget.enforced():
                while rungs and climbing.open:
                    if budget.expired:
                        raise TimeUp
                    rungs = self._in_order(rungs, climbing)
                    self._climb(rungs.pop(0), climbing, budget, notify)
                which = climbing.open if self.split and reach == "proof" else []
                for turn, i in enumerate(which):
                    if budget.expired:
                        raise TimeUp
                    notify(SPLITTING)
                    with self._memory(SPLITTING, climbing):
                        closing.run(i, budget.part(1 / (len(which) - turn)))
        except TimeUp:
            climbing.reason = TIME_UP
            return
        if self._openings.refusals and climbing.reason == UNDECIDED:
            climbing.reason = "; ".join(self._openings.refusals.values())

    def _rungs(self, allowed_s: Callable[[], float], closing: Closing, masks: Tensor) -> list[Rung]:
        """All rungs but the last, in the order in which they stand where costs say nothing."""
        evidence, cost = self.evidence, self._cost
        attacks = [AttackRung(evidence, cost, effort, allowed_s) for effort in self.efforts]
        bounds = [BoundRung(evidence, cost, name, backend, self._openings) for name, backend in self.backends]
        exact = [ExactRung(closing, cost)] if self.split and refusal(evidence.claim.query) is None else []
        boxes = [BoxRung(evidence)] if self.split and BoxRung.fits(evidence.claim.query) else []
        every = [EnumerationRung(evidence, cost)] if EnumerationRung.fits(evidence.claim.query) else []
        same = [IdentityRung(evidence, kept)] if (kept := whole(evidence.claim.query, masks)) else []
        return [PoolRung(evidence, cost), *attacks[:1], *same, *every, *bounds, *exact, *attacks[1:], *boxes]

    def _in_order(self, rungs: Sequence[Rung], climbing: Round) -> list[Rung]:
        """The rungs not yet climbed: cheapest, for what it is likely to decide, first. One whose cost is not known keeps its
        place behind the one before it."""
        ranks: list[tuple[float, int, Rung]] = []
        rank = -math.inf
        for place, rung in enumerate(rungs):
            work = rung.work(climbing)
            first = self.measure and isinstance(rung, AttackRung) and rung.effort is self.efforts[0]
            if first or isinstance(rung, PoolRung):
                rank = -math.inf
            elif work is not None:
                ratio = self._cost.seconds(rung.name, work) / self.tally.chance(rung.name, rung.prior)
                rank = float(round(math.log2(max(ratio, 1e-9))))
            ranks.append((rank, place, rung))
        # The exact program is made from the tightest bounds: before them it would cost as much as they, and prove less.
        least = max((rank for rank, _, rung in ranks if isinstance(rung, BoundRung)), default=-math.inf)
        ranks = [(max(rank, least) if isinstance(rung, ExactRung) else rank, i, rung) for rank, i, rung in ranks]
        ordered = [rung for _, _, rung in sorted(ranks, key=lambda entry: entry[:2])]
        return [rung for rung in ordered if not self._idle(rung, ordered, climbing)]

    def _idle(self, rung: Rung, rungs: Sequence[Rung], climbing: Round) -> bool:
        """Whether a bound costs more than it is likely to save of one that includes it."""
        work = rung.work(climbing)
        for other in rungs:
            if isinstance(other, BoundRung) and other.includes(rung) and work is not None:
                more = other.work(climbing)
                assert more is not None
                saved = self.tally.chance(rung.name, rung.prior) * self._cost.seconds(other.name, more)
                if self._cost.seconds(rung.name, work) > saved:
                    return True
        return False

    def _climb(self, rung: Rung, climbing: Round, budget: Budget, notify: Callable[[str], None]) -> None:
        notify(rung.name)
        work, began = rung.work(climbing), time.monotonic()
        with self._memory(rung.name, climbing), self._counted(rung.name, rung.kind, climbing):
            rung.run(climbing, budget)
        if work is not None and not isinstance(rung, PoolRung):
            self._cost.learn(rung.name, work, time.monotonic() - began)

    def _native(self) -> Bounder | None:
        """A bounder of our own that has bounded these circuits most tightly, where there is one."""
        for name, backend in reversed(self.backends):
            if isinstance(backend, Native) and backend.method == "difference":
                return self._openings.open(name, backend)
        return None

    @contextmanager
    def _counted(self, name: str, kind: Kind, climbing: Round) -> Generator[None, None, None]:
        tally = self.tally.rungs.setdefault(name, RungCount(kind))
        before, began = len(climbing.open), time.monotonic()
        tally.asked += before
        try:
            yield
        finally:
            tally.time_s += time.monotonic() - began
            tally.decided += before - len(climbing.open)
            for i, verdict in enumerate(climbing.verdicts):
                if verdict is not None and climbing.rungs[i] is None:
                    climbing.rungs[i] = name

    @contextmanager
    def _memory(self, name: str, climbing: Round) -> Generator[None, None, None]:
        """A rung that runs out of memory on a single circuit goes no further, and says so."""
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            climbing.reason = f"out of memory in {name}"
