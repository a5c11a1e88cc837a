"""Cheapest circuits by hitting sets: every faithful circuit meets every set whose removal breaks the claim.

So the cheapest set that meets all those found so far bounds every faithful circuit's cost from below; if it is faithful itself
it is the cheapest, and if not, what it left out holds another such set.

Source: Hadad et al. 2026, arXiv:2602.16823, Algorithm 2; the loop instead of an enumeration is the implicit hitting set of
Moreno-Centeno & Karp 2013 and Ignatiev et al. 2015 (smallest MUS extraction).
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

from pysat.examples.rc2 import RC2
from pysat.formula import WCNF

from verify.minimize.oracle import Answer, Components, Oracle, Search, Standing, State, needs_monotone

__all__ = ["Cover", "hitting", "largest_refuted"]


class Cover:
    """The cheapest set that meets every one of a growing family: a maximum satisfiability problem, solved by RC2."""

    def __init__(self, costs: tuple[float, ...]) -> None:
        """Costs are positive, and taken exactly."""
        exact = [Fraction(cost) for cost in costs]
        scale = math.lcm(*(f.denominator for f in exact)) if exact else 1
        formula: Any = WCNF()
        for i, f in enumerate(exact):
            formula.append([-(i + 1)], weight=int(f * scale))
        self._solver: Any = RC2(formula)
        self._least: Components | None = frozenset()

    def add(self, members: Components) -> None:
        """One more set to meet. Raises: ValueError: it is empty, and nothing meets it."""
        if not members:
            raise ValueError("the circuit that keeps everything is refuted: no circuit is faithful")
        self._solver.add_clause([v + 1 for v in sorted(members)])
        if self._least is not None and not self._least & members:
            self._least = None

    def least(self) -> Components:
        """A cheapest set."""
        if self._least is None:
            self._least = frozenset(x - 1 for x in self._solver.compute() if x > 0)
        return self._least


def hitting(oracle: Oracle, start: Components) -> Search:
    """From a certified circuit of a monotone claim to a cheapest one, with a bracket that closes from both sides.

    `lower` rests on refuted circuits alone. What stays open is taken for refuted so that the search goes on: the result is then
    relative to it, and `lower` stays behind. Raises: NotMonotone.
    """
    needs_monotone(oracle, "the hitting-set search")
    best = start
    proven, assumed = Cover(oracle.costs), Cover(oracle.costs)
    unresolved: list[Components] = []
    for v, answer in zip(
        sorted(best), oracle.ask([oracle.everything - {v} for v in sorted(best)], thorough=False), strict=True
    ):
        if answer is Answer.NO:
            proven.add(frozenset({v}))
            assumed.add(frozenset({v}))
    while True:
        lower = oracle.cost(proven.least())
        cheapest = assumed.least()
        yield State(best, oracle.cost(best), lower, doing=f"hitting sets, {len(unresolved)} open")
        if lower >= oracle.cost(best):
            yield State(best, oracle.cost(best), oracle.cost(best), Standing("cardinal", True))
            return
        if oracle.cost(cheapest) >= oracle.cost(best):
            # What was open may follow by now from what was learned since.
            settled = [(c, answer) for c in unresolved if (answer := oracle.ask([c])[0]) is not Answer.OPEN]
            unresolved = [c for c in unresolved if (c, Answer.NO) not in settled and (c, Answer.YES) not in settled]
            for circuit, answer in settled:
                if answer is Answer.NO:
                    proven.add(oracle.everything - circuit)
                elif oracle.cost(circuit) < oracle.cost(best):
                    best = circuit
            if settled:
                continue
            yield State(best, oracle.cost(best), lower, Standing("cardinal", False, tuple(unresolved)))
            return
        answer = oracle.ask([cheapest])[0]
        if answer is Answer.YES:
            best = cheapest
            continue
        if answer is Answer.OPEN:
            unresolved.append(cheapest)
            assumed.add(oracle.everything - cheapest)
            continue
        grown = largest_refuted(oracle, cheapest)
        # What the bound rests on is asked for itself: its witness is replayed.
        blocking = oracle.everything - (grown if oracle.ask([grown], thorough=False)[0] is Answer.NO else cheapest)
        proven.add(blocking)
        assumed.add(blocking)


def largest_refuted(oracle: Oracle, circuit: Components) -> Components:
    """A refuted circuit, grown as far as witnesses refute what is larger: those at hand first, then those that attacks find.

    Cost: two batches of looks at the witnesses at hand for each component that they do not let in, then an attack on each
    addition that is left.
    """
    while True:
        circuit = _grown_at_hand(oracle, circuit)
        rest = sorted(oracle.everything - circuit)
        answers = oracle.ask([circuit | {v} for v in rest], thorough=False)
        if Answer.NO not in answers:
            return circuit
        circuit = circuit | {rest[answers.index(Answer.NO)]}


def _grown_at_hand(oracle: Oracle, circuit: Components) -> Components:
    """The same with the witnesses at hand alone."""
    rest = sorted(oracle.everything - circuit)
    while rest:
        alone = oracle.refuted(oracle.masks([circuit | {v} for v in rest]))
        rest = [v for v, refuted in zip(rest, alone, strict=True) if refuted]
        # As many of them together as stay refuted; the next one blocks, and those behind it are tried again.
        together = oracle.refuted(oracle.masks([circuit | set(rest[: k + 1]) for k in range(len(rest))]))
        count = len(together) if together.all() else max(int(together.argmin()), 1)
        circuit, rest = circuit | set(rest[:count]), rest[count + 1 :]
    return circuit
