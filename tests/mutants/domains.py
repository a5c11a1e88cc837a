"""Unsound regions, gates, domains and subproblems. Some are bugs that the laws once found."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from bounds.domains import difference, interval, linear, refine, sharpen, shrink, slopes, split
from bounds.domains.trace import Trace
from bounds.gates import Gates
from bounds.graph import Node
from bounds.ops.base import Affine, Elementwise
from bounds.region import Ball, Box
from tests.laws import split as subproblem_law
from tests.mutants.planting import Patch, changed, mutant
from verify.branch.queue import Part, Queue
from verify.branch.run import Branching

# regions and gates -----------------------------------------------------------------------------------------------------------


@mutant("region")
def radius_of_a_box_added(patch: Patch) -> None:
    def wrong(original: Any, box: Box, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(1)
        return a @ box.center.flatten() + a.abs() @ box.radius.flatten()

    changed(patch, Box, "minimum", wrong)


@mutant("region")
def ball_in_the_wrong_norm(patch: Patch) -> None:
    def wrong(original: Any, ball: Ball, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(1)
        return a @ ball.center.flatten() - a.abs().amax(1) * ball.radius

    changed(patch, Ball, "minimum", wrong)


@mutant("region")
def small_coefficients_squared_away(patch: Patch) -> None:
    def wrong(original: Any, ball: Ball, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(1)
        least = a @ ball.center.flatten() - a.square().sum(1).sqrt() * ball.radius * (1 + 1e-12)
        return least - 1e-12 * (a.abs() @ ball.center.abs().flatten())

    changed(patch, Ball, "minimum", wrong)


@mutant("trace")
def mask_off_by_one(patch: Patch) -> None:
    changed(patch, Gates, "expand", lambda original, gates, masks: original(gates, masks.roll(1, 1)))


@mutant("bound")
def patch_radius_ignored(patch: Patch) -> None:
    def narrow(original: Any, box: Box, *rest: Any) -> None:
        original(Box(box.center, box.center), *rest)

    for module in (linear, difference):
        changed(patch, module, "patched", narrow)


# domains ---------------------------------------------------------------------------------------------------------------------


@mutant("trace")
def bias_missing_in_intervals(patch: Patch) -> None:
    changed(patch, interval, "_affine", lambda original, op, inputs, offset: original(op, inputs, None))


@mutant("trace")
def radii_through_signed_weights(patch: Patch) -> None:
    def signed(original: Any, op: Affine, inputs: Sequence[Box], offset: Tensor | None) -> Box:
        ends = op.linear(*(x.lower for x in inputs)), op.linear(*(x.upper for x in inputs))
        return Box(*(end if offset is None else end + offset for end in ends))

    changed(patch, interval, "_affine", signed)


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
        assert isinstance(node.op, Elementwise)
        flat, steep = node.op.steepness(torch.minimum(y.lower, c.lower), torch.maximum(y.upper, c.upper))
        steep = steep.nan_to_num(posinf=1e30)
        return Box(torch.minimum(flat * d.lower, steep * d.lower), torch.maximum(flat * d.upper, steep * d.upper))

    changed(patch, interval, "difference_image", wrong)


@mutant("trace")
def upper_bound_on_the_lower_end(patch: Patch) -> None:
    def crossed(original: Any, trace: Trace, node: Node, box: Box, needed: Tensor, sign: Tensor, memory: int) -> Box:
        return original(trace, node, box, needed, -sign, memory) if trace.model is not None else _swap(
            original(trace, node, box, needed, sign, memory), box
        )  # fmt: skip

    def _swap(tight: Box, box: Box) -> Box:
        return Box(torch.where(tight.upper < box.upper, tight.upper, tight.lower), tight.upper)

    changed(patch, refine, "_tighten", crossed)


@mutant("trace")
def relaxed_rows_negated(patch: Patch) -> None:
    """Rows shared by both signs are pulled back through the relaxation first."""

    def through(original: Any, trace: Trace, form: Any, which: Any = None, stop: Any = None) -> Any:
        return original(trace, form, which, None if trace.batch == 1 else stop)

    changed(patch, linear, "pull_back", through)


@mutant("trace")
def lines_of_the_first_circuit_for_all(patch: Patch) -> None:
    def first(original: Any, x: Tensor, which: Tensor | None) -> Tensor:
        return x[:1].expand(len(x) if which is None else len(which), *x.shape[1:])

    changed(patch, linear, "select", first)


@mutant("trace")
def difference_of_a_new_tensor_dropped(patch: Patch) -> None:
    def dropped(original: Any, trace: Trace, pair: Any, *rest: Any) -> Any:
        known = {name: q for name, q in pair.delta.items() if name in trace.delta}
        return original(trace, replace(pair, delta=known), *rest)

    for module in (difference, sharpen.difference):
        changed(patch, module, "pull_back", dropped)


@mutant("bound")
def constant_too_high_in_backward_bounds(patch: Patch) -> None:
    """A constant too high by a hundredth, as forgetting a negative bias leaves it."""

    def high(original: Any, trace: Trace, form: Any, which: Any = None, stop: Any = None) -> Any:
        found = original(trace, form, which, stop)
        return replace(found, constant=found.constant + 0.01)

    changed(patch, linear, "pull_back", high)


# subproblems -----------------------------------------------------------------------------------------------------------------


@mutant("subproblem")
def multipliers_of_the_input_without_coefficients(patch: Patch) -> None:
    def dropped(original: Any, trace: Trace, pair: Any, mix: Any, which: Any = None, steering: Any = difference._FREE) -> Any:
        held = {name: a for name, a in steering.model.items() if name != trace.graph.input}
        return original(trace, pair, mix, which, replace(steering, model=held))

    changed(patch, difference, "pull_back", dropped)


@mutant("subproblem")
def sides_of_one_stream_for_the_other(patch: Patch) -> None:
    def crossed(original: Any, base: Trace, limits: split.Limits, batch: int) -> Any:
        return original(base, split.Limits({**limits.model, **limits.circuit}, limits.circuit), batch)

    changed(patch, subproblem_law, "split_trace", crossed)


@mutant("subproblem")
def multipliers_of_the_wrong_sign(patch: Patch) -> None:
    def free(trace: Trace, tuned: slopes.Tuned) -> None:
        with torch.no_grad():
            for group in (tuned.above, tuned.below):
                for value in group.values():
                    value.copy_(-value.abs() - 0.1)

    patch.setattr(slopes, "_clamp", free)


# neurons that are dropped ----------------------------------------------------------------------------------------------------


@mutant("shrunken")
def neurons_dead_in_the_model_alone_dropped(patch: Patch) -> None:
    def of_the_model(original: Any, base: Trace, name: str) -> Tensor:
        assert base.model is not None
        return original(replace(base, read={**base.read, name: base.model.read[name]}), name)

    changed(patch, shrink, "_nonzero", of_the_model)


@mutant("shrunken")
def neurons_of_constant_value_dropped(patch: Patch) -> None:
    def varying(original: Any, base: Trace, name: str) -> Tensor:
        box = base.read[name]
        return original(base, name) & (box.lower != box.upper).flatten(1).any(0)

    changed(patch, shrink, "_nonzero", varying)


# branch and bound ------------------------------------------------------------------------------------------------------------


@mutant("deciding")
def one_half_of_a_split_dropped(patch: Patch) -> None:
    def upper_halves(original: Any, branching: Branching, parts: Sequence[Part], expired: Any) -> Any:
        return original(branching, parts[::2] if parts[0].splits else parts, expired)

    changed(patch, Branching, "_bounded", upper_halves)


@mutant("deciding")
def constraints_of_all_parts_on_each(patch: Patch) -> None:
    """Every part is cut by the splits of its neighbour too."""

    def crossed(original: Any, branching: Branching, parts: Sequence[Part]) -> split.Limits:
        return original(branching, [replace(a, splits=a.splits + b.splits) for a, b in itertools.pairwise([*parts, parts[0]])])

    changed(patch, Branching, "_limits", crossed)


@mutant("deciding")
def parts_without_a_split_forgotten(patch: Patch) -> None:
    def forgotten(original: Any, branching: Branching, batch: Any) -> list[Part]:
        return original(branching, batch)[1:]

    changed(patch, Branching, "_sifted", forgotten)


@mutant("queue")
def parts_written_out_forgotten_in_the_bound(patch: Patch) -> None:
    patch.setattr(Queue, "bound", property(lambda queue: min((held[0] for held in queue._held), default=float("inf"))))
