"""Unsound relaxations of what jumps: JumpReLU, and the largest few entries of a row."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from bounds.ops import JumpRelu, TopK
from bounds.ops.base import Lines
from tests.mutants.planting import Patch, changed, mutant


@mutant("elementwise")
def jump_taken_for_a_kink(patch: Patch) -> None:
    """The upper line of ReLU shifted to the threshold: lost is what stands at the jump."""

    def shifted(original: Any, op: JumpRelu, lower: Tensor, upper: Tensor) -> Lines:
        lines = original(op, lower, upper)
        known = op.settled(lower, upper)
        return Lines(lines.al, lines.bl, lines.au, torch.where(known, lines.bu, lines.bu - op.threshold.abs() / 4))

    changed(patch, JumpRelu, "envelope", shifted)


@mutant("elementwise")
def quotients_over_a_jump_as_of_relu(patch: Patch) -> None:
    changed(patch, JumpRelu, "steepness", lambda original, op, l, u: tuple(t.clamp(0, 1) for t in original(op, l, u)))


@mutant("elementwise")
def end_at_the_threshold_counted_as_above(patch: Patch) -> None:
    changed(patch, JumpRelu, "_sides", lambda original, op, l, u: (l >= op.threshold, (u <= op.threshold) & (l < op.threshold)))


@mutant("joint")
def places_counted_from_the_wrong_ends(patch: Patch) -> None:
    """Kept where the others' lower ends would let it."""

    def swapped(original: Any, op: TopK, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        low, high, _, off = original(op, lower, upper)
        return low, high, lower >= low, off

    changed(patch, TopK, "_jumps", swapped)


@mutant("joint")
def entries_kept_in_one_run_as_in_both(patch: Patch) -> None:
    changed(patch, TopK, "_both_on", lambda original, op, y, c: original(op, y, y))
