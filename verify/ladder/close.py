"""The last rungs, one circuit after another: the exact program, branch and bound; on a second core one beside the other."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from itertools import count

import torch
from torch import Tensor

from bounds.backends.base import Bounder
from bounds.backends.milp import Candidate, refusal
from bounds.backends.native import Native, NativeBounder
from verify.branch.kept import Branchings
from verify.branch.run import Branching
from verify.ladder.cost import Cost, Work
from verify.ladder.exact import MOST_KINKS, SMALL_KINKS, Exact
from verify.ladder.round import Kind, Round, RungCount, Tally
from verify.ladder.rungs import Rung
from verify.verdict import TIME_UP
from verify.witness.attack import Found, attack
from verify.witness.evidence import Evidence
from verify.witness.pool import Points, free_gates
from verify.work.beside import Beside
from verify.work.budget import Budget

__all__ = ["EXACT", "SPLITTING", "Closing", "ExactRung"]

EXACT, SPLITTING, DEEP = "exact", "splitting", "attack beside"

_LOOK = 8
"""Steps of branch and bound from one search for a witness to the next."""

_POLL_S = 0.01

_ALONE = 0.5
"""The most of a circuit's time that the exact rung takes before branch and bound gets its turn."""


class Closing:
    """Decides what bounds left open, as far as the budget goes.

    Branch and bound runs here; on a second core the exact program, or where there is none (no piecewise-linear network) a long
    attack, runs beside it, and the first decision stops the other. On one core the exact program has its turn first, for half
    of the time. Each rung's time in the tally is wall-clock time; that of a stretch that two share is split between them by the
    processor time that they took. Made for one round; programs are kept for it. A circuit left open by branch and bound is put
    to `branchings`, and goes on from there when it is asked about again.
    """

    def __init__(
        self,
        evidence: Evidence,
        tally: Tally,
        bounder: Callable[[], Bounder | None],
        climbing: Round,
        branchings: Branchings,
        cores: int,
    ) -> None:
        self.evidence, self.tally, self.bounder, self.climbing = evidence, tally, bounder, climbing
        self.branchings, self.cores = branchings, cores
        self._programs: dict[int, Exact | None] = {}

    def quick(self, i: int, part: Budget) -> None:
        """The exact program of one circuit, if it has one with few open signs; for half of the time at most."""
        exact = self._program(i)
        if exact is not None and exact.kinks <= SMALL_KINKS:
            self._alone(i, exact, part.part(_ALONE))

    def run(self, i: int, part: Budget) -> None:
        """Branch and bound on one circuit, with what may run beside it. Raises: SoundnessAlarm; TimeUp."""
        exact = self._program(i)
        if exact is not None and exact.ended:
            exact = None
        if self.cores >= 2:
            deep = _Deep(self.evidence, self.climbing, i)
            task = _Task(DEEP, "attack", deep.run, deep.take)
            self._race(i, part, task if exact is None else _Task(EXACT, "exact", exact.run, lambda: self._take(i, exact), 0))
            return
        if exact is not None and exact.steps == 0:
            with self._counted(EXACT, "exact", i, asked=0):
                self._alone(i, exact, part.part(_ALONE))
        if self.climbing.verdicts[i] is None:
            with self._counted(SPLITTING, "split", i):
                self._split(i, part, None)

    def _alone(self, i: int, exact: Exact, allowed: Budget) -> None:
        exact.run(lambda: allowed.expired)
        self._take(i, exact)

    def _program(self, i: int) -> Exact | None:
        """The circuit's exact program, from bounds already known; None where it has none, or too large a one."""
        if i not in self._programs:
            self._programs[i] = self._made(i)
        return self._programs[i]

    def _made(self, i: int) -> Exact | None:
        query, mask = self.evidence.claim.query, self.climbing.masks[i : i + 1]
        if refusal(query) is not None:
            return None
        bounder = self._tightest
        forms = self.climbing.forms[i]
        forms = bounder.bound(mask).forms[0] if forms is None else forms
        exact = Exact(query, mask, bounder.trace(mask), forms)
        return exact if exact.kinks <= MOST_KINKS else None

    @cached_property
    def _tightest(self) -> NativeBounder:
        """The ladder's own bounder in float64, so that bounds are made once; else one for what is done here."""
        bounder = self.bounder()
        if isinstance(bounder, NativeBounder) and bounder.options.dtype == torch.float64:
            return bounder
        return Native("difference", device=str(self.evidence.query.graph.device)).open(self.evidence.claim.query)

    def _take(self, i: int, exact: Exact) -> None:
        """Take note of what the exact program found: the margin proven, and points that violate the claim."""
        device = self.evidence.query.graph.device
        for candidate in exact.candidates:
            points = Points(candidate.x.to(device), self._free(candidate, device))
            self.evidence.seen(self.climbing, i, candidate.value, points)
            if self.climbing.verdicts[i] is None:
                self._descend(i, points, 0)
        if self.climbing.verdicts[i] is None:
            self.evidence.proved(self.climbing, i, exact.bound, EXACT)

    def _free(self, candidate: Candidate, device: torch.device) -> dict[str, Tensor]:
        names = {gate.tensor for gate in free_gates(self.evidence.attackable.gates)}
        return {name: value.to(device) for name, value in candidate.patches.items() if name in names}

    def _race(self, i: int, part: Budget, task: _Task) -> None:
        """Branch and bound here, `task` beside it. The first decision stops the other."""
        began, mine, decider = time.monotonic(), time.thread_time(), ""
        beside = Beside(lambda stopped: task.run(lambda: stopped() or part.expired))
        try:
            with beside:
                decider = self._split(i, part, (beside, task))
            if not decider:
                beside.outcome()
                task.take()
                decider = task.name if self.climbing.verdicts[i] is not None else ""
        finally:
            wall, mine = time.monotonic() - began, max(time.thread_time() - mine, 1e-9)
            share = beside.cpu_s / (beside.cpu_s + mine)
            self._count(SPLITTING, "split", wall * (1 - share), i, decider == SPLITTING)
            self._count(task.name, task.kind, wall * share, i, decider == task.name, task.asked)

    def _split(self, i: int, part: Budget, beside: tuple[Beside, _Task] | None) -> str:
        """Branch and bound on one circuit, until it is decided, nothing is open or time is up. What runs beside it is heard
        when it ends. Returns the name of the rung that decided, if one did."""
        mask = self.climbing.masks[i : i + 1].to(self.evidence.query.graph.device)
        branching = self.branchings.take(mask, lambda: self._branching(i, mask))
        try:
            return self._branched(i, branching, part, beside)
        finally:
            if self.climbing.verdicts[i] is None:
                self.branchings.put(mask, branching)

    def _branching(self, i: int, mask: Tensor) -> Branching:
        bounder, own = self._tightest.narrowed(mask)
        return Branching(bounder.query, own, traced=bounder.trace(own), forms=self.climbing.forms[i])

    def _branched(self, i: int, branching: Branching, part: Budget, beside: tuple[Beside, _Task] | None) -> str:
        evidence, decider = self.evidence, SPLITTING

        def stop() -> bool:
            return part.expired or (beside is not None and beside[0].finished)

        for step in count():
            fresh = not branching.whole
            candidates: Tensor | None = None
            if fresh or branching.open:
                with part.finishing():
                    candidates = (branching.root(stop) if fresh else branching.step(stop)).candidates
            if beside is not None and beside[0].finished:
                thread, task = beside
                beside = None
                thread.outcome()
                task.take()
                decider = task.name if self.climbing.verdicts[i] is not None else decider
            if self.climbing.verdicts[i] is None and step % _LOOK == 0 and candidates is not None:
                self._descend(i, self._sampled(candidates, step), step)
            if self.climbing.verdicts[i] is None:
                evidence.proved(self.climbing, i, branching.bound, f"{SPLITTING} bounds")
            if self.climbing.verdicts[i] is not None:
                return decider
            if part.expired:
                self.climbing.reason = TIME_UP
                break
            if not branching.open:
                if beside is None:
                    break
                time.sleep(_POLL_S)  # nothing left to split, and the other may still find an answer
        return ""

    def _sampled(self, candidates: Tensor, step: int) -> Points:
        """Inputs that branch and bound found to be worst, with patch values drawn at random."""
        gates = free_gates(self.evidence.attackable.gates)
        generator = torch.Generator().manual_seed(self.evidence.seed + step)
        patches = {gate.tensor: gate.patch.sample(len(candidates), generator) for gate in gates}
        return Points(self.evidence.query.region.project(candidates), patches)

    def _descend(self, i: int, starts: Points, step: int) -> None:
        """Look for a witness near some points."""
        evidence = self.evidence
        mask = self.climbing.masks[i : i + 1].to(evidence.query.graph.device)
        found = attack(
            evidence.attackable, mask, seed=evidence.seed + step, restarts=2 * len(starts), steps=10, starts=starts
        )  # fmt: skip
        evidence.seen(self.climbing, i, float(found.margin[0]), found.points[:1])

    @contextmanager
    def _counted(self, name: str, kind: Kind, i: int, asked: int = 1) -> Generator[None, None, None]:
        began = time.monotonic()
        try:
            yield
        finally:
            self._count(name, kind, time.monotonic() - began, i, self.climbing.verdicts[i] is not None, asked)

    def _count(self, name: str, kind: Kind, time_s: float, i: int, decided: bool, asked: int = 1) -> None:
        count = self.tally.rungs.setdefault(name, RungCount(kind))
        count.asked, count.decided, count.time_s = count.asked + asked, count.decided + decided, count.time_s + time_s
        if decided:
            self.climbing.rungs[i] = name


