"""All smaller circuits, one by one: what a claim that is not monotone demands. The witnesses at hand refute most at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Generator, Iterator, Sequence
from typing import Literal

import numpy as np

from verify.minimize.oracle import Answer, Components, Masks, Oracle, Search, Standing, State

__all__ = ["of_size", "smaller_circuits", "survivors"]

_CHUNK = 1 << 14
_BATCH = 32
_LISTED = 100
"""Unresolved circuits that a standing lists; the others are counted."""


def smaller_circuits(oracle: Oracle, circuit: Components, level: Literal["subset", "cardinal"], limit: int) -> Search:
    """Whether some smaller circuit is faithful: a proper subset of `circuit` (`subset`), or any of less cost (`cardinal`).

    `circuit` is certified. Subsets are taken by size, the largest first, for they are the likeliest to be faithful; circuits of
    less cost the smallest first, so that `lower` rises as they are refuted. The first one that is certified ends the search, as
    `smaller`. At most `limit` are looked at; the others count as unresolved. Cost: for each a look at the witnesses at hand, in
    batches; an attack and a proof for those that no witness refutes.
    """
    subset = level == "subset"
    upper = oracle.cost(circuit)
    members = sorted(circuit if subset else oracle.everything)
    sizes = range(len(members) - 1, -1, -1) if subset else range(len(members) + 1)
    total = sum(math.comb(len(members), k) for k in sizes)
    cheapest = list(itertools.accumulate(sorted(oracle.costs[v] for v in members), initial=0.0))
    unresolved: list[Components] = []
    least_open, looked, count = math.inf, 0, 0
    lower = 0.0
    for size in sizes:
        if not subset and cheapest[size] >= upper:
            break
        for masks in of_size(members, size, oracle.size):
            looked += len(masks)
            if not subset:
                masks = masks[masks @ np.asarray(oracle.costs) < upper]
            for found, answer in survivors(oracle, masks):
                if answer is Answer.YES:
                    standing = Standing(level, False, tuple(unresolved), found, count)
                    yield State(circuit, upper, lower, standing)
                    return
                count += 1
                least_open = min(least_open, oracle.cost(found))
                if len(unresolved) < _LISTED:
                    unresolved.append(found)
            standing = Standing("none", True, tuple(unresolved), None, count)
            yield State(circuit, upper, lower, standing, f"{looked} of {total} smaller circuits looked at")
            if looked >= limit and looked < total:
                standing = Standing(level, False, tuple(unresolved), None, count + total - looked)
                yield State(circuit, upper, lower, standing)
                return
        if not subset:
            lower = min(upper, least_open, cheapest[min(size + 1, len(members))])
    standing = Standing(level, count == 0, tuple(unresolved), None, count)
    yield State(circuit, upper, 0.0 if subset else min(upper, least_open), standing)


def of_size(members: Sequence[int], size: int, width: int) -> Iterator[Masks]:
    """All ways to keep `size` of the members, in chunks. Shape: `(count, width)`."""
    ways = itertools.combinations(members, size)
    while chunk := list(itertools.islice(ways, _CHUNK)):
        masks = np.zeros((len(chunk), width), dtype=bool)
        if size:
            masks[np.arange(len(chunk))[:, None], np.array(chunk)] = True
        yield masks


def survivors(oracle: Oracle, masks: Masks) -> Generator[tuple[Components, Answer]]:
    """The circuits among many that are certified or stay open. Every witness found on the way is tried on all that are left."""
    while len(masks):
        masks = masks[~oracle.refuted(masks)]
        batch = [frozenset(np.flatnonzero(row).tolist()) for row in masks[:_BATCH]]
        masks = masks[_BATCH:]
        answers = oracle.ask(batch, thorough=False)
        hard = [c for c, answer in zip(batch, answers, strict=True) if answer is not Answer.NO]
        for circuit, answer in zip(hard, oracle.ask(hard) if hard else [], strict=True):
            if answer is not Answer.NO:
                yield circuit, answer
