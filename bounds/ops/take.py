"""Pick elements by position: slicing, splitting, gathering, tiling, windows and zero padding are all this."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from bounds.ops.base import Affine, Shape

__all__ = ["Take"]


@dataclass(frozen=True, eq=False)
class Take(Affine):
    """`y.flat[j] = x.flat[index[j]]`, or 0 (plus `fill`) where `index[j]` is -1.

    Shapes: `index` (long) has the result's shape; `before` is the input's; `fill` broadcasts to the result's or is None.
    """

    index: Tensor
    before: Shape
    fill: Tensor | None = None

    @cached_property
    def _present(self) -> Tensor:
        return self.index.flatten() >= 0

    @cached_property
    def _padded(self) -> bool:
        return not bool(self._present.all())

    @cached_property
    def terms(self) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        found = self.index.flatten()[self._present]
        most = int(torch.bincount(found).max()) if found.numel() else 0
        return most if most > 1 else 0

    def linear(self, *inputs: Tensor) -> Tensor:
        y = inputs[0].flatten(1).index_select(1, self.index.flatten().clamp_min(0))
        if self._padded:
            y = torch.where(self._present, y, torch.zeros((), dtype=y.dtype, device=y.device))
        return y.reshape(-1, *self.index.shape)

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return self.linear(*inputs)

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        a = coefficients.flatten(1)
        index = self.index.flatten()
        if self._padded:
            a, index = a[:, self._present], index[self._present]
        size = 1
        for n in self.before:
            size *= n
        x = torch.zeros((len(a), size), dtype=a.dtype, device=a.device)
        return (x.index_add_(1, index, a).reshape(-1, *self.before),)

    def offset(self) -> Tensor | None:
        return self.fill
