"""Softmax over the last axis, as one operator.

Entry `i` is `sigmoid(s)` with `s = x_i - log sum_{j != i} exp(x_j)`. On a box `s` is extreme at corners: intervals are exact.
Lines of the sigmoid in `s` become planes in `x`: from above with a tangent of the convex log-sum-exp, from below with a
tangent of the logarithm at a sum of chords of the exponentials. All of it is computed in float64.

Source: Shi et al. 2020, arXiv:2002.06622; Wei et al. 2023, arXiv:2303.01713 (log-sum-exp rather than exponential and division).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Ends, Joint, Planes
from bounds.ops.rows import RowPlanes, stretched_rows, stretched_rows_range
from bounds.ops.smooth import Sigmoid
from bounds.rounding import down, up

__all__ = ["Softmax"]

_EPS = torch.finfo(torch.float64).eps


@dataclass(frozen=True, eq=False)
class Softmax(Joint):
    """`exp(x_i) / sum_j exp(x_j)` over the entries that are there. Shapes: `(*lead, n)` both.

    `absent` (bool, broadcasts to `(*lead, n)`) marks those that a mask takes out, as a score of minus infinity does; their
    value is 0. No row is without entries.
    """

    absent: Tensor | None = None

    def forward(self, *inputs: Tensor) -> Tensor:
        x = inputs[0]
        return torch.softmax(x if self.absent is None else x.masked_fill(self.absent, -torch.inf), dim=-1)

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        same = lower == upper
        return same if self.absent is None else same | self.absent

    def image(self, lower: Tensor, upper: Tensor) -> Ends:
        there, others = self._there(lower)
        low, high = Sigmoid().image(*_argument(lower.double(), upper.double(), others))
        alone = ~others.any(-1)
        low, high = (torch.where(alone, 1.0, end) * there for end in (low, high))
        return _outward(low, high, lower.dtype)

    def planes(self, lower: Tensor, upper: Tensor, free: Tensor | None = None) -> Planes:
        l, u = lower.double(), upper.double()
        there, others = self._there(lower)
        s = _argument(l, u, others)
        lines, (least, most) = Sigmoid().envelope(*s), Sigmoid().image(*s)
        # Lines that rounding made fall would turn the bounds of `s` round.
        al, bl = torch.where(lines.al < 0, 0.0, lines.al), torch.where(lines.al < 0, least, lines.bl)
        au, bu = torch.where(lines.au < 0, 0.0, lines.au), torch.where(lines.au < 0, most, lines.bu)
        own = torch.eye(l.shape[-1], dtype=torch.float64, device=l.device)
        found: list[Ends] = []
        for slope, b, (weight, constant), sign in (
            (al, bl, _above(l, u, others), -1.0),
            (au, bu, _tangent(l, u, others), 1.0),
        ):
            row = slope.unsqueeze(-1) * (own - weight)
            used = there & others.any(-1)
            row = torch.where(used.unsqueeze(-1), row, 0.0).to(lower.dtype)
            size = torch.maximum(l.abs(), u.abs()).unsqueeze(-2)
            # What rounding the slopes, to the dtype too, can move, and the few operations of the constant itself.
            missed = ((row.double() - slope.unsqueeze(-1) * (own - weight)).abs() + 4 * _EPS * row.abs()) * size
            missed = missed.sum(-1) + 8 * _EPS * (slope * constant.abs() + b.abs())
            value = torch.where(used, b - slope * constant + sign * missed, there.to(l.dtype))
            found.append((row, value))
        low, high = _outward(found[0][1], found[1][1], lower.dtype)
        return RowPlanes((found[0][0], found[1][0]), (low, high))

    def difference_planes(self, y: Ends, c: Ends, d: Ends) -> Planes:
        flat, steep = self._jacobian(y, c)
        return stretched_rows(flat, steep, d)

    def difference_image(self, y: Ends, c: Ends, d: Ends) -> Ends:
        return stretched_rows_range(*self._jacobian(y, c), d)

    def blame(self, loss: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Each entry by how much the value may vary with it."""
        flat, steep = self._jacobian((lower, upper), (lower, upper))
        moved = torch.maximum(flat.abs(), steep.abs()) * (upper - lower).unsqueeze(-2)
        return (moved * (loss / moved.sum(-1).clamp_min(torch.finfo(loss.dtype).tiny)).unsqueeze(-1)).sum(-2)

    def _jacobian(self, y: Ends, c: Ends) -> Ends:
        """Derivatives between two boxes: `f_i (1 - f_i)` on the diagonal, else `-f_i f_j`."""
        a, b = self.image(torch.minimum(y[0], c[0]), torch.maximum(y[1], c[1]))
        at_a, at_b = (up(up(t * up(1 - t))) for t in (a, b))
        half = (a <= 0.5) & (b >= 0.5)
        most = torch.where(half, 0.25, torch.maximum(at_a, at_b))
        least = torch.minimum(*(down(down(t * down(1 - t))).clamp_min(0) for t in (a, b)))
        low = -torch.minimum(up(b.unsqueeze(-1) * b.unsqueeze(-2)), torch.minimum(most.unsqueeze(-1), most.unsqueeze(-2)))
        high = -down(a.unsqueeze(-1) * a.unsqueeze(-2)).clamp_min(0)
        own = torch.eye(a.shape[-1], dtype=torch.bool, device=a.device)
        return torch.where(own, least.unsqueeze(-1), low), torch.where(own, most.unsqueeze(-1), high)

    def _there(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Which entries are there, and for each entry which others. Shapes: `(1, *lead, n)`, `(1, *lead, n, n)`."""
        there = torch.ones(x.shape[1:], dtype=torch.bool, device=x.device)
        there = (there if self.absent is None else ~self.absent.expand_as(there)).unsqueeze(0)
        own = torch.eye(x.shape[-1], dtype=torch.bool, device=x.device)
        return there, there.unsqueeze(-2) & ~own


def _argument(l: Tensor, u: Tensor, others: Tensor) -> Ends:
    """The range of `s`, rounded outward; 0 where there are no others."""
    few = ~others.any(-1)
    found: list[Tensor] = []
    for own, rest, sign in ((l, u, -1.0), (u, l, 1.0)):
        total = torch.where(few, 0.0, _log_sum(rest, others))
        s = own - total
        found.append(torch.where(few, 0.0, s + sign * 8 * _EPS * (own.shape[-1] + 8 + total.abs() + own.abs())))
    return found[0], found[1]


def _spread(x: Tensor, others: Tensor, fill: float) -> Tensor:
    """The others' entries beside each entry. Shapes: `(b, *lead, n)` to `(b, *lead, n, n)`."""
    return torch.where(others, x.unsqueeze(-2), fill)


def _log_sum(x: Tensor, others: Tensor) -> Tensor:
    return _spread(x, others, -torch.inf).logsumexp(-1)


def _tangent(l: Tensor, u: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and a constant, `sum_j w_j x_j + constant <= log sum_{j != i} exp(x_j)` on the box: a tangent at its middle.

    The weights are off by rounding, relative to themselves by that of their exponents; over the box that moves the function by
    so much times the width.
    """
    x = (l + u) / 2
    count = x.shape[-1]
    total = torch.where(others.any(-1), _log_sum(x, others), 0.0)
    entries = _spread(x, others, 0.0)
    distance = torch.where(others, entries - total.unsqueeze(-1), -torch.inf)
    weight = distance.exp()
    far = torch.where(others, distance.abs(), 0.0) + total.abs().unsqueeze(-1)
    off = weight * 4 * _EPS * (count + 8 + far) * _spread(u - l, others, 0.0)
    at = (weight * entries).sum(-1)
    error = off.sum(-1) + 8 * _EPS * (count + 8 + total.abs() + count * (weight * entries.abs()).sum(-1))
    return weight, total - at - error


def _above(l: Tensor, u: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Weights and a constant, `sum_j w_j x_j + constant >= log sum_{j != i} exp(x_j)` on the box.

    For every `S > 0`: `log sum exp(x_j) <= M + log S - 1 + sum exp(x_j - M) / S`. Each term is convex, so a line that is not
    below it at both ends of `x_j` is not below it between them, whatever its slope was rounded to.
    """
    count = l.shape[-1]
    low, high = _spread(l, others, 0.0), _spread(u, others, 0.0)
    top = torch.where(others, high, -torch.inf).amax(-1, keepdim=True)
    top = torch.where(others.any(-1, keepdim=True), top, 0.0)
    el, eu = (torch.where(others, (end - top).exp(), 0.0) for end in (low, high))
    total = ((el + eu) / 2).sum(-1, keepdim=True).clamp_min(0.25)
    width = high - low
    wide = width > 1e-150
    weight = torch.where(wide, (eu - el) / torch.where(wide, width, 1.0), 0.0) / total
    ends: list[Tensor] = []
    for e, end in ((el, low), (eu, high)):
        error = 16 * _EPS * ((e / total) * (1 + (end - top).abs()) + (weight * end).abs())
        ends.append(e / total - weight * end + error)
    each = torch.where(others, torch.maximum(ends[0], ends[1]), 0.0)
    base = top + total.log() - 1
    error = 8 * _EPS * ((count + 8) * each.abs().sum(-1) + base.abs().squeeze(-1) + top.abs().squeeze(-1) + 4)
    return weight, base.squeeze(-1) + each.sum(-1) + error


def _outward(low: Tensor, high: Tensor, dtype: torch.dtype) -> Ends:
    """To `dtype`, rounded outward."""
    return (low, high) if dtype == torch.float64 else (down(low.to(dtype)), up(high.to(dtype)))