@dataclass(frozen=True, slots=True, eq=False)
class _Task:
    """What can run beside branch and bound: `run` in another thread, then `take` in this one."""

    name: str
    kind: Kind
    run: Callable[[Callable[[], bool]], None]
    take: Callable[[], None]
    asked: int = 1


class _Deep:
    """A long attack on one circuit from ever new starts, until told to stop or it has found a violation."""

    def __init__(self, evidence: Evidence, climbing: Round, i: int) -> None:
        self.evidence, self.climbing, self.i = evidence, climbing, i
        self.query, self.mask = evidence.attackable, climbing.masks[i : i + 1].to(evidence.query.graph.device)
        self.best: Found | None = None

    def run(self, stopped: Callable[[], bool]) -> None:
        for turn in count(1):
            seed = self.evidence.seed + 1000 * turn
            found = attack(self.query, self.mask, seed=seed, restarts=32, steps=60, expired=stopped)
            if self.best is None or float(found.margin[0]) < float(self.best.margin[0]):
                self.best = found
            if stopped() or float(self.best.margin[0]) < 0:
                return

    def take(self) -> None:
        if self.best is not None:
            self.evidence.seen(self.climbing, self.i, float(self.best.margin[0]), self.best.points[:1])


class ExactRung(Rung):
    """The exact program, for circuits with few open signs."""

    name, kind, prior = EXACT, "exact", 0.8

    def __init__(self, closing: Closing, cost: Cost) -> None:
        self.closing, self.cost = closing, cost

    def work(self, climbing: Round) -> Work:
        return self.cost.program(len(climbing.open), SMALL_KINKS)

    def run(self, climbing: Round, budget: Budget) -> None:
        which = climbing.open
        for turn, i in enumerate(which):
            self.closing.quick(i, budget.part(1 / (len(which) - turn)))
