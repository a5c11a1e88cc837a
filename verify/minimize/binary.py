"""Binary search along an order for how much of it may go. Source: Hadad et al. 2026, arXiv:2602.16823, Algorithm 4."""

from __future__ import annotations

from collections.abc import Sequence

from verify.minimize.oracle import Answer, Components, Oracle, Search, Standing, State

__all__ = ["binary", "longest"]


def binary(oracle: Oracle, start: Components, order: Sequence[int], width: int = 8) -> Search:
    """From a certified circuit to a quasi-minimal one: the first components of the order dropped, up to one that may not be.

    `width` lengths are asked at once, so that about `log(n) / log(width + 1)` batches do.
    """
    order = [v for v in order if v in start]
    low, high, answer = 0, len(order) + 1, Answer.NO
    while high - low > 1:
        low, high, answer = longest(oracle, start, order, low, high, width, answer)
        circuit = start - set(order[:low])
        yield State(circuit, oracle.cost(circuit), doing=f"binary search, {high - low - 1} lengths left")
    circuit = start - set(order[:low])
    if low == len(order):
        standing = Standing("quasi", True) if not circuit else Standing("none", True)
    else:
        tried = circuit - {order[low]}
        standing = Standing("quasi", answer is Answer.NO, () if answer is Answer.NO else (tried,))
    yield State(circuit, oracle.cost(circuit), 0.0, standing)


def longest(
    oracle: Oracle, start: Components, order: Sequence[int], low: int, high: int, width: int, above: Answer = Answer.NO
) -> tuple[int, int, Answer]:
    """One batch of a search for a length of `order` that may be dropped from `start`, and whose successor may not.

    `low` may be dropped, `high` (one more than there are, at most) may not. Returns both, closer, and what `high` was answered.
    """
    gap = high - low
    lengths = sorted({low + max(1, min(gap - 1, round(gap * (i + 1) / (width + 1)))) for i in range(width)})
    answers = oracle.ask([start - set(order[:k]) for k in lengths])
    for k, answer in zip(lengths, answers, strict=True):
        if answer is not Answer.YES:
            return low, k, answer
        low = k
    return low, high, above
