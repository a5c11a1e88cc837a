"""Unsound changes, planted in the real code for the length of one test. Some are bugs that the laws once found.

Each states the law that must notice it. A mutant gets a `Patch`, which puts everything back.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.domains import difference, interval, linear, refine, sharpen, slopes, split
from bounds.domains.trace import Trace
from bounds.gates import Gates
from bounds.graph import Node
from bounds.ops import Clip, Concat, Conv, Dense, LeakyRelu, Maximum, Reduce, Sigmoid, Tanh, Transpose
from bounds.ops.base import Affine, Lines
from bounds.ops.smooth import _SShaped  # the one place where both s-shaped functions are
from bounds.region import Ball, Box

__all__ = ["MUTANTS", "Mutant"]

Patch = pytest.MonkeyPatch


@dataclass(frozen=True, slots=True)
class Mutant:
    """A change and the law that must notice it."""

    name: str
    law: str
    plant: Callable[[Patch], None]


MUTANTS: list[Mutant] = []


def mutant(law: str) -> Callable[[Callable[[Patch], None]], Callable[[Patch], None]]:
    def enter(plant: Callable[[Patch], None]) -> Callable[[Patch], None]:
        MUTANTS.append(Mutant(plant.__name__, law, plant))
        return plant

    return enter


def _changed(patch: Patch, owner: Any, name: str, change: Callable[..., Any]) -> None:
    """Replace `owner.name` by `change`, which gets the original first."""
    original = getattr(owner, name)
    patch.setattr(owner, name, lambda *args, **given: change(original, *args, **given))


# operators -------------------------------------------------------------------------------------------------------------------


@mutant("elementwise")
def relu_chord_of_wrong_slope(patch: Patch) -> None:
    def tilted(original: Any, op: LeakyRelu, lower: Tensor, upper: Tensor) -> Lines:
        lines = original(op, lower, upper)
        return replace(lines, au=torch.where(op.settled(lower, upper), lines.au, 0.9 * lines.au))

    _changed(patch, LeakyRelu, "envelope", tilted)


@mutant("elementwise")
def relu_lower_line_too_steep(patch: Patch) -> None:
    def steep(original: Any, op: LeakyRelu, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor] | None:
        found = original(op, lower, upper)
        return None if found is None else (found[0], torch.where(found[0] < found[1], found[1] + 0.01, found[1]))

    _changed(patch, LeakyRelu, "free_slopes", steep)


@mutant("elementwise")
def upper_line_below_sigmoid(patch: Patch) -> None:
    """The chord everywhere: right on the convex side only."""

    def chord(original: Any, op: _SShaped, l: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        slope = (op.forward(u) - op.forward(l)) / (u - l).clamp_min(1e-30)
        return slope, op.forward(l) - slope * l + 1e-12

    _changed(patch, Sigmoid, "_above", chord)


@mutant("elementwise")
def steepness_of_tanh_at_the_far_end(patch: Patch) -> None:
    def swapped(original: Any, op: Tanh, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        flat, _ = original(op, lower, upper)
        return flat, flat + 1e-9

    _changed(patch, Tanh, "steepness", swapped)


@mutant("elementwise")
def top_of_clip_forgotten(patch: Patch) -> None:
    """The upper line passes through the ends only, under the corner."""

    def low(original: Any, op: Clip, l: Tensor, u: Tensor, corner: float) -> tuple[Tensor, Tensor]:
        slope = (op.forward(u) - op.forward(l)) / (u - l).clamp_min(1e-30)
        return slope, op.forward(l) - slope * l

    _changed(patch, Clip, "_above", low)


@mutant("elementwise")
def clip_at_its_corner_counted_twice(patch: Patch) -> None:
    def twice(original: Any, op: Clip, l: Tensor, u: Tensor, corner: float) -> tuple[Tensor, Tensor]:
        slope, b = original(op, l, u, corner)
        return torch.where((l == corner) & (u == corner), 1.0, slope).to(l.dtype), b

    _changed(patch, Clip, "_above", twice)


@mutant("affine")
def adjoint_without_transpose(patch: Patch) -> None:
    _changed(patch, Transpose, "adjoint", lambda original, op, a: (a.permute(0, *(axis + 1 for axis in op.order)),))


@mutant("affine")
def adjoint_of_dense_by_the_bias(patch: Patch) -> None:
    def skewed(original: Any, op: Dense, a: Tensor) -> tuple[Tensor, ...]:
        return (original(op, a)[0].roll(1, -1),)

    _changed(patch, Dense, "adjoint", skewed)


@mutant("affine")
def adjoint_of_convolution_without_padding(patch: Patch) -> None:
    def shifted(original: Any, op: Conv, coefficients: Tensor) -> tuple[Tensor, ...]:
        whole = original(replace(op, padding=tuple(0 for _ in op.padding)), coefficients)[0] if any(op.padding) else None
        return original(op, coefficients) if whole is None else (whole,)

    _changed(patch, Conv, "adjoint", shifted)


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

    _changed(patch, Concat, "adjoint", swapped)


@mutant("trace")
def maximum_of_its_first_argument_only(patch: Patch) -> None:
    patch.setattr(Maximum, "image", lambda op, b, r, a: a)


# regions and gates -----------------------------------------------------------------------------------------------------------


@mutant("region")
def radius_of_a_box_added(patch: Patch) -> None:
    def wrong(original: Any, box: Box, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(1)
        return a @ box.center.flatten() + a.abs() @ box.radius.flatten()

    _changed(patch, Box, "minimum", wrong)


@mutant("region")
def ball_in_the_wrong_norm(patch: Patch) -> None:
    def wrong(original: Any, ball: Ball, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(1)
        return a @ ball.center.flatten() - a.abs().amax(1) * ball.radius

    _changed(patch, Ball, "minimum", wrong)


@mutant("region")
def small_coefficients_squared_away(patch: Patch) -> None:
    def wrong(original: Any, ball: Ball, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(1)
        least = a @ ball.center.flatten() - a.square().sum(1).sqrt() * ball.radius * (1 + 1e-12)
        return least - 1e-12 * (a.abs() @ ball.center.abs().flatten())

    _changed(patch, Ball, "minimum", wrong)


@mutant("trace")
def mask_off_by_one(patch: Patch) -> None:
    _changed(patch, Gates, "expand", lambda original, gates, masks: original(gates, masks.roll(1, 1)))


@mutant("trace")
def patch_radius_ignored(patch: Patch) -> None:
    def narrow(original: Any, box: Box, *rest: Any) -> None:
        original(Box(box.center, box.center), *rest)

    for module in (linear, difference):
        _changed(patch, module, "patched", narrow)


# domains ---------------------------------------------------------------------------------------------------------------------


@mutant("trace")
def bias_missing_in_intervals(patch: Patch) -> None:
    _changed(patch, interval, "_affine", lambda original, op, inputs, offset: original(op, inputs, None))


@mutant("trace")
def radii_through_signed_weights(patch: Patch) -> None:
    def signed(original: Any, op: Affine, inputs: Sequence[Box], offset: Tensor | None) -> Box:
        ends = op.linear(*(x.lower for x in inputs)), op.linear(*(x.upper for x in inputs))
        return Box(*(end if offset is None else end + offset for end in ends))

    _changed(patch, interval, "_affine", signed)


@mutant("trace in float32")
def rounding_of_intervals_not_charged(patch: Patch) -> None:
    patch.setattr(interval, "gamma", lambda terms, dtype: 0.0)
    for name in ("up", "down"):
        patch.setattr(interval, name, lambda x: x)


@mutant("trace")
def difference_without_the_cut(patch: Patch) -> None:
    patch.setattr(interval, "gated_difference", lambda difference, model, patch, kept: difference)


@mutant("trace")
def negative_quotients_forgotten(patch: Patch) -> None:
    def wrong(original: Any, node: Node, differences: Sequence[Box], model: Sequence[Box], circuit: Sequence[Box]) -> Box:
        if isinstance(node.op, Affine):
            return original(node, differences, model, circuit)
        y, c, d = model[0], circuit[0], differences[0]
        flat, steep = node.op.steepness(torch.minimum(y.lower, c.lower), torch.maximum(y.upper, c.upper))  # pyright: ignore
        steep = steep.nan_to_num(posinf=1e30)
        return Box(torch.minimum(flat * d.lower, steep * d.lower), torch.maximum(flat * d.upper, steep * d.upper))

    _changed(patch, interval, "difference_image", wrong)


@mutant("trace")
def upper_bound_on_the_lower_end(patch: Patch) -> None:
    def crossed(original: Any, trace: Trace, node: Node, box: Box, needed: Tensor, sign: Tensor, memory: int) -> Box:
        return original(trace, node, box, needed, -sign, memory) if trace.model is not None else _swap(
            original(trace, node, box, needed, sign, memory), box
        )  # fmt: skip

    def _swap(tight: Box, box: Box) -> Box:
        return Box(torch.where(tight.upper < box.upper, tight.upper, tight.lower), tight.upper)

    _changed(patch, refine, "_tighten", crossed)


@mutant("trace")
def relaxed_rows_negated(patch: Patch) -> None:
    """Rows shared by both signs are pulled back through the relaxation first."""

    def through(original: Any, trace: Trace, form: Any, which: Any = None, stop: Any = None) -> Any:
        return original(trace, form, which, None if trace.batch == 1 else stop)

    _changed(patch, linear, "pull_back", through)


@mutant("trace")
def lines_of_the_first_circuit_for_all(patch: Patch) -> None:
    def first(original: Any, x: Tensor, which: Tensor | None) -> Tensor:
        return x[:1].expand(len(x) if which is None else len(which), *x.shape[1:])

    _changed(patch, linear, "select", first)


@mutant("trace")
def difference_of_a_new_tensor_dropped(patch: Patch) -> None:
    def dropped(original: Any, trace: Trace, pair: Any, *rest: Any) -> Any:
        known = {name: q for name, q in pair.delta.items() if name in trace.delta}
        return original(trace, replace(pair, delta=known), *rest)

    for module in (difference, sharpen.difference):
        _changed(patch, module, "pull_back", dropped)


@mutant("bound")
def bias_missing_in_backward_bounds(patch: Patch) -> None:
    class Bare:
        """Forms without what offsets add."""

    def bare(original: Any, trace: Trace, form: Any, which: Any = None, stop: Any = None) -> Any:
        found = original(trace, form, which, stop)
        return replace(found, constant=found.constant + 0.01)

    _changed(patch, linear, "pull_back", bare)


# subproblems -----------------------------------------------------------------------------------------------------------------


@mutant("subproblem")
def multipliers_of_the_input_without_coefficients(patch: Patch) -> None:
    def dropped(original: Any, trace: Trace, pair: Any, mix: Any, which: Any = None, steering: Any = difference._FREE) -> Any:
        held = {name: a for name, a in steering.model.items() if name != trace.graph.input}
        return original(trace, pair, mix, which, replace(steering, model=held))

    _changed(patch, difference, "pull_back", dropped)


@mutant("subproblem")
def sides_of_one_stream_for_the_other(patch: Patch) -> None:
    import tests.laws.split as law

    def crossed(original: Any, base: Trace, limits: split.Limits, batch: int) -> Any:
        return original(base, split.Limits({**limits.model, **limits.circuit}, limits.circuit), batch)

    _changed(patch, law, "split_trace", crossed)


@mutant("subproblem")
def multipliers_of_the_wrong_sign(patch: Patch) -> None:
    def free(trace: Trace, tuned: slopes.Tuned) -> None:
        with torch.no_grad():
            for group in (tuned.above, tuned.below):
                for value in group.values():
                    value.copy_(-value.abs() - 0.1)

    patch.setattr(slopes, "_clamp", free)
