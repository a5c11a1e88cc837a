"""Deletion, pass after pass until one drops nothing. Source: Hadad et al. 2026, arXiv:2602.16823, Algorithm 3."""

from __future__ import annotations

from collections.abc import Sequence

from verify.minimize.deletion import deletion
from verify.minimize.oracle import Components, Oracle, Search, State

__all__ = ["iterated"]


def iterated(oracle: Oracle, start: Components, order: Sequence[int]) -> Search:
    """From a certified circuit to a locally minimal one (subset-minimal, of a monotone claim).

    Cost: a proof for each component and pass; passes end when every single removal is refuted or open.
    """
    circuit = start
    while True:
        state = State(circuit, oracle.cost(circuit))
        for state in deletion(oracle, circuit, order):
            yield state
        if state.standing.level in ("local", "subset") or state.best == circuit:
            return
        circuit = state.best
