"""Affine functions of the input alone that non-linear operators read, bounded over parts of a region.

Intervals forget that a one-hot row holds a single one: an embedding's range over a few tokens is then the sum of all their
entries. A form over the input does not, so the first tensors to be relaxed are bounded by their forms, part by part.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.domains import linear
from bounds.domains.trace import Trace
from bounds.ops.base import Affine, Nonlinear
from bounds.region import Box, Region
from bounds.rounding import down, up

__all__ = ["Fronts", "fronts"]

_NUMBERS = 1 << 22
"""Coefficients looked at together."""


@dataclass(frozen=True, slots=True, eq=False)
class Fronts:
    """For some tensors their elements as forms over the input: coefficients `(size, *input_shape)`, and a constant with the
    rounding in it, from below and from above, `(2, size)`."""

    region: Region
    forms: Mapping[str, tuple[Tensor, Tensor]]

    def box(self, name: str, part: Box, like: Box) -> Box:
        """Enclose a tensor over parts of the region. Shapes: ends of `part` `(parts, *input_shape)`, of `like` and the result
        `(batch, *shape)`."""
        a, constant = self.forms[name]
        chunk = max(1, _NUMBERS // a.numel())
        low, high = (
            torch.cat(
                [
                    self._least(sign * a, Box(l, u))
                    for l, u in zip(part.lower.split(chunk), part.upper.split(chunk), strict=True)
                ]
            )
            for sign in (1, -1)
        )
        shape = (len(low), *like.lower.shape[1:])
        return Box(down(low + constant[0]).reshape(shape), up(constant[1] - high).reshape(shape))

    def _least(self, a: Tensor, part: Box) -> Tensor:
        return self.region.minimum_within(a.expand(len(part.lower), *a.shape), part)


def fronts(trace: Trace) -> Fronts:
    """The forms of what the model's non-linear operators read, where only affine operators stand before it."""
    graph = trace.graph
    pure, found = {graph.input}, dict[str, tuple[Tensor, Tensor]]()
    for node in graph.nodes:
        if isinstance(node.op, Affine) and all(x in pure for x in node.inputs):
            pure.add(node.name)
    for node in graph.nodes:
        for name in node.inputs:
            if not isinstance(node.op, Nonlinear) or name not in pure or name == graph.input or name in found:
                continue
            size = trace.value[name].lower[0].numel()
            unit = torch.eye(size, dtype=graph.dtype, device=graph.device).reshape(1, size, *graph.shape(name))
            form = linear.pull_back(trace, linear.start(name, unit))
            if graph.input in form.pending:  # affine steps: what bounds the form from below bounds it from above, by its charge
                error = up(form.error[0] * (1 + 1e-3))
                ends = torch.stack([down(form.constant[0] - error), up(form.constant[0] + error)])
                found[name] = form.pending[graph.input][0], ends
    return Fronts(trace.region, found)
