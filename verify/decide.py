"""The ladder: witness pool, gradient attack, bounds, branch and bound; a batch of circuits in, a verdict each out."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from functools import cached_property, partial
from itertools import count

import torch
from torch import Tensor

from bounds.backends.base import Backend, BackendRefusal, Bounder
from bounds.query import Query
from specs.encode import Claim, Problem
from specs.patching import Resample
from verify.attack import attack
from verify.branch import Branching
from verify.budget import Budget, TimeUp
from verify.falsify import replay
from verify.library import Library
from verify.pool import Points, WitnessPool, free_gates
from verify.round import Decision, Effort, Kind, Round, RungCount, Tally
from verify.verdict import TIME_UP, UNDECIDED, Certified, Falsified

__all__ = ["ATTACK_SHARE", "LONG", "QUICK", "Effort", "Ladder", "SoundnessAlarm"]

ATTACK_SHARE = 0.15
"""The most of the budget that looking for witnesses may take."""

_TOGETHER = 64
"""Circuits bounded in one call; between calls the clock is read."""

_LOOK = 8
"""Steps of branch and bound from one search for a witness to the next."""

_ALARM = 1e-5
"""How far, relative to the size of the model's outputs, a proven margin may lie above one that was seen: float32's rounding
over deep networks, for backends that do not charge it. Beyond it the proof is wrong."""


class SoundnessAlarm(RuntimeError):
    """A backend proved what an evaluation contradicts: a fault in this program. Nothing it says may be believed."""


QUICK = Effort("quick attack", 8, 12)
LONG = Effort("long attack", 32, 100)


_Rung = tuple[str, Kind, Callable[[], None]]


def _silent(_rung: str) -> None:
    pass


class Ladder:
    """Decides circuits on one claim. Keeps the claim's witnesses and opened backends from call to call.

    `backends` are bound rungs by name, cheapest first. With `skip_refusals` a backend that refuses the graph is left out and
    says so in the reason of an unknown; otherwise its refusal is raised. With `measure` the worst point seen of every circuit
    is replayed, not only what violates the claim. With `split` what the bounds leave open goes to branch and bound.
    Deterministic for a seed, but for what time cuts off.
    """

    def __init__(
        self,
        problem: Problem,
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
    ) -> None:
        self.problem, self.claim, self.backends = problem, claim, tuple(backends)
        self.query = claim.query.to(torch.float64, torch.device(device))
        self.seed, self.skip_refusals, self.measure, self.efforts = seed, skip_refusals, measure, efforts
        self.split = split
        self.tally = Tally() if tally is None else tally
        self.pool = WitnessPool()
        self._bounders: dict[str, Bounder] = {}
        self._refusals: dict[str, str] = {}
        self._proven: dict[bytes, float] = {}
        self._slack: float | None = None

    @cached_property
    def library(self) -> Library | None:
        """Inputs that resampled values come from; None where values come from elsewhere."""
        if not isinstance(self.problem.spec.patching, Resample) or self.claim.second is None:
            return None
        return Library(self.claim.query, self.claim.second, self.problem.model.dtype, self.seed)

    @cached_property
    def attackable(self) -> Query:
        """The query that attacks move in: of resampled values only those that some known input gives."""
        return self.query if self.library is None else self.library.attackable.to(torch.float64, self.query.graph.device)

    def open(self) -> None:
        """Open every backend now, so that one that cannot answer says so before anything is run. Raises: as `climb`."""
        for name, backend in self.backends:
            self._open(name, backend)

    def decide(self, masks: Tensor, budget: Budget, notify: Callable[[str], None] = _silent) -> list[Decision]:
        """A verdict for each circuit. Shapes: `masks` `(circuits, components)` bool. Raises: as `climb`."""
        climbing = Round(masks)
        self.climb(climbing, budget, notify)
        return climbing.decisions()

    def climb(self, climbing: Round, budget: Budget, notify: Callable[[str], None] = _silent) -> None:
        """Take a round up the ladder, cheap proofs before dear ones, until all is decided or the budget is spent.

        Guarantees: certified only for a finite proven margin of at least 0; falsified only after a replay on the original
        model. Raises: BackendUnavailable; BackendRefusal (see the class); SoundnessAlarm.
        """
        self.tally.asked += len(climbing.masks)
        attacks_until = self.tally.time_s("attack") + ATTACK_SHARE * budget.remaining()

        def attack_rung(effort: Effort) -> _Rung:
            return effort.name, "attack", partial(self._attacked, climbing, effort, budget, attacks_until)

        rungs: list[_Rung] = [("witness pool", "pool", partial(self._from_pool, climbing))]
        rungs += [attack_rung(effort) for effort in self.efforts[:1]]
        for name, backend in self.backends:
            kind: Kind = "exact" if backend.name == "milp" else "bound"
            rungs.append((f"{name} bounds", kind, partial(self._bounded, climbing, name, backend, budget)))
        rungs += [attack_rung(effort) for effort in self.efforts[1:]]
        if self.split:
            rungs.append(("splitting", "split", partial(self._splitting, climbing, budget)))
        try:
            with budget.enforced():
                for name, kind, run in rungs:
                    if not climbing.open:
                        return
                    if budget.expired:
                        raise TimeUp
                    notify(name)
                    with self._counted(name, kind, climbing):
                        run()
        except TimeUp:
            climbing.reason = TIME_UP
            return
        if self._refusals and climbing.reason == UNDECIDED:
            climbing.reason = "; ".join(self._refusals.values())

    @contextmanager
    def _counted(self, name: str, kind: Kind, climbing: Round) -> Generator[None, None, None]:
        tally = self.tally.rungs.setdefault(name, RungCount(kind))
        before, began = len(climbing.open), time.monotonic()
        tally.asked += before
        try:
            yield
        except (MemoryError, RuntimeError) as error:
            if not _out_of_memory(error):
                raise
            climbing.reason = f"out of memory in {name}"
        finally:
            tally.time_s += time.monotonic() - began
            decided = before - len(climbing.open)
            tally.decided += decided
            for i, verdict in enumerate(climbing.verdicts):
                if verdict is not None and climbing.rungs[i] is None:
                    climbing.rungs[i] = name

    def _from_pool(self, climbing: Round) -> None:
        held = self.pool.points
        if held is None:
            return
        which = climbing.open
        margins, at = self.pool.evaluate(self.attackable, climbing.masks[which].to(self.query.graph.device)).min(0)
        for i, margin, row in zip(which, margins.tolist(), at.tolist(), strict=True):
            self._seen(climbing, i, margin, held[row : row + 1])

    def _attacked(self, climbing: Round, effort: Effort, budget: Budget, until: float) -> None:
        """One attack, until all attacks together took `until` seconds."""
        part = Budget(max(min(until - self.tally.time_s("attack"), budget.remaining()), 1e-6))
        which = climbing.open
        masks = climbing.masks[which].to(self.query.graph.device)
        starts = self.pool.points
        found = attack(
            self.attackable, masks, seed=self.seed, restarts=effort.restarts, steps=effort.steps, starts=starts,
            expired=lambda: part.expired,
        )  # fmt: skip
        for row, (i, margin) in enumerate(zip(which, found.margin.tolist(), strict=True)):
            self._seen(climbing, i, margin, found.points[row : row + 1])

    def _seen(self, climbing: Round, i: int, margin: float, points: Points) -> None:
        """Take note of a point of the claim; it falsifies if it violates the claim here and on the original model."""
        improves = margin < climbing.seen[i]
        if not (margin < 0 or (self.measure and improves)):
            return
        climbing.seen[i] = min(margin, climbing.seen[i])
        mask = climbing.masks[i]
        shown = replay(self.problem, self.claim, mask, points, self.library)
        if shown is None:
            return
        known, deviation = climbing.deviations[i], shown.witness.deviation
        if math.isfinite(deviation):
            climbing.deviations[i] = deviation if known is None else max(known, deviation)
        if not (shown.violated and margin < 0):
            return
        if (proven := self._proven.get(_key(mask))) is not None:
            self._compare(proven, margin, "an earlier proof")
        climbing.verdicts[i] = Falsified(shown.witness)
        self.pool.add(points)

    def _bounded(self, climbing: Round, name: str, backend: Backend, budget: Budget) -> None:
        which = climbing.open
        bounder = self._open(name, backend)
        if bounder is None:
            return
        for start in range(0, len(which), _TOGETHER):
            if budget.expired:
                raise TimeUp
            part = which[start : start + _TOGETHER]
            try:
                bound = bounder.bound(climbing.masks[part])
            except BackendRefusal as refusal:
                self._refused(name, refusal)
                return
            except BaseException:
                # Stopped half-way: what it keeps between calls may be half made.
                self._bounders.pop(name, None)
                raise
            for i, margin in zip(part, bound.margin.double().tolist(), strict=True):
                self._proved(climbing, i, margin, name)

    def _splitting(self, climbing: Round, budget: Budget) -> None:
        """Branch and bound, one circuit after another, each with an equal part of the time left."""
        which = climbing.open
        for turn, i in enumerate(which):
            part = budget.part(1 / (len(which) - turn))
            mask = climbing.masks[i : i + 1].to(self.query.graph.device)
            branching = Branching(self.query, mask)
            progress = branching.root(lambda part=part: part.expired)
            for step in count():
                if step % _LOOK == 0:
                    self._looked(climbing, i, mask, progress.candidates, step)
                if climbing.verdicts[i] is None:
                    self._proved(climbing, i, branching.bound, "splitting")
                if climbing.verdicts[i] is not None or not branching.open:
                    break
                if part.expired:
                    climbing.reason = TIME_UP
                    break
                progress = branching.step(lambda part=part: part.expired)

    def _looked(self, climbing: Round, i: int, mask: Tensor, candidates: Tensor, step: int) -> None:
        """Look for a witness where branch and bound found its worst parts to be worst."""
        generator = torch.Generator().manual_seed(self.seed + step)
        patches = {gate.tensor: gate.patch.sample(len(candidates), generator) for gate in free_gates(self.attackable.gates)}
        starts = Points(self.query.region.project(candidates), patches)
        found = attack(self.attackable, mask, seed=self.seed + step, restarts=2 * len(candidates), steps=10, starts=starts)
        self._seen(climbing, i, float(found.margin[0]), found.points[:1])

    def _proved(self, climbing: Round, i: int, margin: float, name: str) -> None:
        if math.isnan(margin) or margin == math.inf:
            return
        self._compare(margin, climbing.seen[i], f"{name} bounds")
        climbing.bounds[i] = max(climbing.bounds[i], margin)
        if 0 <= climbing.bounds[i] < math.inf:
            climbing.verdicts[i] = Certified(climbing.bounds[i])
            self._proven[_key(climbing.masks[i])] = climbing.bounds[i]

    def _open(self, name: str, backend: Backend) -> Bounder | None:
        if name in self._refusals:
            return None
        if name not in self._bounders:
            try:
                self._bounders[name] = backend.open(self.claim.query)
            except BackendRefusal as refusal:
                self._refused(name, refusal)
                return None
        return self._bounders[name]

    def _refused(self, name: str, refusal: BackendRefusal) -> None:
        if not self.skip_refusals:
            raise refusal
        self._refusals[name] = f"{name}: {refusal}"

    def _compare(self, proven: float, seen: float, who: str) -> None:
        """Nothing seen may lie below what is proven."""
        if self._slack is None:
            center = self.query.region.box().center.unsqueeze(0)
            self._slack = _ALARM * (1 + float(self.query.graph(center).abs().max()))
        if proven > seen + self._slack:
            raise SoundnessAlarm(
                f"{who} of {self.claim.label} prove a margin of {proven!r}, and an evaluation shows {seen!r}. "
                "One of them is wrong: do not use this build; please report circuit, spec and model"
            )


def _key(mask: Tensor) -> bytes:
    return bytes(mask.to(torch.uint8).cpu().flatten().tolist())


def _out_of_memory(error: BaseException) -> bool:
    said = str(error).lower()
    return (
        isinstance(error, MemoryError | torch.OutOfMemoryError)
        or "not enough memory" in said
        or "can't allocate memory" in said
    )
