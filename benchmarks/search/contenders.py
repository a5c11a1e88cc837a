"""Who searches: ours by algorithm, and the same search with one query at a time."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from specs.encode import Problem
from verify.ladder.choice import chosen, splits
from verify.ladder.decide import Ladder
from verify.minimize.choose import ALGORITHMS
from verify.minimize.oracle import Answer, Components, Level, Masks, Oracle, State
from verify.minimize.orders import order_of
from verify.search.findings import findings
from verify.search.run import Search
from verify.verdict import Certified, Falsified
from verify.work.budget import Budget

__all__ = ["Contender", "OneByOne", "Outcome", "contenders"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """A search's end: seconds, components kept, the level that is shown and whether it is proven, circuits asked about, and
    those looked at at witnesses alone. `ended`: the search came to its end within the time."""

    time_s: float
    size: int
    level: Level
    proven: bool
    asked: int
    evaluated: int
    ended: bool


class OneByOne(Oracle):
    """A verifier called anew for each circuit: nothing is kept from one question to the next."""

    def __init__(self, problem: Problem, budget: Budget, question_s: float, backend: str) -> None:
        self.problem, self.budget, self.question_s, self.backend = problem, budget, question_s, backend
        self.size = len(problem.components)
        self.monotone = all(claim.monotone.known for claim in problem.claims)
        self.costs = (1.0,) * self.size
        self.asked = 0

    def ask(self, candidates: Sequence[Components], thorough: bool = True) -> list[Answer]:
        return [self._answer(candidate) if thorough else Answer.OPEN for candidate in candidates]

    def refuted(self, masks: Masks) -> Masks:
        return torch.zeros(len(masks), dtype=torch.bool).numpy()

    def _answer(self, circuit: Components) -> Answer:
        mask = torch.from_numpy(self.masks([circuit]))
        for claim in self.problem.claims:
            if self.budget.expired:
                return Answer.OPEN
            ladder = Ladder(
                self.problem,
                claim,
                chosen(self.backend, "cpu"),
                skip_refusals=self.backend == "auto",
                split=splits(self.backend),
            )
            allowed = Budget(max(min(self.question_s, self.budget.remaining()), 1e-6))
            self.asked += 1
            verdict = ladder.decide(mask, allowed)[0].verdict
            if not isinstance(verdict, Certified):
                return Answer.NO if isinstance(verdict, Falsified) else Answer.OPEN
        return Answer.YES


@dataclass(frozen=True, slots=True)
class Contender:
    """One way to search, to a level. `backend` names the verifier of a search that asks one by one; None: ours."""

    name: str
    algorithm: str
    level: Level
    backend: str | None = None
    monotone: bool = False

    def run(self, problem: Problem, budget_s: float, question_s: float) -> Outcome:
        """Search from everything. Raises: as the searches."""
        began = time.monotonic()
        budget = Budget(budget_s)
        order = order_of(problem)
        if self.backend is None:
            return self._ours(problem, budget, question_s, order, began)
        oracle = OneByOne(problem, budget, question_s, self.backend)
        states = [State(oracle.everything, float(oracle.size))]
        for found in ALGORITHMS[self.algorithm](oracle, oracle.everything, order):
            states.append(found)
            if budget.expired:
                break
        state, ended = states[-1], not budget.expired
        standing = state.standing
        proven = standing.proven and ended
        return Outcome(time.monotonic() - began, len(state.best), standing.level, proven, oracle.asked, 0, ended)

    def _ours(self, problem: Problem, budget: Budget, question_s: float, order: list[int], began: float) -> Outcome:
        search = Search.over(problem, budget, question_s=question_s)
        start = search.oracle.everything
        search.begin(start)
        search.minimize(start, self.level, order, self.algorithm)
        spent = time.monotonic() - began
        told = findings(search, self.level, self.algorithm).minimality
        assert told is not None and search.best is not None
        counted = search.known.passed, search.oracle.evaluated
        proven = told.reached != "none"
        return Outcome(spent, len(search.best), told.reached, proven, *counted, ended=not budget.expired)


def contenders(monotone: bool) -> list[Contender]:
    """Those that may search a claim."""
    named = ["deletion", "iterated", "binary", *(["progression", "quickxplain"] if monotone else [])]
    ours = [Contender(f"certify {name}", name, "quasi" if name == "binary" else "local") for name in named]
    return [
        Contender("certify auto, subset", "auto", "subset"),
        Contender("certify auto, cardinal", "auto", "cardinal"),
        *ours,
        Contender("one by one, our ladder", "iterated", "local", "auto"),
        Contender("one by one, auto_LiRPA CROWN", "iterated", "local", "lirpa"),
    ]
