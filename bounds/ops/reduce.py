"""Sums and means over axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Affine, Ends, Shape
from bounds.rounding import gamma, tiny

__all__ = ["Reduce"]


@dataclass(frozen=True, eq=False)
class Reduce(Affine):
    """Sum, or mean, over `axes` (our batch axis not counted), which stay with length 1. `before` is the input's shape."""

    axes: Shape
    before: Shape
    mean: bool

    @property
    def _count(self) -> int:
        return math.prod(self.before[axis] for axis in self.axes)

    @property
    def terms(self) -> int:
        return self._count + 1

    def linear(self, *inputs: Tensor) -> Tensor:
        total = inputs[0].sum(dim=[axis + 1 for axis in self.axes], keepdim=True)
        return total / self._count if self.mean else total

    def image(self, *inputs: Ends) -> Ends:
        """Sums of the ends themselves: of what is not negative no sum is."""
        (lower, upper), slack, floor = inputs[0], gamma(self.terms, inputs[0][0].dtype), tiny(self.terms, inputs[0][0].dtype)
        low, high = self.linear(lower) - slack * self.linear(lower.abs()), self.linear(upper) + slack * self.linear(upper.abs())
        positive = self.linear((lower < 0).to(lower.dtype)) == 0
        return torch.where(positive, (low - floor).clamp_min(0), low - floor), high + floor

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return self.linear(*inputs)

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        a = coefficients / self._count if self.mean else coefficients
        return (a.expand(-1, *self.before),)
