"""Every subset asked. The plain slow version that the algorithms are tested against, and what tiny scopes can afford."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from verify.minimize.oracle import Answer, Components, Level, Oracle

__all__ = ["Table", "table"]


@dataclass(frozen=True, slots=True)
class Table:
    """The answer for each circuit."""

    oracle: Oracle
    answers: dict[Components, Answer]

    @property
    def faithful(self) -> list[Components]:
        """The certified circuits."""
        return [circuit for circuit, answer in self.answers.items() if answer is Answer.YES]

    def refuted(self, circuits: list[Components]) -> bool:
        """Whether all of them are."""
        return all(self.answers[circuit] is Answer.NO for circuit in circuits)

    def minimal(self, circuit: Components, level: Level) -> bool:
        """Whether a certified circuit is minimal at a level, by the definition, every refutation being decided."""
        singles = [circuit - {v} for v in circuit]
        match level:
            case "none":
                return True
            case "quasi":
                return not circuit or any(self.answers[c] is Answer.NO for c in singles)
            case "local":
                return self.refuted(singles)
            case "subset":
                return self.refuted([c for c in self.answers if c < circuit])
            case "cardinal":
                cost = self.oracle.cost(circuit)
                return self.refuted([c for c in self.answers if self.oracle.cost(c) < cost])

    def minimal_circuits(self) -> set[Components]:
        """Certified circuits of which no proper subset is certified or open."""
        return {circuit for circuit in self.faithful if self.minimal(circuit, "subset")}


def table(oracle: Oracle) -> Table:
    """Ask everything. Cost: `2^size` questions."""
    circuits = [frozenset(c) for k in range(oracle.size + 1) for c in itertools.combinations(range(oracle.size), k)]
    return Table(oracle, dict(zip(circuits, oracle.ask(circuits), strict=True)))
