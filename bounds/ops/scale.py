"""Multiply and shift each coordinate by constants."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from bounds.ops.base import Affine

__all__ = ["Scale"]


@dataclass(frozen=True, eq=False)
class Scale(Affine):
    """`y = w x + b`; either may be None. Shapes: both broadcast to the input's shape and never widen it."""

    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def terms(self) -> int:
        return 1

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] if self.weight is None else inputs[0] * self.weight

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return inputs[0] if self.weight is None else inputs[0] * self.weight.abs()

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return (coefficients if self.weight is None else coefficients * self.weight,)

    def offset(self) -> Tensor | None:
        return self.bias
