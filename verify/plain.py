"""A question about plain networks, decided: no input satisfies it, one does, or neither is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor

from specs.encode import Claim
from specs.models.runtime import Array
from specs.vnnlib.question import Question
from verify.ladder.choice import chosen, splits
from verify.ladder.decide import Ladder
from verify.ladder.round import Round, Tally
from verify.verdict import INTERRUPTED, UNDECIDED, Certified, Falsified, Unknown
from verify.witness.falsify import Replay, Witness
from verify.witness.pool import Points
from verify.work.budget import Budget

__all__ = ["Answer", "Search", "Word"]

Word: TypeAlias = Literal["sat", "unsat", "unknown"]


@dataclass(frozen=True, slots=True, eq=False)
class Answer:
    """`sat` with the inputs that satisfy the query, by coordinate (shape `(coordinates,)`, in the models' precision); `unsat`;
    or `unknown` with the reason. `bound` is the least proven margin."""

    word: Word
    reason: str = ""
    inputs: Array | None = None
    bound: float = float("nan")


@dataclass(eq=False)
class Search:
    """One query on its way; `answer` says what is known at any moment.

    Guarantees: `unsat` only where every claim is proven in real arithmetic; `sat` only for an input that, given to the networks
    in their own runtime, satisfies the query exactly, with no tolerance.
    """

    question: Question
    backend: str = "auto"
    device: str = "cpu"
    seed: int = 0
    rounds: list[Round] = field(default_factory=list[Round])

    def run(self, budget: Budget, notify: Callable[[int, str], None] = lambda case, rung: None) -> Answer:
        """Decide claim after claim, until one has a counterexample or time is up."""
        tally, claims = Tally(), self.question.claims
        backends = chosen(self.backend, self.device)
        skip = self.backend == "auto"
        for i, claim in enumerate(claims):
            climbing = Round(torch.ones((1, 0), dtype=torch.bool))
            self.rounds.append(climbing)
            ladder = Ladder(
                self._replay, claim, backends, seed=self.seed, device=self.device, tally=tally, skip_refusals=skip,
                split=splits(self.backend),
            )  # fmt: skip
            if i == 0 and not skip:
                ladder.open()
            ladder.climb(climbing, budget.part(1 / (len(claims) - i)), lambda rung, i=i: notify(i, rung))
            if isinstance(climbing.verdicts[0], Falsified):
                break
        return self.answer()

    def answer(self, interrupted: bool = False) -> Answer:
        """What the rounds so far add up to."""
        verdicts = [round_.decisions()[0].verdict for round_ in self.rounds]
        for verdict in verdicts:
            if isinstance(verdict, Falsified):
                return Answer("sat", inputs=verdict.witness.input.reshape(-1))
        bounds = [v.margin if isinstance(v, Certified) else v.bound for v in verdicts if isinstance(v, Certified | Unknown)]
        least = min(bounds, default=float("nan"))
        if len(verdicts) == len(self.question.claims) and all(isinstance(v, Certified) for v in verdicts):
            return Answer("unsat", bound=least)
        reasons = [v.reason for v in verdicts if isinstance(v, Unknown)]
        said = INTERRUPTED if interrupted else reasons[0] if reasons else UNDECIDED
        if self.question.narrow is not None:
            said += f"; no number of the model's precision lies between the bounds of {self.question.narrow}"
        return Answer("unknown", said, bound=least)

    def _replay(self, claim: Claim, mask: Tensor, points: Points) -> Replay | None:
        """One point, rounded inward to the models' precision, run in their own runtimes. It violates the claim where it
        satisfies the query exactly, and our graph has a negative margin there."""
        networks, query = self.question.networks, claim.query
        received = query.region.inward(points.x.double().cpu(), networks.dtype)
        if not query.region.contains(received[0].double()):
            return None
        x = received[0].numpy()
        value = networks.run(x.reshape(-1))
        if value is None:
            return None
        with torch.no_grad():
            ours = query.graph(received.double())
            margin = float(query.margins.at(ours, ours))
        output = np.asarray(ours[0])
        witness = Witness(x, {}, output, output, -margin)
        return Replay(witness, self.question.formula.holds(value) and margin < 0, margin)
