"""Completeness and minimality in the sense of Wang et al. 2022: scores on samples, no proofs, and other words than ours.

Their `minimality` says of each component that it matters somewhere; ours (THEORY section 4) that nothing smaller is faithful.
Source: Wang, Variengien, Conmy, Shlegeris & Steinhardt 2022, arXiv:2211.00593, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.stem import Stem
from specs.encode import Claim, Problem
from verify.minimize.orders import samples
from verify.witness.evidence import Evidence
from verify.witness.pool import row_limit

__all__ = ["WangScores", "wang_scores"]

_SETS = 128
"""Random sets that are tried; for minimality, for each component."""

_STEPS = 8
"""Steps of a greedy search for a worst set."""


@dataclass(frozen=True, slots=True)
class WangScores:
    """With `F` the model's mean outputs on the samples, and distances the largest over outputs:

    `incompleteness`: the largest `|F(C \\ K) - F(M \\ K)|` found over sets `K` inside the circuit `C`, of which `worst` is one
    (component numbers); `M` keeps everything. A complete circuit has a small one.
    `minimality`: for each component `v` of `C`, the largest `|F(C \\ (K + v)) - F(C \\ K)|` found over sets `K`. A circuit is
    minimal in this sense where none is small.
    Both are lower bounds of the true maxima over `K`, on the samples.
    """

    incompleteness: float
    worst: tuple[int, ...]
    minimality: dict[int, float]
    samples: int


def wang_scores(problem: Problem, claim: Claim, circuit: frozenset[int], *, count: int = 64, seed: int = 0) -> WangScores:
    """The scores of a circuit at random inputs and patch values of a claim. Deterministic for a seed.

    Cost: `count` forward passes for each set tried: some hundred, and a hundred a component."""
    mean = _Means(problem, claim, count, seed)
    generator = torch.Generator().manual_seed(seed)
    kept = torch.zeros(len(problem.components), dtype=torch.bool)
    kept[sorted(circuit)] = True
    worst, score = _incomplete(mean, kept, generator)
    minimality = {v: _matters(mean, kept, v, generator) for v in sorted(circuit)}
    return WangScores(score, tuple(worst.nonzero().flatten().tolist()), minimality, count)


class _Means:
    """Mean outputs of circuits over fixed samples."""

    def __init__(self, problem: Problem, claim: Claim, count: int, seed: int) -> None:
        evidence = Evidence(problem, claim, "cpu", seed, False)
        query = evidence.attackable
        points = samples(evidence, count, seed)
        self.stem, self.count = Stem(query.graph, query.gates), count
        self.values = self.stem.values(points.x)
        fixed = {gate.tensor: gate.patch.lower.unsqueeze(0).expand(count, *gate.group.shape) for gate in query.gates.gates}
        self.patches = fixed | dict(points.patches)
        self._together = max(1, row_limit(query.graph) // count)

    @torch.no_grad()
    def __call__(self, masks: Tensor) -> Tensor:
        """Shapes: `(circuits, components)` to `(circuits, outputs)`."""
        found: list[Tensor] = []
        for part in masks.split(self._together):
            n = len(part)
            values = {name: value.repeat(n, *[1] * (value.dim() - 1)) for name, value in self.values.items()}
            patches = {name: value.repeat(n, *[1] * (value.dim() - 1)) for name, value in self.patches.items()}
            outputs = self.stem.outputs(values, part.repeat_interleave(self.count, dim=0), patches)
            found.append(outputs.flatten(1).reshape(n, self.count, -1).mean(1))
        return torch.cat(found)


def _incomplete(mean: _Means, kept: Tensor, generator: torch.Generator) -> tuple[Tensor, float]:
    """A set `K` inside the circuit, as a mask, and its score: the best of random sets, improved greedily."""

    def scores(sets: Tensor) -> Tensor:
        return (mean(kept & ~sets) - mean(~sets)).abs().amax(1)

    sets = _random_sets(kept, _SETS, generator)
    found = scores(sets)
    best, score = sets[found.argmax()], float(found.max())
    for _ in range(_STEPS):
        turned = torch.stack([best ^ _one(len(kept), v) for v in kept.nonzero().flatten().tolist()] or [best])
        found = scores(turned)
        if float(found.max()) <= score:
            break
        best, score = turned[found.argmax()], float(found.max())
    return best, score


def _matters(mean: _Means, kept: Tensor, v: int, generator: torch.Generator) -> float:
    """The largest effect found of removing a component after some others."""
    rest = kept & ~_one(len(kept), v)
    sets = _random_sets(rest, _SETS, generator)
    return float((mean(kept & ~sets & ~_one(len(kept), v)) - mean(kept & ~sets)).abs().amax())


def _random_sets(inside: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """The empty set, and random ones of every size. Shape: `(count, components)`."""
    share = torch.rand((count, 1), generator=generator)
    sets = (torch.rand((count, len(inside)), generator=generator) < share) & inside
    sets[0] = False
    return sets


def _one(size: int, v: int) -> Tensor:
    return torch.arange(size) == v
