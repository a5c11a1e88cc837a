"""What counts as evidence on one claim: points that were evaluated, bounds that were proven, and what they add up to."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cached_property
from typing import TypeAlias

import torch
from torch import Tensor

from bounds.query import Bound, Query
from specs.encode import Claim, Problem
from specs.patching import Resample
from verify.ladder.round import Round
from verify.verdict import Certified, Falsified
from verify.witness.falsify import Replay, replay
from verify.witness.library import Library
from verify.witness.pool import Points, WitnessPool

__all__ = ["Evidence", "Replayed", "SoundnessAlarm"]

Replayed: TypeAlias = Callable[[Claim, Tensor, Points], Replay | None]
"""As `verify.witness.falsify.replay`: one point run on the original."""

_ALARM = 1e-5
"""How far, relative to the size of the model's outputs, a proven margin may lie above one that was seen: float32's rounding
over deep networks, for backends that do not charge it. Beyond it the proof is wrong."""


class SoundnessAlarm(RuntimeError):
    """A backend proved what an evaluation contradicts: a fault in this program. Nothing it says may be believed."""


class Evidence:
    """The only place where a circuit gets its verdict. Keeps the claim's witnesses.

    Guarantees: certified only for a finite proven margin of at least 0; falsified only after a replay on the original model.
    With `measure` the worst point seen of every circuit is replayed, not only what violates the claim. Not to be used by two
    threads at once.
    """

    def __init__(self, problem: Problem | Replayed, claim: Claim, device: str, seed: int, measure: bool) -> None:
        """`problem` is the problem that the claim is part of or, where no circuit is asked about, how a point is replayed."""
        self.problem, self.claim, self.seed, self.measure = problem, claim, seed, measure
        self.query = claim.query.to(torch.float64, torch.device(device))
        self.pool = WitnessPool()
        self._proven: dict[bytes, float] = {}
        self._slack: float | None = None

    @cached_property
    def library(self) -> Library | None:
        """Inputs that resampled values come from; None where values come from elsewhere."""
        problem = self.problem
        if not isinstance(problem, Problem) or not isinstance(problem.spec.patching, Resample) or self.claim.second is None:
            return None
        return Library(self.claim.query, self.claim.second, problem.model.dtype, self.seed)

    @cached_property
    def attackable(self) -> Query:
        """The query that attacks move in: of resampled values only those that some known input gives."""
        return self.query if self.library is None else self.library.attackable.to(torch.float64, self.query.graph.device)

    def seen(self, climbing: Round, i: int, margin: float, points: Points, held: bool = False) -> None:
        """Take note of a point of the claim; it falsifies if it violates the claim here and on the original model. One that is
        `held` is in the pool already.

        Raises: SoundnessAlarm: the circuit was proven to keep to the claim.
        """
        improves = margin < climbing.seen[i]
        if not (margin < 0 or (self.measure and improves)):
            return
        climbing.seen[i] = min(margin, climbing.seen[i])
        mask = climbing.masks[i]
        shown = self._replay(mask, points)
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
        if not held:
            self.pool.add(points)

    def _replay(self, mask: Tensor, points: Points) -> Replay | None:
        if isinstance(self.problem, Problem):
            return replay(self.problem, self.claim, mask, points, self.library)
        return self.problem(self.claim, mask, points)

    def proved(self, climbing: Round, i: int, margin: float, who: str) -> None:
        """Take note of a proven margin. Raises: SoundnessAlarm: an evaluated point lies below it."""
        if math.isnan(margin) or margin == math.inf:
            return
        self._compare(margin, climbing.seen[i], who)
        climbing.bounds[i] = max(climbing.bounds[i], margin)
        if 0 <= climbing.bounds[i] < math.inf:
            climbing.verdicts[i] = Certified(climbing.bounds[i])
            self._proven[_key(climbing.masks[i])] = climbing.bounds[i]

    def bounded(self, climbing: Round, which: list[int], bound: Bound, who: str) -> None:
        """Take note of what a backend proved of some circuits. Raises: as `proved`."""
        for i, margin, forms in zip(which, bound.margin.double().tolist(), bound.forms.double().cpu(), strict=True):
            held = climbing.forms[i]
            climbing.forms[i] = forms if held is None else torch.maximum(held, forms)
            self.proved(climbing, i, margin, who)

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
