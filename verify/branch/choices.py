"""Splits of a set of token sequences: one position's alternatives, halved."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.domains.slopes import Result
from bounds.domains.trace import Trace
from bounds.region import Region
from bounds.tokens import Tokens
from verify.branch.splits import Split

__all__ = ["Choice", "choices", "has_choices"]

_HALF = 0.5
"""Between what a token's element is where it stands and where it does not, for radii below it."""


@dataclass(frozen=True, slots=True)
class Choice(Split):
    """The token at a position is one of `first` (`side` 1) or one of `second` (-1), elements of the input."""

    first: tuple[int, ...] = ()
    second: tuple[int, ...] = ()

    def ends(self) -> Sequence[tuple[int, int]]:
        return [(at, -1) for at in (self.second if self.side > 0 else self.first)]


def has_choices(region: Region) -> bool:
    """Whether a region's parts are told apart by their tokens."""
    return isinstance(region, Tokens) and not region.bag and region.radius < _HALF


def choices(trace: Trace, result: Result) -> list[Choice | None]:
    """For each part, the position along which its worst form varies most, its alternatives halved by that form; None where
    every position has but one."""
    region, name = trace.region, trace.graph.input
    assert isinstance(region, Tokens)
    worst = result.worst.flatten(1).unflatten(1, (region.positions, region.vocabulary))
    possible = region.possible(trace.read[name]).expand(len(worst), -1, -1)
    top, least = (_filled(worst, possible, sign).amax(2) for sign in (1, -1))
    spread = torch.where(possible.sum(2) > 1, top + least, -1.0)
    score = spread + torch.where(spread >= 0, 1e-3 * spread.amax(1, keepdim=True) + 1e-9 * possible.sum(2), 0.0)
    found: list[Choice | None] = []
    for i, position in enumerate(score.argmax(1).tolist()):
        tokens = possible[i, position].nonzero().squeeze(1)
        if len(tokens) < 2:
            found.append(None)
            continue
        ordered = tokens[worst[i, position, tokens].argsort(stable=True)] + position * region.vocabulary
        first, second = ordered[: len(ordered) // 2].tolist(), ordered[len(ordered) // 2 :].tolist()
        found.append(Choice("model", name, first[0], 1, _HALF, tuple(first), tuple(second)))
    return found


def _filled(worst: Tensor, possible: Tensor, sign: int) -> Tensor:
    return torch.where(possible, sign * worst, -torch.inf)
