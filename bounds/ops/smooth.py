"""Sigmoid and tanh: increasing, convex below 0, concave above."""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Elementwise, Lines
from bounds.ops.lines import slope_between, widen

__all__ = ["Sigmoid", "Tanh"]

_ULPS = 16
"""Error granted to the library's sigmoid and tanh, in units of `eps` relative to 1 (their documented error is below 4)."""

_BISECTIONS = 40


@dataclass(frozen=True, eq=False)
class _SShaped(Elementwise):
    @abstractmethod
    def _slope(self, t: Tensor) -> Tensor:
        """Derivative."""

    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        error = _ULPS * torch.finfo(lower.dtype).eps
        a, b = widen(self.forward(lower) - error, self.forward(upper) + error)
        return a.clamp_min(self._least), b.clamp_max(1.0)

    @property
    @abstractmethod
    def _least(self) -> float:
        """Infimum of the function."""

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        return lower == upper

    def steepness(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The derivative falls with distance from 0."""
        far = torch.maximum(lower.abs(), upper.abs())
        near = torch.where((lower <= 0) & (upper >= 0), torch.zeros_like(lower), torch.minimum(lower.abs(), upper.abs()))
        error = _ULPS * torch.finfo(lower.dtype).eps
        return (self._slope(far) - error).clamp_min(0), self._slope(near) + error

    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        """Tangent on the concave side, chord on the convex one; tangents through the far end where both occur.

        The upper line is a tangent at a point `d` of the concave part with `tangent(lower) >= f(lower)`; such a line lies
        above `f` on the whole interval. `d` is found by bisection, from the safe side. Where no such point is left of `upper`,
        it is the chord. The lower line is the mirror image (`f(t) + f(-t)` is constant).
        """
        au, bu = self._above(lower, upper)
        al, bl = self._above(-upper, -lower)
        # f(t) = k - f(-t): a line above f on [-u, -l] mirrors to one below f on [l, u].
        k = 1.0 + self._least
        error = 4 * torch.finfo(lower.dtype).eps * (1 + bl.abs())
        return Lines(al, k - bl - error, au, bu)

    def _above(self, l: Tensor, u: Tensor) -> tuple[Tensor, Tensor]:
        fl, fu = self.forward(l), self.forward(u)
        # Smallest d >= 0 whose tangent passes above (l, f(l)): between 0 and a point far in the flat part.
        near, far = l.clamp_min(0), torch.maximum(u, (-l)).clamp_min(0) + 1
        for _ in range(_BISECTIONS):
            mid = (near + far) / 2
            safe = self.forward(mid) + self._slope(mid) * (l - mid) >= fl
            far, near = torch.where(safe, mid, far), torch.where(safe, near, mid)
        start = torch.where(l >= 0, l, far)
        concave = (start < u) & (u > 0)
        point = torch.where(concave, (start + u) / 2, u)
        slope = torch.where(concave, self._slope(point), slope_between(l, fl, u, fu))
        f = self.forward(point)
        error = _ULPS * torch.finfo(l.dtype).eps
        size = 1 + slope.abs() * (l.abs() + u.abs() + point.abs())
        tangent = f - slope * point
        chord = torch.maximum(fl - slope * l, fu - slope * u)
        return slope, torch.where(concave, tangent, chord) + 2 * error * size


@dataclass(frozen=True, eq=False)
class Sigmoid(_SShaped):
    """`1 / (1 + exp(-t))`."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.sigmoid(inputs[0])

    def _slope(self, t: Tensor) -> Tensor:
        s = torch.sigmoid(t)
        return s * torch.sigmoid(-t)

    @property
    def _least(self) -> float:
        return 0.0


@dataclass(frozen=True, eq=False)
class Tanh(_SShaped):
    """Hyperbolic tangent."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.tanh(inputs[0])

    def _slope(self, t: Tensor) -> Tensor:
        # 1 - tanh^2 loses all digits far out; 4 s(2t) s(-2t) does not.
        return 4 * torch.sigmoid(2 * t) * torch.sigmoid(-2 * t)

    @property
    def _least(self) -> float:
        return -1.0
