"""Branch and bound against the exact margin, at every step, whichever way it splits."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from bounds.backends.native import Native
from bounds.query import Clauses, Norm, Query
from verify.branch.run import Branching

__all__ = ["check_branching", "shifted"]


def shifted(query: Query, by: float) -> Query:
    """The same query with a tolerance larger by `by`, so that its exact margin moves by as much."""
    if isinstance(query.margins, Clauses):
        return replace(query, margins=replace(query.margins, offset=query.margins.offset + by))
    assert isinstance(query.margins, Norm)
    return replace(query, margins=replace(query.margins, tolerance=query.margins.tolerance + by))


def check_branching(
    query: Query, mask: Tensor, exact: float, gap: float, by_input: bool, rounds: int = 12, known: bool = False
) -> bool:
    """With the tolerance moved so that the claim holds, or fails, by `gap` of its size: a bound is never above the exact
    margin, at any step, and a claim that fails is never closed. Shapes: `mask` `(1, gates.size)`. Returns whether the claim
    was closed; parts are written out as soon as there are a few. With `known` intervals have bounded the forms, and few goals
    are bounded at a time."""
    size = 1 + abs(exact)
    moved = shifted(query, gap * size - exact)
    forms = Native("interval").open(moved).bound(mask).forms[0] if known else None
    branching = Branching(moved, mask, steps=8, batch=2 if known else 16, held=1 << 16, forms=forms)
    branching.by_input = by_input
    assert branching.bound < 0, "something is known before anything is bounded"
    branching.root()
    for _ in range(rounds):
        assert branching.bound <= gap * size + 1e-7 * size, f"a bound of {branching.bound} is above the exact {gap * size}"
        if not branching.open or branching.bound >= 0:
            break
        branching.step()
    if gap < 0:
        assert branching.bound < 0, "a claim that fails was closed"
    return branching.bound >= 0
