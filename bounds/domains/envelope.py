"""Lines that enclose the difference of two values of one function, in the difference of its arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.ops.base import Elementwise, Lines
from bounds.ops.lines import intercept_above, intercept_below, slope_between
from bounds.region import Box

__all__ = ["difference_envelope"]


def difference_envelope(op: Elementwise, y: Box, c: Box, d: Box) -> tuple[Lines, Tensor]:
    """Enclose `f(c) - f(y)` between two lines in `d = c - y`; also where that is possible.

    The difference lies between `s0 d` and `s1 d` for the least and greatest difference quotients. The upper boundary
    `max(s0 d, s1 d)` is convex and the lower one concave: chords over `d`'s interval, or one side where `d` has a sign. A
    quotient that has no bound (a step) has no lines; there they are zero. Shapes: those of `d`.
    Source: Paulsen et al. 2020 (ReluDiff), arXiv:2001.03662; for ReLU these are its chords.
    """
    l, u = d.lower, d.upper
    zero = torch.zeros_like(l)
    flat, steep = (s.expand_as(l) for s in op.steepness(torch.minimum(y.lower, c.lower), torch.maximum(y.upper, c.upper)))
    same = (l == 0) & (u == 0)
    usable = same | steep.isfinite()
    gone = same | ~usable
    flat, steep = torch.where(gone, zero, flat), torch.where(gone, zero, steep)
    top = [(t, torch.maximum(flat * t, steep * t)) for t in (l, u)]
    low = [(t, torch.minimum(flat * t, steep * t)) for t in (l, u)]
    au = torch.where(l >= 0, steep, torch.where(u <= 0, flat, slope_between(l, top[0][1], u, top[1][1])))
    al = torch.where(l >= 0, flat, torch.where(u <= 0, steep, slope_between(l, low[0][1], u, low[1][1])))
    signed = (l >= 0) | (u <= 0)
    bu = torch.where(signed, zero, intercept_above(au, *top))
    bl = torch.where(signed, zero, intercept_below(al, *low))
    return Lines(al, bl, au, bu), usable
