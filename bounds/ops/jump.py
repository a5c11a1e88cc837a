"""JumpReLU, and lines around any function that is 0 below a jump and the argument itself above it.

Where the jump is may be known to an interval only, `[low, high]`: between them the value is either. The two branches are the
segments `(t, 0)`, `t <= high`, and `(t, t)`, `t >= low`: a line that is right at their four ends is right.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Elementwise, Ends, Lines
from bounds.ops.lines import intercept_above, intercept_below, slope_between

__all__ = ["JumpRelu", "jump_image", "jump_lines"]


def jump_image(lower: Tensor, upper: Tensor, low: Tensor, on: Tensor, off: Tensor) -> Ends:
    """The range on each interval. `on` and `off` say where the branch is known. Exact where the jump's place is."""
    zero = torch.zeros_like(lower)
    least = torch.minimum(torch.maximum(lower, low), zero)
    most = upper.clamp_min(0)
    return (
        torch.where(on, lower, torch.where(off, zero, least)),
        torch.where(on, upper, torch.where(off, zero, most)),
    )


def jump_lines(lower: Tensor, upper: Tensor, low: Tensor, high: Tensor, on: Tensor, off: Tensor) -> Lines:
    """Two lines around both branches; where several would do, those that are nearest each other in the middle."""
    zero, one = torch.zeros_like(lower), torch.ones_like(lower)
    last, first = torch.minimum(upper, high), torch.maximum(lower, low)
    points = ((lower, zero), (last, zero), (first, first), (upper, upper))
    middle = lower / 2 + upper / 2
    au, bu = zero, intercept_above(zero, *points)
    al, bl = zero, intercept_below(zero, *points)
    for slope in (one, slope_between(lower, zero, upper, upper), slope_between(lower, zero, first, first)):
        b = intercept_above(slope, *points)
        better = slope * middle + b < au * middle + bu
        au, bu = torch.where(better, slope, au), torch.where(better, b, bu)
    for slope in (one, slope_between(last, zero, upper, upper)):
        b = intercept_below(slope, *points)
        better = slope * middle + b > al * middle + bl
        al, bl = torch.where(better, slope, al), torch.where(better, b, bl)
    known, side = on | off, torch.where(on, one, zero)
    return Lines(
        torch.where(known, side, al), torch.where(known, zero, bl), torch.where(known, side, au), torch.where(known, zero, bu)
    )


@dataclass(frozen=True, eq=False)
class JumpRelu(Elementwise):
    """`t` for `t > threshold`, else 0. Shapes: `threshold` broadcasts to the argument.

    Source: Rajamanoharan et al. 2024 (JumpReLU sparse autoencoders), arXiv:2407.14435.
    """

    threshold: Tensor

    def forward(self, *inputs: Tensor) -> Tensor:
        """Its gradient is 1 below the jump too: a search for inputs that reach the jump has to go somewhere."""
        x = inputs[0]
        below = x - x.detach() if x.requires_grad else torch.zeros_like(x)
        return torch.where(x > self.threshold, x, below)

    def image(self, lower: Tensor, upper: Tensor) -> Ends:
        return jump_image(lower, upper, self.threshold.expand_as(lower), *self._sides(lower, upper))

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        on, off = self._sides(lower, upper)
        return on | off

    def steepness(self, lower: Tensor, upper: Tensor) -> Ends:
        """Over the jump a quotient has no bound, but for a threshold of 0: ReLU."""
        on, off = self._sides(lower, upper)
        zero, one = torch.zeros_like(lower), torch.ones_like(lower)
        least = torch.where(self.threshold < 0, -torch.inf, zero)
        greatest = torch.where(self.threshold == 0, one, torch.inf)
        return torch.where(on, one, torch.where(off, zero, least)), torch.where(on, one, torch.where(off, zero, greatest))

    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        jump = self.threshold.expand_as(lower)
        return jump_lines(lower, upper, jump, jump, *self._sides(lower, upper))

    def _sides(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Where the whole interval is above the jump, and where it is not above it."""
        return lower > self.threshold, upper <= self.threshold
