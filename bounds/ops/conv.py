"""Convolution over one or two spatial axes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.ops.base import Affine, Shape

__all__ = ["Conv"]


@dataclass(frozen=True, eq=False)
class Conv(Affine):
    """Cross-correlation with zero padding, grouped and dilated as ONNX has it.

    Shapes: `x` `(batch, n, channels, *space)`; `weight` `(out, channels / groups, *kernel)`; `bias` `(out,)` or None; `stride`,
    `padding` (the same at both ends), `dilation` one number a spatial axis. `space` is the input's, which the adjoint must know.
    Guarantees: kernels are direct or GEMM ones, so `bounds.rounding.gamma` holds: PyTorch's CPU kernels are; on CUDA cuDNN, which
    may pick Winograd or FFT, is switched off for these calls.
    """

    weight: Tensor
    bias: Tensor | None
    stride: Shape
    padding: Shape
    dilation: Shape
    groups: int
    space: Shape

    @property
    def terms(self) -> int:
        return max(self.weight[0].numel(), self.weight[:, 0].numel() // self.groups)

    @cached_property
    def _size(self) -> Tensor:
        return self.weight.abs()

    def _apply(self, x: Tensor, weight: Tensor) -> Tensor:
        run = F.conv1d if len(self.space) == 1 else F.conv2d
        flat = x.reshape(-1, *x.shape[2:])
        with torch.backends.cudnn.flags(enabled=False):
            y = run(flat, weight, None, self.stride, self.padding, self.dilation, self.groups)
        return y.reshape(*x.shape[:2], *y.shape[1:])

    def linear(self, *inputs: Tensor) -> Tensor:
        return self._apply(inputs[0], self.weight)

    def magnitude(self, *inputs: Tensor) -> Tensor:
        return self._apply(inputs[0], self._size)

    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        a = coefficients.reshape(-1, *coefficients.shape[2:])
        reach = [(o - 1) * s - 2 * p + d * (k - 1) + 1 for o, s, p, d, k in zip(
            a.shape[2:], self.stride, self.padding, self.dilation, self.weight.shape[2:], strict=True)]
        extra = [n - r for n, r in zip(self.space, reach, strict=True)]
        run = F.conv_transpose1d if len(self.space) == 1 else F.conv_transpose2d
        with torch.backends.cudnn.flags(enabled=False):
            x = run(a, self.weight, None, self.stride, self.padding, extra, self.groups, self.dilation)
        return (x.reshape(*coefficients.shape[:2], *x.shape[1:]),)

    def offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias.reshape(-1, *[1] * len(self.space))
