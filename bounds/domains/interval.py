"""Interval bounds, one operator at a time, rounded outward."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from bounds.graph import Node
from bounds.ops.base import Affine, Elementwise
from bounds.region import Box
from bounds.rounding import down, gamma, tiny, up

__all__ = ["gated", "image", "least"]


def image(node: Node, inputs: Sequence[Box]) -> Box:
    """Enclose what `node` computes from values in `inputs`.

    Shapes: each end `(batch or 1, *shape)`; batches broadcast. Guarantees: an enclosure in real arithmetic. Cost: two applications
    of the operator. Source: Rump 1999 (centre-radius products).
    """
    op = node.op
    if isinstance(op, Elementwise):
        return Box(*op.image(inputs[0].lower, inputs[0].upper))
    assert isinstance(op, Affine)
    if op.terms == 0:
        return Box(op.forward(*(x.lower for x in inputs)), op.forward(*(x.upper for x in inputs)))
    centers, radii = [x.center for x in inputs], [x.radius for x in inputs]
    dtype = centers[0].dtype
    slack = gamma(op.terms, dtype)
    center, offset = op.linear(*centers), op.offset()
    wide = op.magnitude(*(r + slack * (c.abs() + r) for c, r in zip(centers, radii, strict=True)))
    if offset is not None:
        center = center + offset
        wide = wide + slack * offset.abs()
    wide = wide + slack * center.abs() + tiny(op.terms, dtype)
    box = Box(down(center - wide), up(center + wide))
    known = op.image(*((x.lower, x.upper) for x in inputs))
    return box if known is None else box.intersect(Box(*known))


def gated(value: Box, patch: Box, kept: Tensor) -> Box:
    """What readers of a gated tensor see. Shapes: `value` `(batch or 1, *shape)`, `patch` `(*shape)`, `kept` `(batch, *shape)`."""
    return Box(torch.where(kept, value.lower, patch.lower), torch.where(kept, value.upper, patch.upper))


def least(coefficients: Tensor, box: Box) -> Tensor:
    """Lower bounds of linear forms over boxes. Shapes: `(forms, *shape)` over `(batch, *shape)` to `(batch, forms)`."""
    a = coefficients.flatten(1)
    center, radius = box.center.flatten(1), box.radius.flatten(1)
    slack = gamma(2 * a.shape[1], a.dtype)
    spread = (radius + slack * (center.abs() + radius)) @ a.abs().T
    return down(center @ a.T - spread - tiny(a.shape[1], a.dtype))
