"""Smooth functions without a shape to rely on: error function, GELU and SiLU, enclosed by values on a grid.

Between two points of a grid `h` apart a function leaves the chord of its values by at most `h^2 / 8` times the greatest second
derivative there. So grid values bound `f(t) - s t` for any slope `s`, and those of the derivative bound difference quotients.
The grid is finer where the functions bend.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from bounds.ops.base import Elementwise, Ends, Lines
from bounds.ops.lines import slope_between

__all__ = ["Erf", "Gelu", "Silu", "TanhGelu"]

_ULPS = 16
"""Error granted to the library's functions, in units of `eps` relative to 1 and to the argument."""

_EVEN = 16
"""Points spread evenly over the interval."""

_FAR = (7.0, 8.5, 10.5, 14.0, 20.0, 40.0)
_BENT = (*(-t for t in reversed(_FAR)), *(t / 2 for t in range(-12, 13)), *_FAR)
"""Points where the functions bend; beyond, they are nearly straight."""


@dataclass(frozen=True, eq=False)
class _Curve(Elementwise):
    isotone: ClassVar[bool] = False  # a grid of a smaller interval may lie less well

    @abstractmethod
    def slope(self, t: Tensor) -> Tensor:
        """Derivative."""

    @abstractmethod
    def bend(self, near: Tensor) -> Tensor:
        """A bound of the second and third derivatives' absolute values at all `t` with `|t| >= near`."""

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        return lower == upper

    def image(self, lower: Tensor, upper: Tensor) -> Ends:
        grid = _grid(lower, upper)
        values = self.forward(grid)
        error = _ULPS * torch.finfo(lower.dtype).eps * (1 + values.abs() + grid.abs())
        return _extremes(values, error, self._off(grid))

    def steepness(self, lower: Tensor, upper: Tensor) -> Ends:
        grid = _grid(lower, upper)
        values = self.slope(grid)
        error = 4 * _ULPS * torch.finfo(lower.dtype).eps * (1 + values.abs())
        return _extremes(values, error, self._off(grid))

    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        """The chord's slope above and below, and between the ends' own where those give less area."""
        grid = _grid(lower, upper)
        values, off = self.forward(grid), self._off(grid)
        chord = slope_between(lower, values[0], upper, values[-1])
        middle = self.slope((lower + upper) / 2)
        low = high = None
        for s in (chord, middle, torch.zeros_like(chord)):
            b = _extremes(values - s * grid, self._error(values, s, grid), off)
            size = s * (lower + upper) / 2
            low = _better(low, (s, b[0], size + b[0]))
            high = _better(high, (s, b[1], -size - b[1]))
        assert low is not None and high is not None
        return Lines(low[0], low[1], high[0], high[1])

    def _error(self, values: Tensor, s: Tensor, grid: Tensor) -> Tensor:
        return _ULPS * torch.finfo(grid.dtype).eps * (1 + values.abs() + (1 + s.abs()) * grid.abs())

    def _off(self, grid: Tensor) -> Tensor:
        """How far the function, or its derivative, can leave the chords of a grid."""
        near = torch.where(grid[:-1] * grid[1:] <= 0, 0.0, torch.minimum(grid[:-1].abs(), grid[1:].abs()))
        width = (grid[1:] - grid[:-1]) * (1 + 1e-6)
        return self.bend(near) * width * width / 8 * (1 + 1e-6)


_Line = tuple[Tensor, Tensor, Tensor]


def _better(best: _Line | None, other: _Line) -> _Line:
    """Of two lines, a slope and an intercept, the one with more height at the middle."""
    if best is None:
        return other
    more = other[2] > best[2]
    return torch.where(more, other[0], best[0]), torch.where(more, other[1], best[1]), torch.where(more, other[2], best[2])


def _grid(lower: Tensor, upper: Tensor) -> Tensor:
    """Points from end to end in order. Shapes: `(*shape)` to `(points, *shape)`."""
    trailing = [1] * lower.dim()
    t = torch.linspace(0, 1, _EVEN, dtype=lower.dtype, device=lower.device).reshape(-1, *trailing)
    bent = torch.tensor(_BENT, dtype=lower.dtype, device=lower.device).reshape(-1, *trailing)
    even = lower + t * (upper - lower)
    points = torch.cat([lower.unsqueeze(0), even, bent.expand(len(_BENT), *lower.shape), upper.unsqueeze(0)])
    return torch.minimum(torch.maximum(points, lower), upper).sort(0).values


def _extremes(values: Tensor, error: Tensor, off: Tensor) -> Ends:
    """Bounds of a function from its values at a grid, their errors, and how far it leaves the chords."""
    low, high = values - error, values + error
    return (torch.minimum(low[:-1], low[1:]) - off).amin(0), (torch.maximum(high[:-1], high[1:]) + off).amax(0)


def _bell(t: Tensor) -> Tensor:
    """Density of the normal distribution."""
    return torch.exp(-t * t / 2) / math.sqrt(2 * math.pi)


