"""Lines through points of a function, made safe against rounding. Elementwise ops build their envelopes from these."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.rounding import down, gamma, up

__all__ = ["intercept_above", "intercept_below", "slope_between", "widen"]


def slope_between(l: Tensor, fl: Tensor, u: Tensor, fu: Tensor) -> Tensor:
    """Slope of the chord, 0 where the interval is a point (or too short to divide by). Any finite float is fine: the intercept
    makes up for its rounding."""
    width = u - l
    safe = width > torch.finfo(l.dtype).tiny
    slope = torch.where(safe, (fu - fl) / torch.where(safe, width, torch.ones_like(width)), torch.zeros_like(l))
    return torch.where(slope.isfinite(), slope, torch.zeros_like(slope))


def intercept_above(slope: Tensor, *points: tuple[Tensor, Tensor]) -> Tensor:
    """Least float `b` found with `slope*t + b >= f` at each point `(t, f)`, in real arithmetic."""
    error = gamma(2, slope.dtype)
    needed = [f - slope * t + error * (f.abs() + (slope * t).abs()) for t, f in points]
    return up(torch.stack(needed).amax(0) if len(needed) > 1 else needed[0])


def intercept_below(slope: Tensor, *points: tuple[Tensor, Tensor]) -> Tensor:
    """Greatest float `b` found with `slope*t + b <= f` at each point `(t, f)`, in real arithmetic."""
    return -intercept_above(-slope, *((t, -f) for t, f in points))


def widen(lower: Tensor, upper: Tensor, ulps: int = 1) -> tuple[Tensor, Tensor]:
    """Move the ends of an interval outward by `ulps` relative roundings and one float."""
    error = ulps * torch.finfo(lower.dtype).eps
    return down(lower - error * lower.abs()), up(upper + error * upper.abs())
