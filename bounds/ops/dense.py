"""Matrix product with a constant on the last axis."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

from torch import Tensor

from bounds.ops.base import Affine

__all__ = ["Dense"]

_SPARSE = 0.75
"""Columns of the coefficients are gathered before the product where fewer than this share of them hold anything."""


@dataclass(frozen=True, eq=False)
class Dense(Affine):
    """`y = x W^T + b` over the last axis. Shapes: `weight` `(out, in)`, `bias` `(out,)` or None; `x` `(batch, ..., in)`."""

    weight: Tensor
    bias: Tensor | None = None

    @property
    def terms(self) -> int:
        return max(self.weight.shape)

    @cached_property
    def _size(self) -> Tensor:
        return self.weight.abs()

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0] @ self.weight.T

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return inputs[0] @ self._size.T

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        """Neurons that no row looks at (dead or ablated in the whole batch) are left out of the product: their coefficients are
        exactly zero, so nothing changes but the time."""
        rows = coefficients.reshape(-1, coefficients.shape[-1])
        if len(rows) >= 64:
            used = (rows != 0).any(0)
            if int(used.sum()) < _SPARSE * used.numel():
                kept = used.nonzero().squeeze(1)
                product = rows.index_select(1, kept) @ self.weight.index_select(0, kept)
                return (product.reshape(*coefficients.shape[:-1], -1),)
        return (coefficients @ self.weight,)

    def offset(self) -> Tensor | None:
        return self.bias
