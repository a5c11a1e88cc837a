"""Clip to an interval, and sign."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Elementwise, Lines
from bounds.ops.lines import intercept_above, intercept_below, slope_between

__all__ = ["Clip", "Sign"]


@dataclass(frozen=True, eq=False)
class Clip(Elementwise):
    """`min(max(t, low), high)`, `low < high`; either may be infinite."""

    low: float
    high: float

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].clamp(self.low, self.high)

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return self.forward(lower), self.forward(upper)

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        inside = (lower >= self.low) & (upper <= self.high)
        return inside | (upper <= self.low) | (lower >= self.high)

    def steepness(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        inside = (lower >= self.low) & (upper <= self.high)
        outside = (upper <= self.low) | (lower >= self.high)
        return inside.to(lower.dtype), 1 - (outside & ~inside).to(lower.dtype)

    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        """Upper line: the chord up to the concave corner `(high, high)`, or a side of it; lower line its mirror image."""
        au, bu = self._above(lower, upper, self.high)
        al, bl = _mirror(Clip(-self.high, -self.low)._above(-upper, -lower, -self.low))
        return Lines(al, bl, au, bu)

    def _above(self, l: Tensor, u: Tensor, corner: float) -> tuple[Tensor, Tensor]:
        fl, fu = self.forward(l), self.forward(u)
        end = u.clamp_max(corner)
        chord = slope_between(l, fl, end, end.clamp_min(self.low))
        # From the linear part over the corner the two sides both bound from above: take the one with the smaller area.
        over = (l >= self.low) & (u > corner)
        side = torch.where(u - corner > corner - l, torch.zeros_like(l), torch.ones_like(l))
        slope = torch.where(over, side, chord)
        flat = (u <= self.low) | (l >= corner)
        slope = torch.where(flat, torch.zeros_like(l), slope)
        slope = torch.where((l >= self.low) & (u <= corner) & ~flat, torch.ones_like(l), slope)
        bent = (l < corner) & (u > corner)
        peak = torch.where(bent, end, u)
        b = intercept_above(slope, (l, fl), (u, fu), (peak, self.forward(peak)))
        exact = flat | ((slope == 1) & (l >= self.low))
        return slope, torch.where(exact, torch.where(flat, fu, torch.zeros_like(b)), b)


def _mirror(line: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """From a line above `-f(-t)` to one below `f`."""
    slope, intercept = line
    return slope, -intercept


@dataclass(frozen=True, eq=False)
class Sign(Elementwise):
    """-1, 0 or 1."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.sign(inputs[0])

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return torch.sign(lower), torch.sign(upper)

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        return torch.sign(lower) == torch.sign(upper)

    def steepness(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        zero = torch.zeros_like(lower)
        return zero, torch.where(self.settled(lower, upper), zero, torch.full_like(lower, torch.inf))

    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        """Constant where the sign is known; else lines from the far end over, or under, the step."""
        zero, one = torch.zeros_like(lower), torch.ones_like(lower)
        fl, fu = torch.sign(lower), torch.sign(upper)
        known = fl == fu
        au = torch.where(known | (lower >= 0), zero, slope_between(lower, fl, zero, one))
        al = torch.where(known | (upper <= 0), zero, slope_between(zero, -one, upper, fu))
        bu = torch.where(au == 0, fu, intercept_above(au, (lower, fl), (zero, one)))
        bl = torch.where(al == 0, fl, intercept_below(al, (zero, -one), (upper, fu)))
        return Lines(al, bl, au, bu)
