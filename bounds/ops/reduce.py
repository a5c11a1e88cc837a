"""Sums and means over axes."""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor

from bounds.ops.base import Affine, Shape

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

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return self.linear(*inputs)

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        a = coefficients / self._count if self.mean else coefficients
        return (a.expand(-1, *self.before),)