@dataclass(frozen=True, eq=False)
class Erf(_Curve):
    """The error function."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return torch.erf(inputs[0])

    def slope(self, t: Tensor) -> Tensor:
        return 2 / math.sqrt(math.pi) * torch.exp(-t * t)

    def bend(self, near: Tensor) -> Tensor:
        """`f'' = -2 t f'` and `f''' = (4 t^2 - 2) f'` are at most 2.26, and fall beyond 2."""
        far = near.clamp_min(2)
        return torch.where(near < 2, 2.3, (4 * far * far + 2) * self.slope(far))


@dataclass(frozen=True, eq=False)
class Gelu(_Curve):
    """`t (1 + erf(c t)) / 2`; `c` is `1 / sqrt(2)` as a file states it, within a thousandth. Source: arXiv:1606.08415."""

    c: float = math.sqrt(0.5)

    def __post_init__(self) -> None:
        if abs(self.c / math.sqrt(0.5) - 1) > 1e-3:
            raise ValueError(f"GELU with erf({self.c} t); 1/sqrt(2) = 0.70711 is needed")

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * 0.5 * torch.special.erfc(-self.c * inputs[0])

    def slope(self, t: Tensor) -> Tensor:
        return 0.5 * torch.special.erfc(-self.c * t) + t * self.c / math.sqrt(math.pi) * torch.exp(-((self.c * t) ** 2))

    def bend(self, near: Tensor) -> Tensor:
        """With the normal density `n`: `f'' = (2 - t^2) n`, `f''' = (t^3 - 4 t) n`, at most 0.8, and falling beyond 3; a
        hundredth and more is for `c`."""
        far = near.clamp_min(3)
        return torch.where(near < 3, 0.85, 1.1 * far**3 * _bell(0.998 * far))


@dataclass(frozen=True, eq=False)
class TanhGelu(_Curve):
    """`t (1 + tanh(a t + b t^3)) / 2`; `a`, `b` are `sqrt(2 / pi)` and 0.044715 of that as a file states them, within a
    thousandth. Source: arXiv:1606.08415."""

    a: float = math.sqrt(2 / math.pi)
    b: float = 0.044715 * math.sqrt(2 / math.pi)

    def __post_init__(self) -> None:
        right = TanhGelu.a, TanhGelu.b
        if any(abs(found / value - 1) > 1e-3 for found, value in zip((self.a, self.b), right, strict=True)):
            raise ValueError(f"GELU with tanh({self.a} t + {self.b} t^3); {right[0]:.5f} and {right[1]:.5f} are needed")

    def forward(self, *inputs: Tensor) -> Tensor:
        t = inputs[0]
        return t * torch.sigmoid(2 * (self.a * t + self.b * t**3))

    def slope(self, t: Tensor) -> Tensor:
        u = 2 * (self.a * t + self.b * t**3)
        s = torch.sigmoid(u)
        return s + t * 2 * (self.a + 3 * self.b * t * t) * s * torch.sigmoid(-u)

    def bend(self, near: Tensor) -> Tensor:
        """`f = t s(u)` with `u' = 2a + 6b t^2`, `u'' = 12 b t`, `u''' = 12 b`, and of the sigmoid `|s'|, |s''|, |s'''|` at most
        `exp(-|u|)`. So `|f''| <= (2 u' + t (u'' + u'^2)) e` and `|f'''| <= (3 (u'' + u'^2) + t (u''' + 3 u' u'' + u'^3)) e`;
        both fall beyond 4. Within, they are below 0.95, as their values on a fine grid show (`tests/laws`)."""
        t = near.clamp_min(4)
        u, u1, u2, u3 = 2 * (self.a * t + self.b * t**3), 2 * self.a + 6 * self.b * t * t, 12 * self.b * t, 12 * self.b
        second = 2 * u1 + t * (u2 + u1 * u1)
        third = 3 * (u2 + u1 * u1) + t * (u3 + 3 * u1 * u2 + u1**3)
        return torch.where(near < 4, 1.0, torch.maximum(second, third) * torch.exp(-u) * (1 + 1e-4))


@dataclass(frozen=True, eq=False)
class Silu(_Curve):
    """`t / (1 + exp(-t))`. Source: arXiv:1702.03118."""

    def forward(self, *inputs: Tensor) -> Tensor:
        return inputs[0] * torch.sigmoid(inputs[0])

    def slope(self, t: Tensor) -> Tensor:
        s = torch.sigmoid(t)
        return s + t * s * torch.sigmoid(-t)

    def bend(self, near: Tensor) -> Tensor:
        """`f'' = 2 s' + t s''` and `f''' = 3 s'' + t s'''`, of the sigmoid `|s'|, |s''|, |s'''| <= exp(-|t|)`: at most
        `(3 + |t|) exp(-|t|)`, and everywhere at most 0.5."""
        return ((3 + near) * torch.exp(-near)).clamp_max(0.5)
