"""Where the windows of a pooling lie: padding, rounding up their number, the positions and the count of what they hold."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

__all__ = ["counts", "overshoot", "padded", "windows"]


def padded(x: Tensor, begins: Sequence[int], ends: Sequence[int], fill: float = -1) -> Tensor:
    """`x` with elements `fill` added along every axis; negative numbers take away."""
    pads = [n for begin, end in zip(reversed(begins), reversed(ends), strict=True) for n in (begin, end)]
    return F.pad(x, pads, value=fill)


def overshoot(
    space: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    begins: Sequence[int],
    ends: Sequence[int],
    dilation: Sequence[int],
    ceil: bool,
) -> list[int]:
    """How far windows reach past the padded end of each axis where their number is rounded up. The last one starts inside."""
    over: list[int] = []
    for n, k, s, b, e, d in zip(space, kernel, stride, begins, ends, dilation, strict=True):
        reach = d * (k - 1) + 1
        last = -(-(n + b + e - reach) // s)
        if last * s >= n + b:
            last -= 1
        over.append(max(0, last * s + reach - (n + b + e)) if ceil else 0)
    return over


def windows(x: Tensor, kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]) -> Tensor:
    """Elements of each window, one place of the window after the other. Shapes: `(n, channels, *space)` to
    `(places, n, channels, *windows)`."""
    rank = x.dim()
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        x = x.unfold(2 + axis, d * (k - 1) + 1, s)[..., ::d]
    return x.flatten(rank).movedim(-1, 0)


def counts(
    space: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    pads: Sequence[Sequence[int]],
    dilation: Sequence[int],
    count_pads: bool,
) -> Tensor:
    """How many elements of each window an average divides by. `pads` are those at the begin, at the end, and the overshoot
    beyond, which never counts. Shape: `(1, 1, *windows)`."""
    begins, ends, over = pads
    inside = padded(torch.ones(1, 1, *space, dtype=torch.float64), [0, 0, *begins], [0, 0, *ends], float(count_pads))
    inside = padded(inside, [0] * (2 + len(space)), [0, 0, *over], 0.0)
    return windows(inside, kernel, stride, dilation).sum(0)
