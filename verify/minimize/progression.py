"""Progression: drop ever longer stretches while they may go, and find by bisection what stops them.

Source: Marques-Silva, Janota & Belov 2013, "Minimal sets over monotone predicates in Boolean formulae" (CAV).
"""

from __future__ import annotations

from collections.abc import Sequence

from verify.minimize.binary import longest
from verify.minimize.oracle import Answer, Components, Oracle, Search, State, needs_monotone
from verify.minimize.standing import reached

__all__ = ["progression"]


def progression(oracle: Oracle, start: Components, order: Sequence[int], width: int = 8) -> Search:
    """From a certified circuit of a monotone claim to a subset-minimal one. Lengths 1, 2, 4, ... are asked in one batch.

    Cost: about `m log(n / m)` proofs for `m` components that stay. Raises: NotMonotone.
    """
    needs_monotone(oracle, "progression")
    circuit, todo = start, [v for v in order if v in start]
    while todo:
        looked = oracle.ask([circuit - {v} for v in todo], thorough=False)
        todo = [v for v, answer in zip(todo, looked, strict=True) if answer is not Answer.NO]
        low, high = 0, len(todo) + 1
        lengths = [k for k in (1 << i for i in range(width)) if k <= len(todo)]
        answers = oracle.ask([circuit - set(todo[:k]) for k in lengths])
        for k, answer in zip(lengths, answers, strict=True):
            if answer is not Answer.YES:
                high = k
                break
            low = k
        if high <= len(todo):
            while high - low > 1:
                low, high, _ = longest(oracle, circuit, todo, low, high, width)
        circuit = circuit - set(todo[:low])
        todo = todo[high:] if high <= len(todo) else todo[low:]
        yield State(circuit, oracle.cost(circuit), doing=f"progression, {len(todo)} to try")
    yield State(circuit, oracle.cost(circuit), 0.0, reached(oracle, circuit))
