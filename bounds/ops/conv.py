"""Convolution over one or two spatial axes."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor

from bounds.ops.base import Affine, Shape

__all__ = ["Conv"]


@dataclass(frozen=True, eq=False)
class Conv(Affine):
    """Cross-correlation with zero padding, grouped and dilated as ONNX has it.

    Shapes: `x` `(batch, n, channels, *space)`; `weight` `(out, channels / groups, *kernel)`; `bias` `(out,)` or None; `stride`,
    `padding` (the same at both ends), `dilation` one number a spatial axis. `space` is the input's; the adjoint must know it.
    Guarantees: kernels are direct or GEMM ones, so `bounds.rounding.gamma` holds: PyTorch's CPU kernels are; on CUDA cuDNN,
    which may pick Winograd or FFT, is switched off for these calls.
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
        with torch.backends.cudnn.flags(enabled=False):
            x = self._transposed(a) if self._phases is None else self._phases.apply(a)
        return (x.reshape(*coefficients.shape[:2], *x.shape[1:]),)

    def _transposed(self, a: Tensor) -> Tensor:
        sizes = zip(a.shape[2:], self.stride, self.padding, self.dilation, self.weight.shape[2:], strict=True)
        reach = [(o - 1) * s - 2 * p + d * (k - 1) + 1 for o, s, p, d, k in sizes]
        extra = [n - r for n, r in zip(self.space, reach, strict=True)]
        run = F.conv_transpose1d if len(self.space) == 1 else F.conv_transpose2d
        return run(a, self.weight, None, self.stride, self.padding, extra, self.groups, self.dilation)

    @cached_property
    def _phases(self) -> Phases | None:
        """The adjoint as a plain convolution, where that is faster than PyTorch's transposed one.

        Measured on a CPU: in float32, which has a direct kernel, always (up to 4 times); in float64 at stride 1 without more
        output than input channels (1 to 10 times; with more, up to 20 times slower).
        """
        if len(self.space) != 2 or self.groups != 1 or set(self.dilation) != {1} or self.weight.is_cuda:
            return None
        out, channels = self.weight.shape[:2]
        if self.weight.dtype != torch.float32 and (set(self.stride) != {1} or channels < out):
            return None
        return Phases.of(self.weight, self.stride, self.padding, self.space)

    def offset(self) -> Tensor | None:
        return None if self.bias is None else self.bias.reshape(-1, *[1] * len(self.space))


@dataclass(frozen=True, slots=True, eq=False)
class Phases:
    """The adjoint of a strided convolution, one convolution of stride 1 for all residues of the input's position by the stride.

    Position `q * stride + phase` of an axis reads output `q + t` through tap `phase + padding - stride * t` of the kernel, for
    each `t` at which there is one. Shapes: `weight` `(channels * used phases, out, *taps)`. The products are those of the
    transposed convolution, and exact zeros, so the same rounding bound holds.
    """

    weight: Tensor
    used: tuple[tuple[int, int], ...]
    stride: Shape
    space: Shape
    pad: tuple[int, int]
    first: tuple[int, int]

    @staticmethod
    def of(weight: Tensor, stride: Shape, padding: Shape, space: Shape) -> Phases:
        """Shapes: `weight` as the convolution has it, `(out, channels, *kernel)`; two spatial axes, no groups, no dilation."""
        taps: list[list[list[int]]] = []
        pad: list[int] = []
        first: list[int] = []
        for k, s, p, n in zip(weight.shape[2:], stride, padding, space, strict=True):
            reads = [t for t in range(-k, s + p) if -k < s * t - p < s]
            least, most = min(reads), max(reads)
            outputs = (n + 2 * p - k) // s + 1
            pad.append(max(-least, -(-n // s) + most - outputs, 0))
            first.append(least + pad[-1])
            taps.append([[f + p - s * t for t in range(least, most + 1)] for f in range(s)])
        parts: list[Tensor] = []
        used: list[tuple[int, int]] = []
        padded = F.pad(weight.transpose(0, 1), (0, 1, 0, 1))
        for f, g in product(range(stride[0]), range(stride[1])):
            rows, columns = (
                torch.tensor([tap if 0 <= tap < k else k for tap in taps[axis][phase]], device=weight.device)
                for axis, (phase, k) in enumerate(zip((f, g), weight.shape[2:], strict=True))
            )
            part = padded[:, :, rows][:, :, :, columns]
            if bool((part != 0).any()):
                parts.append(part)
                used.append((f, g))
        packed = torch.cat(parts or [padded[:, :, :1, :1] * 0]).contiguous()
        return Phases(packed, tuple(used), stride, space, (pad[0], pad[1]), (first[0], first[1]))

    def apply(self, a: Tensor) -> Tensor:
        """Shapes: `(rows, out, *outputs)` to `(rows, channels, *space)`."""
        y = F.conv2d(a, self.weight, None, 1, self.pad)
        (h, w), (s, t), (i, j) = self.space, self.stride, self.first
        if len(self.used) == s * t == 1 and y.shape[2:] == (h, w):
            return y
        channels = y.shape[1] // max(1, len(self.used))
        made = y.new_empty if len(self.used) == s * t else y.new_zeros
        x = made((len(a), channels, h, w))
        for n, (f, g) in enumerate(self.used):
            place = x[:, :, f::s, g::t]
            place.copy_(y[:, n * channels : (n + 1) * channels, i : i + place.shape[2], j : j + place.shape[3]])
        return x
