"""Unsound ways with finite sets of tokens: sequences forgotten, alternatives lost, the best point taken for the worst."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bounds import enumeration
from bounds.domains import points
from bounds.domains.fronts import Fronts
from bounds.region import Box
from bounds.tokens import Tokens
from tests.mutants.planting import Patch, changed, mutant
from verify.branch.choices import Choice
from verify.ladder import enumerate as rung


@mutant("region")
def first_alternative_for_all(patch: Patch) -> None:
    def wrong(original: Any, tokens: Tokens, a: Tensor, possible: Tensor) -> Tensor:
        first = possible & (possible.cumsum(2) == 1)
        return original(tokens, a, first)

    changed(patch, Tokens, "_least", wrong)


@mutant("region")
def room_around_tokens_forgotten(patch: Patch) -> None:
    changed(patch, Tokens, "_widened", lambda original, tokens, low, high: Box(low.to(tokens.dtype), high.to(tokens.dtype)))


@mutant("region")
def room_not_charged(patch: Patch) -> None:
    changed(patch, Tokens, "_charged", lambda original, tokens, a, least: least)


@mutant("region")
def tokens_of_a_part_lost(patch: Patch) -> None:
    """A token is taken to need all the room above it."""

    def wrong(original: Any, tokens: Tokens, box: Box) -> Tensor:
        return original(tokens, box) & (box.upper.reshape(len(box.upper), *tokens.allowed.shape) >= 1 + tokens.radius)

    changed(patch, Tokens, "possible", wrong)


@mutant("tokens")
def last_sequences_skipped(patch: Patch) -> None:
    class Fewer(enumeration._Listed):  # pyright: ignore[reportPrivateUsage]
        pass

    changed(patch, rung, "enumeration", lambda original, region: Fewer(region.count - region.count // 3, region))


@mutant("tokens")
def the_best_point_counts(patch: Patch) -> None:
    changed(patch, rung.torch, "minimum", lambda original, a, b: torch.maximum(a, b))


@mutant("tokens")
def ablated_parts_kept(patch: Patch) -> None:
    patch.setattr(enumeration.interval, "gated", lambda value, patch, kept: value)


@mutant("tokens")
def least_at_a_point_from_above(patch: Patch) -> None:
    changed(patch, points, "least", lambda original, trace, name, a: -original(trace, name, -a))


@mutant("tokens")
def circuits_at_points_patched_by_nothing(patch: Patch) -> None:
    changed(patch, points, "of_circuit", lambda original, model, gates, mask: original(model, gates, torch.ones_like(mask)))


@mutant("tokens")
def intervals_between_points_forgotten(patch: Patch) -> None:
    def wrong(original: Any, trace: Any, node: Any, box: Box) -> Box:
        found = original(trace, node, box)
        return Box(found.lower[:1].expand_as(found.lower), found.upper[:1].expand_as(found.upper))

    changed(patch, points, "_sharpened", wrong)


@mutant("tokens")
def a_token_in_neither_half(patch: Patch) -> None:
    def ends(original: Any, choice: Choice) -> Any:
        dropped = choice.second if choice.side > 0 else (*choice.first, choice.second[0])
        return [(at, -1) for at in dropped]

    changed(patch, Choice, "ends", ends)


@mutant("tokens")
def fronts_by_the_wrong_sign(patch: Patch) -> None:
    def wrong(original: Any, fronts: Fronts, name: str, part: Box, like: Box) -> Box:
        box = original(fronts, name, part, like)
        return Box(box.lower, (box.lower + box.upper) / 2)

    changed(patch, Fronts, "box", wrong)
