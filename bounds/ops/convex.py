"""Functions that are convex or concave: a chord on one side, a tangent on the other."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bounds.ops.base import Elementwise, Ends, Lines
from bounds.ops.lines import intercept_above, slope_between, widen

__all__ = ["Exp", "Log", "Reciprocal", "Sqrt", "Square"]

_ULPS = 8
"""Relative error granted to the library's functions and to their derivatives here, in units of `eps`."""


@dataclass(frozen=True, eq=False)
class _Convex(Elementwise):
    """A convex function `f`, or with `turned` one whose negative is convex."""

    turned: ClassVar[bool] = False

    @abstractmethod
    def slope(self, t: Tensor) -> Tensor:
        """Derivative."""

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        return lower == upper

    def image(self, lower: Tensor, upper: Tensor) -> Ends:
        """That of a monotone function."""
        a, b = self.forward(lower), self.forward(upper)
        return self._known(lower, upper, widen(torch.minimum(a, b), torch.maximum(a, b), _ULPS))

    def steepness(self, lower: Tensor, upper: Tensor) -> Ends:
        """The derivative is monotone."""
        a, b = self.slope(lower), self.slope(upper)
        return self._known(lower, upper, widen(torch.minimum(a, b), torch.maximum(a, b), _ULPS))

    def _known(self, lower: Tensor, upper: Tensor, ends: Ends) -> Ends:
        """Infinite ends where the function is not defined on the whole interval, or overflows."""
        there = self.defined(lower, upper)
        low, high = (torch.where(there & ~end.isnan(), end, sign * torch.inf) for end, sign in zip(ends, (-1, 1), strict=True))
        return low, high

    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        """The chord, and the tangent at the middle, which of all tangents has most height there."""
        sign = -1.0 if self.turned else 1.0
        fl, fu = sign * self.forward(lower), sign * self.forward(upper)
        chord = slope_between(lower, fl, upper, fu)
        eps = torch.finfo(lower.dtype).eps
        top = intercept_above(chord, *((t, f + _ULPS * eps * f.abs()) for t, f in ((lower, fl), (upper, fu))))
        middle = ((lower + upper) / 2).clamp(lower, upper)
        middle = torch.where(self.slope(middle).isfinite(), middle, upper)  # as of a root between 0 and the next float
        f = sign * self.forward(middle)
        tangent = torch.where(lower == upper, 0.0, sign * self.slope(middle))  # at a point any slope will do
        size = f.abs() + tangent.abs() * (middle.abs() + lower.abs() + upper.abs())
        bottom = f - tangent * middle - 2 * _ULPS * eps * size - torch.finfo(lower.dtype).tiny
        there = self.defined(lower, upper) & tangent.isfinite() & top.isfinite() & bottom.isfinite()
        low, high = (torch.where(there, tangent, 0.0), torch.where(there, bottom, -torch.inf)), (
            torch.where(there, chord, 0.0), torch.where(there, top, torch.inf))  # fmt: skip
        if self.turned:
            return Lines(-high[0], -high[1], -low[0], -low[1])
        return Lines(*low, *high)


@dataclass(frozen=True, eq=False)
class Exp(_Convex):
    """`exp(t)`."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.exp(inputs[0])

    def slope(self, t: Tensor) -> Tensor:
        return torch.exp(t)

    def image(self, lower: Tensor, upper: Tensor) -> Ends:
        low, high = super().image(lower, upper)
        return low.clamp_min(0), high


@dataclass(frozen=True, eq=False)
class Log(_Convex):
    """`log(t)` for `t > 0`."""

    turned: ClassVar[bool] = True

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.log(inputs[0])

    def slope(self, t: Tensor) -> Tensor:
        return 1 / t

    def defined(self, lower: Tensor, upper: Tensor) -> Tensor:
        return lower > 0


@dataclass(frozen=True, eq=False)
class Sqrt(_Convex):
    """`sqrt(t)` for `t >= 0`."""

    turned: ClassVar[bool] = True

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.sqrt(inputs[0])

    def slope(self, t: Tensor) -> Tensor:
        return 0.5 / torch.sqrt(t)

    def defined(self, lower: Tensor, upper: Tensor) -> Tensor:
        return lower >= 0


@dataclass(frozen=True, eq=False)
class Square(_Convex):
    """`t^2`."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * inputs[0]

    def slope(self, t: Tensor) -> Tensor:
        return 2 * t

    def image(self, lower: Tensor, upper: Tensor) -> Ends:
        low, high = super().image(lower, upper)
        across = (lower <= 0) & (upper >= 0)
        return torch.where(across, 0.0, low.clamp_min(0)), high


@dataclass(frozen=True, eq=False)
class Reciprocal(_Convex):
    """`1 / t` on either side of 0."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return 1 / inputs[0]

    def slope(self, t: Tensor) -> Tensor:
        return -1 / (t * t)

    def defined(self, lower: Tensor, upper: Tensor) -> Tensor:
        return (lower > 0) | (upper < 0)

    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        """Concave below 0: there the mirror image, `f(t) = -f(-t)`."""
        below = upper < 0
        lines = super().envelope(torch.where(below, -upper, lower), torch.where(below, -lower, upper))
        return Lines(
            torch.where(below, lines.au, lines.al),
            torch.where(below, -lines.bu, lines.bl),
            torch.where(below, lines.al, lines.au),
            torch.where(below, -lines.bl, lines.bu),
        )
