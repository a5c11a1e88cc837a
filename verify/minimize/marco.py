"""All minimal circuits and all minimal blocking-sets of a monotone claim, one after the other.

Source: Liffiton, Previti, Malik & Marques-Silva 2016, "Fast, flexible MUS enumeration" (MARCO), Constraints 21(2).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pysat.solvers import Solver

from verify.minimize.hitting import largest_refuted
from verify.minimize.oracle import Answer, Components, Oracle, needs_monotone

__all__ = ["Item", "marco"]


@dataclass(frozen=True, slots=True)
class Item:
    """One finding: a minimal circuit; a minimal blocking-set (removing it breaks the claim, removing less does not); or a
    circuit that stayed open. `proven`: minimal by decided questions alone, not for want of an answer."""

    kind: Literal["circuit", "blocking", "open"]
    members: Components
    proven: bool = True


def marco(oracle: Oracle, order: Sequence[int] | None = None) -> Iterator[Item]:
    """Every minimal circuit and every minimal blocking-set, each once; at its end they are all there are, up to what was open.

    Each round takes a circuit that nothing found so far decides, a largest one, and shrinks it if it is faithful or grows it if
    not. `order` says what to drop first. What stays open is put aside with all that only it would decide. Raises: NotMonotone.
    """
    needs_monotone(oracle, "enumeration")
    wanted = list(range(oracle.size)) if order is None else list(order)
    solver: Any = Solver(name="g4")
    try:
        for v in range(oracle.size):
            solver.add_clause([v + 1, -(v + 1)])
        solver.set_phases([v + 1 for v in range(oracle.size)])
        while solver.solve():
            model = solver.get_model() or []
            seed = _largest(solver, frozenset(x - 1 for x in model if x > 0), oracle.size)
            answer = oracle.ask([seed])[0]
            if answer is Answer.YES:
                circuit, proven = _shrunk(oracle, seed, wanted)
                yield Item("circuit", circuit, proven)
                solver.add_clause([-(v + 1) for v in sorted(circuit)])
            elif answer is Answer.NO:
                grown, proven = _grown(oracle, seed)
                yield Item("blocking", oracle.everything - grown, proven)
                solver.add_clause([v + 1 for v in sorted(oracle.everything - grown)])
            else:
                yield Item("open", seed, False)
                solver.add_clause([v + 1 for v in sorted(oracle.everything - seed)])
    finally:
        solver.delete()


def _largest(solver: Any, seed: Components, size: int) -> Components:
    """A largest circuit that the map leaves open, above one that it does."""
    chosen = set(seed)
    for v in range(size):
        if v not in chosen and solver.solve(assumptions=[u + 1 for u in sorted(chosen | {v})]):
            chosen.add(v)
    return frozenset(chosen)


def _shrunk(oracle: Oracle, circuit: Components, order: Sequence[int]) -> tuple[Components, bool]:
    """A minimal circuit inside a certified one, and whether every removal from it is refuted."""
    proven = True
    for v in order:
        if v not in circuit:
            continue
        answer = oracle.ask([circuit - {v}])[0]
        if answer is Answer.YES:
            circuit = circuit - {v}
        proven = proven and answer is not Answer.OPEN
    if not proven:
        proven = all(answer is Answer.NO for answer in oracle.ask([circuit - {v} for v in sorted(circuit)]))
    return circuit, proven


def _grown(oracle: Oracle, circuit: Components) -> tuple[Components, bool]:
    """A largest refuted circuit above a refuted one, and whether every addition to it is certified."""
    circuit, proven = largest_refuted(oracle, circuit), True
    for v in sorted(oracle.everything - circuit):
        answer = oracle.ask([circuit | {v}])[0]
        if answer is Answer.NO:
            circuit = circuit | {v}
        proven = proven and answer is not Answer.OPEN
    return circuit, proven
