"""Discovery as it is done without proofs: by what circuits do at samples. What these end with is certified afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from specs.encode import Problem
from verify.bench.suite import Attribution, Sampling, Thresholding
from verify.minimize.orders import importance, order_of, samples
from verify.witness.evidence import Evidence
from verify.witness.pool import WitnessPool

__all__ = ["found_by"]

Look = Callable[[Tensor], Tensor]
"""Circuits `(K, size)` to their margins at samples, `(samples, K)`."""


def found_by(method: Sampling | Thresholding | Attribution, problem: Problem, tolerance: float, seed: int) -> frozenset[int]:
    """The components that a baseline keeps. Cost: at most one forward pass a component and sample, and those of its order."""
    look, size = _look(problem, method.samples, seed), len(problem.components)
    if isinstance(method, Sampling):
        return _dropped(look, order_of(problem, "removal", seed), size)
    if isinstance(method, Thresholding):
        return _thresholded(look, size, method.threshold * tolerance, tolerance)
    return _shortest(look, importance(problem, problem.claims[0], method.order, seed))


def _look(problem: Problem, count: int, seed: int) -> Look:
    evidence = Evidence(problem, problem.claims[0], "cpu", seed, False)
    pool = WitnessPool(count)
    pool.add(samples(evidence, count, seed))
    return lambda masks: pool.evaluate(evidence.attackable, masks)


def _dropped(look: Look, order: Iterable[int], size: int) -> frozenset[int]:
    """Greedily, one pass: what may go at all samples goes."""
    kept = torch.ones(1, size, dtype=torch.bool)
    for v in order:
        tried = kept.clone()
        tried[0, v] = False
        if bool((look(tried) >= 0).all()):
            kept = tried
    return frozenset(kept[0].nonzero().flatten().tolist())


def _thresholded(look: Look, size: int, threshold: float, tolerance: float) -> frozenset[int]:
    """From the output backwards: what adds less than `threshold` to the mean deviation goes."""
    kept = torch.ones(1, size, dtype=torch.bool)
    deviation = float((tolerance - look(kept)).mean())
    for v in reversed(range(size)):
        tried = kept.clone()
        tried[0, v] = False
        found = float((tolerance - look(tried)).mean())
        if found - deviation < threshold:
            kept, deviation = tried, found
    return frozenset(kept[0].nonzero().flatten().tolist())


def _shortest(look: Look, scores: Tensor) -> frozenset[int]:
    """The best-scored components, as few as keep the margin at all samples; all of them are always enough."""
    order = torch.argsort(scores, descending=True, stable=True).tolist()
    masks = torch.zeros(len(order) + 1, len(order), dtype=torch.bool)
    for count in range(1, len(order) + 1):
        masks[count, order[:count]] = True
    passed = (look(masks) >= 0).all(0)
    passed[-1] = True
    return frozenset(order[: int(passed.int().argmax())])
