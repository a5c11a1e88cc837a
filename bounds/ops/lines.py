"""Lines through points of a function, made safe against rounding. Elementwise ops build their envelopes from these."""

from __future__ import annotations

from functools import reduce

import torch
from torch import Tensor

from bounds.ops.base import Ends, Lines
from bounds.rounding import down, gamma, up

__all__ = ["intercept_above", "intercept_below", "slope_between", "stretched", "stretched_range", "widen"]


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
    return up(reduce(torch.maximum, needed))


def intercept_below(slope: Tensor, *points: tuple[Tensor, Tensor]) -> Tensor:
    """Greatest float `b` found with `slope*t + b <= f` at each point `(t, f)`, in real arithmetic."""
    return -intercept_above(-slope, *((t, -f) for t, f in points))


def widen(lower: Tensor, upper: Tensor, ulps: int = 1) -> tuple[Tensor, Tensor]:
    """Move the ends of an interval outward by `ulps` relative roundings and one float."""
    error = ulps * torch.finfo(lower.dtype).eps
    return down(lower - error * lower.abs()), up(upper + error * upper.abs())


def stretched(flat: Tensor, steep: Tensor, l: Tensor, u: Tensor) -> Lines:
    """Enclose `s d` between two lines in `d`, for every `s` in `[flat, steep]` and `d` in `[l, u]`.

    The upper boundary `max(flat d, steep d)` is convex and the lower one concave: chords, or one side where `d` has a sign.
    """
    zero = torch.zeros_like(l)
    top = [(t, torch.maximum(flat * t, steep * t)) for t in (l, u)]
    low = [(t, torch.minimum(flat * t, steep * t)) for t in (l, u)]
    au = torch.where(l >= 0, steep, torch.where(u <= 0, flat, slope_between(l, top[0][1], u, top[1][1])))
    al = torch.where(l >= 0, flat, torch.where(u <= 0, steep, slope_between(l, low[0][1], u, low[1][1])))
    signed = (l >= 0) | (u <= 0)
    bu = torch.where(signed, zero, intercept_above(au, *top))
    bl = torch.where(signed, zero, intercept_below(al, *low))
    return Lines(al, bl, au, bu)


def stretched_range(flat: Tensor, steep: Tensor, l: Tensor, u: Tensor) -> Ends:
    """Where `s d` lies for `s` in `[flat, steep]` and `d` in `[l, u]`, rounded outward."""
    ends = torch.stack(torch.broadcast_tensors(flat * l, flat * u, steep * l, steep * u))
    return down(ends.amin(0)), up(ends.amax(0))
