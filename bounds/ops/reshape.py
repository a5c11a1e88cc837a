"""The same numbers under another shape or order of axes."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bounds.ops.base import Affine, Shape

__all__ = ["Reshape", "Transpose"]


@dataclass(frozen=True, eq=False)
class Reshape(Affine):
    """From one shape to another of the same size, in row-major order."""

    before: Shape
    after: Shape

    @property
    def terms(self) -> int:
        return 0

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0].reshape(-1, *self.after)

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return self.linear(*inputs)

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return (coefficients.reshape(-1, *self.before),)


@dataclass(frozen=True, eq=False)
class Transpose(Affine):
    """Axes reordered: axis `i` of the result is axis `order[i]` of the input (our batch axis not counted)."""

    order: Shape

    @property
    def terms(self) -> int:
        return 0

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0].permute(0, *(axis + 1 for axis in self.order))

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return self.linear(*inputs)

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        back = sorted(range(len(self.order)), key=lambda axis: self.order[axis])
        return (coefficients.permute(0, *(axis + 1 for axis in back)),)
