"""Which algorithm for which level, and how one follows another until the level is reached or nothing more can be said."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from verify.minimize.binary import binary
from verify.minimize.deletion import deletion
from verify.minimize.hitting import hitting
from verify.minimize.iterated import iterated
from verify.minimize.oracle import Components, Level, Oracle, Search, State, implies
from verify.minimize.progression import progression
from verify.minimize.quickxplain import quickxplain
from verify.minimize.standing import standing

__all__ = ["ALGORITHMS", "minimized"]


def _hitting(oracle: Oracle, start: Components, order: Sequence[int]) -> Search:
    return hitting(oracle, start)


ALGORITHMS: dict[str, Callable[[Oracle, Components, Sequence[int]], Search]] = {
    "deletion": deletion,
    "iterated": iterated,
    "binary": binary,
    "progression": progression,
    "quickxplain": quickxplain,
    "hitting": _hitting,
}
"""By name; each takes a certified circuit and an order, and tells its states."""


def minimized(
    oracle: Oracle, start: Components, level: Level, order: Sequence[int], algorithm: str = "auto", limit: int = 1 << 22
) -> Search:
    """From a certified circuit to one that is minimal at `level`, as far as questions are answered; the last state says how far
    that is.

    `auto` reduces by progression where the claim is monotone, by iterated deletion where it is not, by binary search for
    `quasi`; a named algorithm takes the place of that. What the level asks beyond it is then checked (`standing`; the
    hitting-set search for `cardinal` of a monotone claim), from every smaller circuit found anew. Raises: NotMonotone: the
    algorithm named needs a monotone claim; KeyError: there is none of that name.
    """
    best, lower = start, 0.0
    while True:
        state = State(best, oracle.cost(best), lower)
        for state in ALGORITHMS[_name(oracle, level, algorithm)](oracle, best, order):
            lower = max(lower, state.lower)
            yield replace(state, lower=lower)
        best = state.best
        if _reaches(state, level) or (state.standing.level == level and algorithm == "hitting"):
            return
        for state in _checked(oracle, best, level, limit):
            lower = max(lower, state.lower)
            yield replace(state, lower=lower)
        if state.best != best:
            return
        if state.standing.smaller is None:
            return
        best = state.standing.smaller


def _name(oracle: Oracle, level: Level, algorithm: str) -> str:
    if algorithm != "auto":
        return algorithm
    if level == "quasi":
        return "binary"
    if level == "none":
        return "deletion"
    return "progression" if oracle.monotone else "iterated"


def _checked(oracle: Oracle, circuit: Components, level: Level, limit: int) -> Iterator[State]:
    if level == "cardinal" and oracle.monotone:
        return hitting(oracle, circuit)
    return standing(oracle, circuit, level, limit)


def _reaches(state: State, level: Level) -> bool:
    """Whether what was shown already implies the level."""
    found = state.standing
    return found.proven and found.smaller is None and implies(found.level, level)
