"""Which axis counts convolution channels, after elements have been moved."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bounds.ops.base import Shape

__all__ = ["followed"]


def followed(before: Shape, axis: int | None, index: Tensor) -> int | None:
    """The axis of `index` that counts the channels that `axis` of `before` counts: one channel at each of its places, and no
    channel at two. None where there is no such axis.

    `index` holds flat positions in `before`, or -1 for elements from elsewhere.
    """
    if axis is None or not index.numel():
        return None
    channel = torch.where(index < 0, -1, index // math.prod(before[axis + 1 :]) % before[axis])
    from_end = index.dim() - len(before) + axis
    for i in sorted(range(index.dim()), key=lambda i: (i not in (from_end, axis), i)):
        rows = channel.movedim(i, 0).flatten(1)
        most = rows.amax(1)
        seen = most[most >= 0]
        if bool(((rows == most[:, None]) | (rows < 0)).all()) and len(seen.unique()) == len(seen):
            return i
    return None
