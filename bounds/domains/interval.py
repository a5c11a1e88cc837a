"""Interval bounds, one operator at a time, rounded outward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bounds.graph import Node
from bounds.ops.base import Affine, Elementwise, Joint, Nonlinear
from bounds.ops.lines import stretched_range
from bounds.region import Box
from bounds.rounding import down, gamma, tiny, up

__all__ = ["difference_image", "gated", "gated_difference", "image", "least", "minus", "plus"]


def image(node: Node, inputs: Sequence[Box]) -> Box:
    """Enclose what `node` computes from values in `inputs`.

    Shapes: each end `(batch or 1, *shape)`; batches broadcast. Guarantees: an enclosure in real arithmetic. Cost: two
    applications of the operator. Source: Rump 1999 (centre-radius products).
    """
    op = node.op
    if isinstance(op, Nonlinear):
        return Box(*op.image(inputs[0].lower, inputs[0].upper))
    assert isinstance(op, Affine)
    box = _affine(op, inputs, op.offset())
    known = op.image(*((x.lower, x.upper) for x in inputs))
    return box if known is None else box.intersect(Box(*known))


def difference_image(node: Node, differences: Sequence[Box], model: Sequence[Box], circuit: Sequence[Box]) -> Box:
    """Enclose `node` of the circuit's values minus `node` of the model's, given boxes of the inputs and of their differences.

    An offset cancels; an elementwise function stretches a difference by a difference quotient it has between the two values.
    Source: Paulsen, Wang, Wang 2020 (ReluDiff), arXiv:2001.03662.
    """
    op = node.op
    if isinstance(op, Affine):
        return _affine(op, differences, None)
    y, c, d = model[0], circuit[0], differences[0]
    assert isinstance(op, Nonlinear)
    apart = minus(Box(*op.image(c.lower, c.upper)), Box(*op.image(y.lower, y.upper)))
    if isinstance(op, Joint):
        ends = ((box.lower, box.upper) for box in (y, c, d))
        return Box(*op.difference_image(*ends)).intersect(apart)
    assert isinstance(op, Elementwise)
    flat, steep = op.steepness(torch.minimum(y.lower, c.lower), torch.maximum(y.upper, c.upper))
    bounded = flat.isfinite() & steep.isfinite()
    flat, steep = torch.where(bounded, flat, 0.0), torch.where(bounded, steep, 0.0)
    lower, upper = stretched_range(flat, steep, d.lower, d.upper)  # quotients may be negative
    infinite = torch.full_like(lower, torch.inf)
    stretched = Box(torch.where(bounded, lower, -infinite), torch.where(bounded, upper, infinite))
    same = (d.lower == 0) & (d.upper == 0)
    box = stretched.intersect(apart)
    return Box(torch.where(same, 0.0, box.lower), torch.where(same, 0.0, box.upper))


def _affine(op: Affine, inputs: Sequence[Box], offset: Tensor | None) -> Box:
    if op.terms == 0:
        lower, upper = op.linear(*(x.lower for x in inputs)), op.linear(*(x.upper for x in inputs))
        return Box(lower, upper) if offset is None else Box(down(lower + offset), up(upper + offset))
    centers, radii = [x.center for x in inputs], [x.radius for x in inputs]
    dtype = centers[0].dtype
    slack = gamma(op.terms, dtype)
    center = op.linear(*centers)
    wide = op.magnitude(*(r + slack * (c.abs() + r) for c, r in zip(centers, radii, strict=True)))
    if offset is not None:
        center = center + offset
        wide = wide + slack * offset.abs()
    wide = wide + slack * center.abs() + tiny(op.terms, dtype)
    lower, upper = down(center - wide), up(center + wide)
    if offset is not None:
        return Box(lower, upper)
    # What only exact zeros are added up to is exactly zero: two halves that do not differ stay that way.
    moved = op.magnitude(*(((x.lower != 0) | (x.upper != 0)).to(dtype) for x in inputs)) != 0
    return Box(torch.where(moved, lower, 0.0), torch.where(moved, upper, 0.0))


def plus(a: Box, b: Box) -> Box:
    """Sums of values from two boxes."""
    return Box(down(a.lower + b.lower), up(a.upper + b.upper))


def minus(a: Box, b: Box) -> Box:
    """Differences of values from two boxes, each on its own."""
    return Box(down(a.lower - b.upper), up(a.upper - b.lower))


def gated_difference(difference: Box, model: Box, patch: Box, kept: Tensor) -> Box:
    """Difference that readers of a gated tensor see: the patch less the model's value where it is ablated."""
    return gated(difference, minus(patch, model), kept)


def gated(value: Box, patch: Box, kept: Tensor) -> Box:
    """What readers of a gated tensor see. Shapes: `(batch or 1, *shape)`; `kept` `(batch, *shape)`."""
    return Box(torch.where(kept, value.lower, patch.lower), torch.where(kept, value.upper, patch.upper))


def least(coefficients: Tensor, box: Box) -> Tensor:
    """Lower bounds of linear forms over boxes. Shapes: `(forms, *shape)` over `(batch, *shape)` to `(batch, forms)`."""
    a = coefficients.flatten(1)
    center, radius = box.center.flatten(1), box.radius.flatten(1)
    slack = gamma(2 * a.shape[1], a.dtype)
    spread = (radius + slack * (center.abs() + radius)) @ a.abs().T
    found = down(center @ a.T - spread - tiny(a.shape[1], a.dtype))
    # A sum of exact zeros is exactly zero: what is never more than 0 is proven to be so.
    moved = ((box.lower != 0) | (box.upper != 0)).flatten(1).to(a.dtype) @ (a != 0).to(a.dtype).T
    return torch.where(moved != 0, found, 0.0)
