"""Lines that enclose the difference of two values of one function, in the difference of its arguments."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.ops.base import Elementwise, Lines
from bounds.ops.lines import stretched
from bounds.region import Box

__all__ = ["difference_envelope"]


def difference_envelope(op: Elementwise, y: Box, c: Box, d: Box) -> tuple[Lines, Tensor]:
    """Enclose `f(c) - f(y)` between two lines in `d = c - y`; also where that is possible.

    The difference lies between `s0 d` and `s1 d` for the least and greatest difference quotients (`stretched`). A quotient that
    has no bound (a step) has no lines; there they are zero. Shapes: those of `d`.
    Source: Paulsen et al. 2020 (ReluDiff), arXiv:2001.03662; for ReLU these are its chords.
    """
    zero = torch.zeros_like(d.lower)
    quotients = op.steepness(torch.minimum(y.lower, c.lower), torch.maximum(y.upper, c.upper))
    flat, steep = (s.expand_as(zero) for s in quotients)
    same = (d.lower == 0) & (d.upper == 0)
    usable = same | (flat.isfinite() & steep.isfinite())
    gone = same | ~usable
    return stretched(torch.where(gone, zero, flat), torch.where(gone, zero, steep), d.lower, d.upper), usable
