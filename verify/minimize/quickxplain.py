"""QuickXplain: divide what may go, so that few components that matter are found by few proofs.

Source: Junker 2004, "QuickXplain: preferred explanations and relaxations for over-constrained problems" (AAAI).
"""

from __future__ import annotations

from collections.abc import Generator, Sequence

from verify.minimize.oracle import Components, Oracle, Search, State, needs_monotone
from verify.minimize.standing import reached

__all__ = ["quickxplain"]


def quickxplain(oracle: Oracle, start: Components, order: Sequence[int]) -> Search:
    """From a certified circuit of a monotone claim to a subset-minimal one; what comes last in `order` is kept rather.

    Cost: about `2 m log(n / m) + 2 m` proofs for `m` components that stay. Raises: NotMonotone.
    """
    needs_monotone(oracle, "quickxplain")
    liked = [v for v in reversed(order) if v in start]
    circuit = yield from _needed(oracle, frozenset(), True, liked, start)
    yield State(circuit, oracle.cost(circuit), 0.0, reached(oracle, circuit))


def _needed(
    oracle: Oracle, base: Components, grown: bool, rest: Sequence[int], best: Components
) -> Generator[State, None, Components]:
    """The least part of `rest` that makes `base` faithful, with `base`; known to be faithful with all of it."""
    if grown and oracle.faithful(base):
        yield State(base, oracle.cost(base), doing="quickxplain")
        return base
    if len(rest) <= 1:
        return base | set(rest)
    half = len(rest) // 2
    first, second = rest[:half], rest[half:]
    with_second = yield from _needed(oracle, base | set(first), True, second, best)
    chosen = with_second - base - set(first)
    return (yield from _needed(oracle, base | chosen, bool(chosen), first, best))
