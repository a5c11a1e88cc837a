"""Deletion: try to drop one component after another, once each. Source: Hadad et al. 2026, arXiv:2602.16823, Algorithm 1."""

from __future__ import annotations

from collections.abc import Sequence

from verify.minimize.oracle import Answer, Components, Oracle, Search, State
from verify.minimize.standing import reached

__all__ = ["deletion"]


def deletion(oracle: Oracle, start: Components, order: Sequence[int]) -> Search:
    """From a certified circuit, one pass in an order (those to drop first come first).

    Reaches: subset minimality of a monotone claim; of another only what single removals at the end show. All removals are
    looked at for witnesses first, in one batch, and after each proof for those at hand: what they refute counts as tried. Cost:
    at most one proof a component.
    """
    circuit, todo = start, [v for v in order if v in start]
    looked = oracle.ask([circuit - {v} for v in todo], thorough=False)
    todo = [v for v, answer in zip(todo, looked, strict=True) if answer is not Answer.NO]
    while todo:
        v, *todo = todo
        if oracle.faithful(circuit - {v}):
            circuit = circuit - {v}
        held = oracle.refuted(oracle.masks([circuit - {u} for u in todo]))
        todo = [u for u, refuted in zip(todo, held, strict=True) if not refuted]
        yield State(circuit, oracle.cost(circuit), doing=f"deletion, {len(todo)} to try")
    yield State(circuit, oracle.cost(circuit), 0.0, reached(oracle, circuit))
