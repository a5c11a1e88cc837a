"""Claims as tables: Boolean functions of a circuit, monotone and not, some of their values unknown."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from verify.minimize.oracle import Answer, Components, Oracle

__all__ = ["TableOracle", "any_table", "monotone_table"]


class TableOracle(Oracle):
    """Answers from a table. A look finds a witness for some of what is false, the same each time; `proofs` counts the rest."""

    def __init__(
        self, answers: dict[Components, Answer], size: int, monotone: bool, costs: Sequence[float] | None = None, seed: int = 0
    ) -> None:
        self.answers, self.size, self.monotone = answers, size, monotone
        self.costs = tuple(1.0 for _ in range(size)) if costs is None else tuple(costs)
        self.proofs = 0
        draw = random.Random(seed)
        self._easy = {c for c, answer in answers.items() if answer is Answer.NO and draw.random() < 0.7}

    def ask(self, candidates: Sequence[Components], thorough: bool = True) -> list[Answer]:
        if thorough:
            self.proofs += len(candidates)
            return [self.answers[c] for c in candidates]
        return [Answer.NO if c in self._easy else Answer.OPEN for c in candidates]


def _subsets(size: int) -> list[Components]:
    return [frozenset(c) for k in range(size + 1) for c in itertools.combinations(range(size), k)]


def monotone_table(size: int, seed: int, open_: float = 0.0) -> dict[Components, Answer]:
    """Faithful: what holds one of a few random sets; all of it is. Part of the answers, `open_`, stay open."""
    draw = random.Random(seed)
    count = draw.randint(1, 4)
    cores = [frozenset(draw.sample(range(size), draw.randint(0 if count == 1 else 1, size))) for _ in range(count)]
    return _told({c: any(core <= c for core in cores) for c in _subsets(size)}, size, draw, open_)


def any_table(size: int, seed: int, open_: float = 0.0) -> dict[Components, Answer]:
    """Any set may be faithful; that of all components is."""
    draw = random.Random(seed)
    share = draw.choice([0.05, 0.3, 0.7])
    return _told({c: draw.random() < share for c in _subsets(size)}, size, draw, open_)


def _told(truth: dict[Components, bool], size: int, draw: random.Random, open_: float) -> dict[Components, Answer]:
    truth[frozenset(range(size))] = True
    said = {c: Answer.YES if holds else Answer.NO for c, holds in truth.items()}
    return {c: Answer.OPEN if draw.random() < open_ and len(c) < size else a for c, a in said.items()}
