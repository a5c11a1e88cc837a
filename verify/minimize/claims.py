"""The oracle that the searches ask: a spec's claims about the circuits of a scope, decided by the ladder."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from bounds.stem import Stem
from specs.encode import Problem
from verify.ladder.choice import chosen, splits
from verify.ladder.decide import Ladder, Reach
from verify.ladder.round import Decision, Round, Tally
from verify.minimize.oracle import Answer, Components, Masks, Oracle
from verify.verdict import Certified, Falsified
from verify.witness.pool import DEPTH
from verify.work.budget import Budget

__all__ = ["ClaimsOracle", "costs_of"]

_LOOKED_AT = 1 << 26
"""Numbers that one look at many circuits computes for each witness; between looks the clock is read."""

_REPLAYED = 8
"""Of so many refutations by witnesses at hand, each is replayed on the original; of more, so many drawn at random are."""


class ClaimsOracle(Oracle):
    """All claims of a problem at once: certified where every claim is, refuted where one is.

    A question costs at most `question_s` seconds for each circuit, and all together what `budget` grants; what time cuts off is
    open. Refutations are replayed on the original model (see `refuted` for those by the thousand). `decisions` holds what was
    decided of certified circuits. Raises what the ladder raises.
    """

    def __init__(
        self,
        problem: Problem,
        budget: Budget,
        question_s: float,
        *,
        backend: str = "auto",
        device: str = "cpu",
        seed: int = 0,
        notify: Callable[[str], None] = lambda rung: None,
        tally: Tally | None = None,
    ) -> None:
        self.problem, self.budget, self.question_s, self.notify, self.seed = problem, budget, question_s, notify, seed
        self.size = len(problem.components)
        self.monotone = all(claim.monotone.known for claim in problem.claims)
        self.costs = costs_of(problem)
        self.tally = Tally() if tally is None else tally
        backends, split = chosen(backend, device), splits(backend)
        self.ladders = [
            Ladder(
                problem,
                claim,
                backends,
                seed=seed,
                device=device,
                tally=self.tally,
                skip_refusals=backend == "auto",
                split=split,
            )
            for claim in problem.claims
        ]
        self.decisions: dict[Components, list[Decision]] = {}
        self.evaluated = self.replayed = 0

    def ask(self, candidates: Sequence[Components], thorough: bool = True) -> list[Answer]:
        masks = torch.from_numpy(self.masks(candidates))
        refuted = torch.zeros(len(candidates), dtype=torch.bool)
        # The only claim's ladder tries its witnesses first anyway.
        for ladder in self.ladders if len(self.ladders) > 1 or not thorough else []:
            which = (~refuted).nonzero().flatten()
            if len(which):
                found = self._climbed(ladder, masks[which], "pool" if thorough else "look")
                refuted[which] = torch.tensor([isinstance(d.verdict, Falsified) for d in found])
        proven: list[list[Decision]] = [[] for _ in candidates]
        if thorough:
            for ladder in self.ladders:
                # A circuit that one claim leaves open is not proven on the others: nothing hangs on it.
                which = [i for i in range(len(candidates)) if not refuted[i] and all(_certified(d) for d in proven[i])]
                for i, decision in zip(which, self._climbed(ladder, masks[which], "proof") if which else [], strict=True):
                    proven[i].append(decision)
                    refuted[i] |= isinstance(decision.verdict, Falsified)
        answers: list[Answer] = []
        for i, circuit in enumerate(candidates):
            whole = len(proven[i]) == len(self.ladders) and all(_certified(d) for d in proven[i])
            if whole:
                self.decisions[circuit] = proven[i]
            answers.append(Answer.NO if refuted[i] else Answer.YES if whole else Answer.OPEN)
        return answers

    def refuted(self, masks: Masks) -> Masks:
        """Which of many circuits the witnesses at hand refute, in batched forward passes, until the budget is spent.

        Up to 8 refutations in one call are each replayed on the original model. Of more, those count whose violation on our
        own graph is clear of any rounding, after as many drawn at random were replayed and all held; else each is replayed.
        `evaluated` and `replayed` count both.
        """
        asked = torch.from_numpy(masks)
        found = torch.zeros(len(asked), dtype=torch.bool)
        for ladder in self.ladders:
            held = ladder.pool.points
            which = (~found).nonzero().flatten()
            if held is None or not len(which):
                continue
            parts: list[torch.Tensor] = []
            for part in asked[which].split(self._together(ladder)):
                if self.budget.expired:
                    break
                parts.append(ladder.pool.worst(ladder.attackable, part)[0])
            worst = torch.cat(parts) if parts else torch.zeros(0)
            which = which[: len(worst)]
            center = ladder.query.region.box().center.unsqueeze(0)
            sure = which[worst < -DEPTH * (1 + float(ladder.query.graph(center).abs().max()))]
            if len(sure) > _REPLAYED:
                generator = torch.Generator().manual_seed(self.seed)
                drawn = sure[torch.randperm(len(sure), generator=generator)[:_REPLAYED]]
                if self._replayed(ladder, asked[drawn]).all():
                    found[sure] = True
                    self.evaluated += len(sure) - len(drawn)
                    continue
            for part in sure.split(_REPLAYED):
                found[part] = self._replayed(ladder, asked[part])
        return found.numpy()

    def climbed(self, circuit: Components) -> list[Decision]:
        """What the ladder decides of each claim about a circuit, each with an equal share of the time that is left; the claims
        after one that is falsified are not asked."""
        masks, found = torch.from_numpy(self.masks([circuit])), list[Decision]()
        for i, ladder in enumerate(self.ladders):
            climbing = Round(masks)
            if not self.budget.expired:
                ladder.climb(climbing, self.budget.part(1 / (len(self.ladders) - i)), self.notify)
            found += climbing.decisions()
            if isinstance(found[-1].verdict, Falsified):
                break
        return found

    def decided(self, circuit: Components) -> list[Decision] | None:
        """What was decided of each claim about a certified circuit. Of monotone claims, a smaller circuit's proof is this one's
        too: whatever this one computes, the smaller one could. None where there is no proof."""
        if circuit in self.decisions or not self.monotone:
            return self.decisions.get(circuit)
        smaller = next((other for other in self.decisions if other <= circuit), None)
        if smaller is None:
            return None
        return [Decision(d.verdict, None, "a smaller circuit's proof") for d in self.decisions[smaller]]

    def _together(self, ladder: Ladder) -> int:
        return max(1, _LOOKED_AT // Stem(ladder.attackable.graph, ladder.attackable.gates).numbers)

    def _replayed(self, ladder: Ladder, masks: torch.Tensor) -> torch.Tensor:
        """Which are refuted by a witness at hand, replayed on the original."""
        climbing = Round(masks)
        ladder.climb(climbing, Budget(max(self.budget.remaining(), 1e-6)), reach="pool")
        self.replayed += len(masks)
        return torch.tensor([isinstance(verdict, Falsified) for verdict in climbing.verdicts], dtype=torch.bool)

    def _climbed(self, ladder: Ladder, masks: torch.Tensor, reach: Reach) -> list[Decision]:
        climbing = Round(masks)
        if self.budget.expired:
            return climbing.decisions()
        time_s = max(min(self.budget.remaining(), self.question_s * len(masks)), 1e-6)
        allowed = Budget(time_s, self.budget.hard, whole=self.budget)
        ladder.climb(climbing, allowed, self.notify, reach)
        return climbing.decisions()


def _certified(decision: Decision) -> bool:
    return isinstance(decision.verdict, Certified)


def costs_of(problem: Problem) -> tuple[float, ...]:
    """The cost of each component, as the spec's weights say: 1 where they say nothing."""
    weights = problem.spec.weights
    found: list[float] = []
    for site, index in problem.components:
        given = weights.get(site, 1.0)
        found.append(float(given[index]) if isinstance(given, tuple) else float(given))
    return tuple(found)
