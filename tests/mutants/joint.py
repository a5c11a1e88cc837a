"""Unsound relaxations of products, softmax and smooth curves."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import bounds.ops.curve
import bounds.ops.product
import bounds.ops.softmax
from bounds.ops import Gelu, Product, Softmax, Square
from bounds.ops.base import Ends
from bounds.ops.product import ProductPlanes
from tests.mutants.planting import Patch, changed, mutant


@mutant("joint")
def product_touched_at_one_corner_only(patch: Patch) -> None:
    def one(original: Any, p: Tensor, q: Tensor, x: Ends, y: Ends, sign: int) -> Tensor:
        return original(p, q, (x[0], x[0]), (y[0], y[0]), sign)

    changed(patch, bounds.ops.product, "_touching", one)


@mutant("joint")
def interval_of_a_product_from_its_ends(patch: Patch) -> None:
    """Right for factors that are not negative."""

    def ends(original: Any, op: Product, lower: Tensor, upper: Tensor) -> Ends:
        return op.forward(lower), op.forward(upper)

    changed(patch, Product, "image", ends)


@mutant("joint")
def product_rule_without_the_second_order(patch: Patch) -> None:
    """`dx y + x dy`, without `dx dy`."""

    def first(original: Any, op: Product, y: Ends, c: Ends, d: Ends) -> Any:
        return original(op, y, y, d)

    changed(patch, Product, "_factors", first)


@mutant("joint")
def planes_of_a_product_for_the_wrong_sign(patch: Patch) -> None:
    def upside_down(original: Any, planes: ProductPlanes, a: Tensor) -> tuple[Tensor, Tensor]:
        form, constant = original(planes, -a)
        return -form, -constant

    changed(patch, ProductPlanes, "below", upside_down)


@mutant("joint")
def tangent_of_log_sum_exp_a_little_high(patch: Patch) -> None:
    def high(original: Any, l: Tensor, u: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        weight, constant = original(l, u, others)
        return weight, constant + 1e-3

    changed(patch, bounds.ops.softmax, "_tangent", high)


@mutant("joint")
def chords_of_exponentials_a_little_low(patch: Patch) -> None:
    def low(original: Any, l: Tensor, u: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
        weight, constant = original(l, u, others)
        return weight, constant - 1e-3

    changed(patch, bounds.ops.softmax, "_above", low)


@mutant("joint")
def softmax_with_all_scores_at_one_end(patch: Patch) -> None:
    """The others' scores at the same end as one's own: ranges far too narrow."""

    def same(original: Any, l: Tensor, u: Tensor, others: Tensor) -> Ends:
        low, high = original(l, l, others), original(u, u, others)
        return torch.minimum(low[0], high[0]), torch.maximum(low[1], high[1])

    changed(patch, bounds.ops.softmax, "_argument", same)


@mutant("joint")
def derivatives_of_softmax_at_the_first_run_only(patch: Patch) -> None:
    changed(patch, Softmax, "_jacobian", lambda original, op, y, c: original(op, y, y))


@mutant("elementwise")
def curve_taken_for_its_grid(patch: Patch) -> None:
    """No room between the points."""
    patch.setattr(bounds.ops.curve._Curve, "_off", lambda op, grid: torch.zeros_like(grid[1:]))  # pyright: ignore[reportPrivateUsage]


@mutant("elementwise")
def curve_said_to_bend_a_tenth_as_much(patch: Patch) -> None:
    changed(patch, Gelu, "bend", lambda original, op, near: 0.1 * original(op, near))


@mutant("elementwise")
def square_as_if_it_were_monotone(patch: Patch) -> None:
    def ends(original: Any, op: Square, lower: Tensor, upper: Tensor) -> Ends:
        a, b = op.forward(lower), op.forward(upper)
        return torch.minimum(a, b), torch.maximum(a, b)

    changed(patch, Square, "image", ends)
