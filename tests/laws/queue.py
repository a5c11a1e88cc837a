"""The law of the queue of open parts: it gives back every part it was given, the worst first, and knows the worst bound."""

from __future__ import annotations

import random

import torch

from bounds.domains.slopes import Tuned
from verify.branch.queue import Part, Queue

__all__ = ["check_queue"]


def check_queue(seed: int, rounds: int = 600, memory: int = 1 << 18) -> int:
    """Parts come and go in a random order; returns how many were written out at most. `memory` holds about fifty."""
    rng = random.Random(seed)
    queue, inside, most = Queue(memory), [], 0
    for i in range(rounds):
        if inside and rng.random() < (0.2 if i < rounds / 2 else 0.6):
            part = queue.pop()
            assert part.bound == min(inside), "not the worst part"
            assert part.warm is None or float(part.warm.model["h"][0, 0]) == part.bound, "another part's warm start"
            inside.remove(part.bound)
        else:
            bound = -rng.random()
            queue.push(Part(0, (), bound, warm=Tuned(model={"h": torch.full((1, 100), bound, dtype=torch.float64)})))
            inside.append(bound)
        assert len(queue) == len(inside)
        assert queue.bound == min(inside, default=float("inf")), "not the least bound"
        most = max(most, queue.waiting)
    while inside:
        inside.remove(queue.pop().bound)
    assert not queue
    return most
