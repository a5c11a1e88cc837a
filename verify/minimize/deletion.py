"""Deletion: try to drop one component after another, once each. Source: Hadad et al. 2026, arXiv:2602.16823, Algorithm 1."""

from __future__ import annotations

from collections.abc import Sequence

from verify.minimize.oracle import Answer, Components, Oracle, Search, State
from verify.minimize.standing import reached

__all__ = ["deletion"]


def deletion(oracle: Oracle, start: Components, order: Sequence[int]) -> Search:
    """From a certified circuit, one pass in an order (those to drop first come first).

    Reaches: subset minimality of a monotone claim; of another only what single removals at the end show. Before each proof
    every removal left is looked at for witnesses, all in one batch: those refuted count as tried. Cost: at most one proof a
    component.
    """
    circuit, todo = start, [v for v in order if v in start]
    while todo:
        looked = oracle.ask([circuit - {v} for v in todo], thorough=False)
        todo = [v for v, answer in zip(todo, looked, strict=True) if answer is not Answer.NO]
        if not todo:
            break
        v, *todo = todo
        if oracle.faithful(circuit - {v}):
            circuit = circuit - {v}
        yield State(circuit, oracle.cost(circuit), doing=f"deletion, {len(todo)} to try")
    yield State(circuit, oracle.cost(circuit), 0.0, reached(oracle, circuit))
