"""Several tensors into one: signed sums and concatenation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Affine, Shape

__all__ = ["Concat", "Maximum", "Sum"]


@dataclass(frozen=True, eq=False)
class Sum(Affine):
    """`sum_i sign_i x_i`, all of one shape."""

    signs: tuple[int, ...]

    @property
    def terms(self) -> int:
        return len(self.signs)

    def linear(self, *inputs: Tensor) -> Tensor:
        total: Tensor | None = None
        for sign, x in zip(self.signs, inputs, strict=True):
            signed = x if sign > 0 else -x
            total = signed if total is None else total + signed
        assert total is not None
        return total

    def magnitude(self, *inputs: Tensor) -> Tensor:
        total = inputs[0]
        for x in inputs[1:]:
            total = total + x
        return total

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return tuple(coefficients if sign > 0 else -coefficients for sign in self.signs)


@dataclass(frozen=True, eq=False)
class Concat(Affine):
    """Inputs one after another along `axis` (our batch axis not counted); `widths` are their lengths there."""

    axis: int
    widths: Shape

    @property
    def terms(self) -> int:
        return 0

    def linear(self, *inputs: Tensor) -> Tensor:
        batch = max(len(x) for x in inputs)
        return torch.cat([x if len(x) == batch else x.expand(batch, *x.shape[1:]) for x in inputs], dim=self.axis + 1)

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return self.linear(*inputs)

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return torch.split(coefficients, list(self.widths), dim=self.axis + 1)


@dataclass(frozen=True, eq=False)
class Maximum(Sum):
    """`max(a, b)`, given as `b + r` where `r = relu(a - b)` is a tensor of its own.

    Inputs: `b`, `r`, `a`; `a` has coefficient zero and serves only the interval of the result, which is that of the maximum.
    So every domain that knows ReLU knows maximum pooling, with the same relaxation, splits and exact encoding.
    """

    signs: tuple[int, ...] = (1, 1, 0)

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + inputs[1]

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return inputs[0] + inputs[1]

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return coefficients, coefficients

    def image(self, *inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
        """The interval of `max(a, b)`. Exact."""
        b, _, a = inputs
        return torch.maximum(a[0], b[0]), torch.maximum(a[1], b[1])
