"""ReLU and LeakyReLU."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Elementwise, Lines
from bounds.ops.lines import intercept_above, intercept_below, slope_between, widen

__all__ = ["LeakyRelu", "Relu"]


@dataclass(frozen=True, eq=False)
class LeakyRelu(Elementwise):
    """`t` for `t >= 0`, `slope * t` for `t < 0`. Convex for `slope <= 1`, concave above."""

    slope: float = 0.01

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.nn.functional.leaky_relu(inputs[0], self.slope)

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        at_lower, at_upper = self.forward(lower), self.forward(upper)
        if self.slope >= 0:
            return widen(at_lower, at_upper)
        least, most = widen(torch.minimum(at_lower, at_upper), torch.maximum(at_lower, at_upper))
        return torch.where(self.settled(lower, upper), least, torch.zeros_like(least)), most

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        return (lower >= 0) | (upper <= 0)

    def steepness(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        one, slope = torch.ones_like(lower), torch.full_like(lower, self.slope)
        least = torch.where(lower >= 0, one, torch.minimum(one, slope))
        greatest = torch.where(upper <= 0, slope, torch.maximum(one, slope))
        inactive = upper <= 0
        return torch.where(inactive, slope, least), torch.where(lower >= 0, one, greatest)

    def free_slopes(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor] | None:
        if not self.slope <= 1:
            return None
        one = torch.ones_like(lower)
        return torch.where(self.settled(lower, upper), one, torch.full_like(lower, self.slope)), one

    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        """Chord on the curved side; on the other the line of the side that holds more of the interval (slope by area).

        Source: Zhang et al. 2018, arXiv:1811.00866; Singh et al. 2019 (DeepPoly).
        """
        zero = torch.zeros_like(lower)
        chord = slope_between(lower, self.forward(lower), upper, self.forward(upper))
        flat = torch.where(upper > -lower, torch.ones_like(lower), torch.full_like(lower, self.slope))
        one_side = torch.where(lower >= 0, torch.ones_like(lower), torch.full_like(lower, self.slope))
        stable = self.settled(lower, upper)
        ends = tuple((t, self.forward(t)) for t in (lower, upper))
        if self.slope <= 1:
            bu = intercept_above(chord, *ends)
            au, bu = torch.where(stable, one_side, chord), torch.where(stable, zero, bu)
            return Lines(torch.where(stable, one_side, flat), zero, au, bu)
        bl = intercept_below(chord, *ends)
        al, bl = torch.where(stable, one_side, chord), torch.where(stable, zero, bl)
        return Lines(al, bl, torch.where(stable, one_side, flat), zero)


@dataclass(frozen=True, eq=False)
class Relu(LeakyRelu):
    """`max(t, 0)`."""

    slope: float = 0.0

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0].clamp_min(0)

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        return lower.clamp_min(0), upper.clamp_min(0)
