"""Unsound operators. Some are bugs that the laws once found."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.ops import Clip, Concat, Conv, Dense, LeakyRelu, Maximum, Reduce, Sigmoid, Tanh, Transpose
from bounds.ops.base import Elementwise, Lines
from tests.mutants.planting import Patch, changed, mutant


@mutant("elementwise")
def relu_chord_of_wrong_slope(patch: Patch) -> None:
    def tilted(original: Any, op: LeakyRelu, lower: Tensor, upper: Tensor) -> Lines:
        lines = original(op, lower, upper)
        return replace(lines, au=torch.where(op.settled(lower, upper), lines.au, 0.9 * lines.au))

    changed(patch, LeakyRelu, "envelope", tilted)


@mutant("elementwise")
def relu_lower_line_too_steep(patch: Patch) -> None:
    def steep(original: Any, op: LeakyRelu, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor] | None:
        found = original(op, lower, upper)
        return None if found is None else (found[0], torch.where(found[0] < found[1], found[1] + 0.01, found[1]))

    changed(patch, LeakyRelu, "free_slopes", steep)


@mutant("elementwise")
def upper_line_below_sigmoid(patch: Patch) -> None:
    """The chord everywhere: right on the convex side only."""

    def chord(original: Any, op: Elementwise, l: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        slope = (op.forward(u) - op.forward(l)) / (u - l).clamp_min(1e-30)
        return slope, op.forward(l) - slope * l + 1e-12

    changed(patch, Sigmoid, "_above", chord)


@mutant("elementwise")
def steepness_of_tanh_at_the_far_end(patch: Patch) -> None:
    def swapped(original: Any, op: Tanh, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        flat, _ = original(op, lower, upper)
        return flat, flat + 1e-9

    changed(patch, Tanh, "steepness", swapped)


@mutant("elementwise")
def top_of_clip_forgotten(patch: Patch) -> None:
    """The upper line passes through the ends only, under the corner."""

    def low(original: Any, op: Clip, l: Tensor, u: Tensor, corner: float) -> tuple[Tensor, Tensor]:
        slope = (op.forward(u) - op.forward(l)) / (u - l).clamp_min(1e-30)
        return slope, op.forward(l) - slope * l

    changed(patch, Clip, "_above", low)


@mutant("elementwise")
def clip_at_its_corner_counted_twice(patch: Patch) -> None:
    def twice(original: Any, op: Clip, l: Tensor, u: Tensor, corner: float) -> tuple[Tensor, Tensor]:
        slope, b = original(op, l, u, corner)
        return torch.where((l == op.low) & (u == op.low), 1.0, slope).to(l.dtype), b

    changed(patch, Clip, "_above", twice)


@mutant("affine")
def adjoint_without_transpose(patch: Patch) -> None:
    changed(patch, Transpose, "adjoint", lambda original, op, a: (a.permute(0, *(axis + 1 for axis in op.order)),))


@mutant("affine")
def adjoint_of_dense_shifted_by_one(patch: Patch) -> None:
    def skewed(original: Any, op: Dense, a: Tensor) -> tuple[Tensor, ...]:
        return (original(op, a)[0].roll(1, -1),)

    changed(patch, Dense, "adjoint", skewed)


@mutant("affine")
def adjoint_of_convolution_without_padding(patch: Patch) -> None:
    def shifted(original: Any, op: Conv, coefficients: Tensor) -> tuple[Tensor, ...]:
        right = original(op, coefficients)[0]
        if not any(op.padding):
            return (right,)
        run = F.conv_transpose1d if len(op.space) == 1 else F.conv_transpose2d
        wide = run(coefficients.flatten(0, 1), op.weight, None, op.stride, 0, 0, op.groups, op.dilation)
        window = tuple(slice(0, n) for n in op.space)
        found = torch.zeros_like(right).flatten(0, 1)
        part = wide[(..., *window)]
        found[(..., *(slice(0, n) for n in part.shape[2:]))] = part
        return (found.reshape(right.shape),)

    changed(patch, Conv, "adjoint", shifted)


@mutant("affine")
def absolute_weights_without_absolute_value(patch: Patch) -> None:
    patch.setattr(Dense, "magnitude", lambda op, x: x @ op.weight.T)


@mutant("affine")
def sum_of_a_mean_too_short(patch: Patch) -> None:
    patch.setattr(Reduce, "terms", property(lambda op: 0))


@mutant("affine")
def concatenation_the_other_way_back(patch: Patch) -> None:
    def swapped(original: Any, op: Concat, a: Tensor) -> tuple[Tensor, ...]:
        parts = original(op, a)
        return parts[::-1] if len({part.shape for part in parts}) == 1 else parts

    changed(patch, Concat, "adjoint", swapped)


@mutant("trace")
def maximum_of_its_first_argument_only(patch: Patch) -> None:
    patch.setattr(Maximum, "image", lambda op, b, r, a: a)
