"""Products of two tensors that both vary: a batch of matrix products; products element by element are those of size one.

Of one product `x y` on a box, with centres `cx, cy` and radii `rx, ry`, any of these planes touches from below and above:

    x y  >=  (cy + t ry) x + (cx + t rx) y + const,        x y  <=  (cy + s ry) x + (cx - s rx) y + const,      t, s in [-1, 1].

At `t = +-1` they are McCormick's; between, their mixtures. `x y` less a plane is bilinear, so its extremes over a box are at
the corners: the constants are taken there, which makes them right for whatever floats the slopes are.

Source: McCormick 1976; Shi et al. 2020, arXiv:2002.06622 (transformers); optimised mixtures as in Xu et al. 2021.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Ends, Joint, Planes
from bounds.ops.lines import stretched, stretched_range
from bounds.rounding import down, gamma, tiny, up

__all__ = ["Product", "ProductPlanes"]


@dataclass(frozen=True, eq=False)
class ProductPlanes(Planes):
    """For each term `x_ik y_kj` slopes `p` of `x_ik` and `q` of `y_kj`, for each value a constant; of lower and upper planes.

    Shapes, `b` the batch, `L` the leading axes flattened: slopes `(b, L, n, m, k)`, where `n` may be 1 in `p` and `m` in `q`;
    constants `(b, L, n, m)`.
    """

    op: Product
    p: Ends
    q: Ends
    constant: Ends

    @property
    def _alike(self) -> bool:
        """Whether the lower planes' slopes are the upper ones'."""
        return self.p[0] is self.p[1] and self.q[0] is self.q[1]

    def below(self, a: Tensor) -> tuple[Tensor, Tensor]:
        op, lead = self.op, a.shape[2:-2]
        a = a.reshape(*a.shape[:2], -1, op.n, op.m)
        negative = a.clamp_max(0)
        signed = (a - negative, negative)
        parts = ((a, self.p[0], self.q[0]),) if self._alike else tuple(zip(signed, self.p, self.q, strict=True))
        x = y = constant = torch.zeros((), dtype=a.dtype, device=a.device)
        for part, p, q in parts:
            x, y = x + _onto_left(part, p), y + _onto_right(part, q)
        for part, b in zip(signed, self.constant, strict=True):
            constant = constant + (part.flatten(2) @ b.flatten(1).unsqueeze(2)).squeeze(2)
        return torch.cat([x.flatten(3), y.flatten(3)], dim=3).reshape(*a.shape[:2], *lead, -1), constant

    def charge(self, size: Tensor) -> Tensor:
        op, dtype = self.op, size.dtype
        x, y = op.terms_of(size.reshape(len(size), -1, size.shape[-1]))
        p, q = (torch.maximum(slopes[0].abs(), slopes[1].abs()) for slopes in (self.p, self.q))
        moved = (gamma(2 * op.m, dtype) * p * x + gamma(2 * op.n, dtype) * q * y).sum(-1)
        b = torch.maximum(self.constant[0].abs(), self.constant[1].abs())
        return (moved + gamma(2 * b[0].numel(), dtype) * b).reshape(-1, *size.shape[1:-1], op.n, op.m)

    def gap(self, lower: Tensor, upper: Tensor) -> Tensor:
        lead = lower.shape[1:-1]
        (xl, yl), (xu, yu) = (self.op.terms_of(end.reshape(len(end), -1, end.shape[-1])) for end in (lower, upper))
        p, q = self.p[1] - self.p[0], self.q[1] - self.q[0]
        wide = torch.maximum(p * xl, p * xu) + torch.maximum(q * yl, q * yu)
        gap = wide.sum(-1) + self.constant[1] - self.constant[0]
        return gap.clamp_min(0).reshape(-1, *lead, self.op.n, self.op.m)

    def pick(self, which: Tensor | None) -> ProductPlanes:
        if which is None or len(self.constant[0]) == 1:
            return self
        p, q = ((ends[0][which], ends[1][which]) for ends in (self.p, self.q))
        if self._alike:
            p, q = (p[0], p[0]), (q[0], q[0])
        constant = self.constant[0][which], self.constant[1][which]
        return ProductPlanes(self.op, p, q, constant)


def _onto_left(a: Tensor, p: Tensor) -> Tensor:
    """`sum_j a_ij p_ijk`. Shapes: `(c, r, L, n, m)`, `(b, L, n or 1, m, k)` to `(c, r, L, n, k)`."""
    c, r, lead, n, m = a.shape
    a = a.permute(0, 2, 3, 1, 4)
    if p.shape[2] == 1:  # without copies of the slopes for each row of the left matrix
        return (a.reshape(c, lead, n * r, m) @ p[:, :, 0]).reshape(c, lead, n, r, -1).permute(0, 3, 1, 2, 4)
    return (a @ p).permute(0, 3, 1, 2, 4)


def _onto_right(a: Tensor, q: Tensor) -> Tensor:
    """`sum_i a_ij q_ijk`. Shapes: `(c, r, L, n, m)`, `(b, L, n, m or 1, k)` to `(c, r, L, k, m)`."""
    return _onto_left(a.transpose(3, 4), q.transpose(2, 3)).transpose(3, 4)


@dataclass(frozen=True, eq=False)
class Product(Joint):
    """`z = x y` for matrices `x` `(n, k)` and `y` `(k, m)`, held one after the other in the last axis.

    Shapes: `(*lead, n k + k m)` to `(*lead, n, m)`.
    """

    n: int = 1
    k: int = 1
    m: int = 1

    def matrices(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """The two matrices. Shapes: `(..., n k + k m)` to `(..., n, k)` and `(..., k, m)`."""
        x, y = both.split([self.n * self.k, self.k * self.m], dim=-1)
        return x.unflatten(-1, (self.n, self.k)), y.unflatten(-1, (self.k, self.m))

    def terms_of(self, both: Tensor) -> tuple[Tensor, Tensor]:
        """The factors of each term, to be broadcast. Shapes: `(..., n, 1, k)` and `(..., 1, m, k)`."""
        x, y = self.matrices(both)
        return x.unsqueeze(-2), y.transpose(-1, -2).unsqueeze(-3)

    def forward(self, *inputs: Tensor) -> Tensor:
        x, y = self.matrices(inputs[0])
        return x @ y

    def image(self, lower: Tensor, upper: Tensor) -> Ends:
        (xl, yl), (xu, yu) = self.terms_of(lower), self.terms_of(upper)
        return _summed(stretched_range(xl, xu, yl, yu))

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        return lower == upper

    def freedom(self, lower: Tensor, upper: Tensor) -> Ends:
        (xl, yl), (xu, yu) = self.terms_of(lower), self.terms_of(upper)
        choice = ((xl < xu) & (yl < yu)).to(lower.dtype).unsqueeze(-1).expand(*lower.shape[:-1], self.n, self.m, self.k, 2)
        return -choice, choice

    def planes(self, lower: Tensor, upper: Tensor, free: Tensor | None = None) -> ProductPlanes:
        flat = [end.reshape(len(end), -1, end.shape[-1]) for end in (lower, upper)]
        (xl, yl), (xu, yu) = (self.terms_of(end) for end in flat)
        p, q = (yl + yu) / 2, (xl + xu) / 2
        ps, qs = (p, p), (q, q)
        if free is not None:
            t, s = free.reshape(len(free), -1, self.n, self.m, self.k, 2).unbind(-1)
            rx, ry = (xu - xl) / 2, (yu - yl) / 2
            ps, qs = (p + t * ry, p + s * ry), (q + t * rx, q - s * rx)
        low = _touching(ps[0], qs[0], (xl, xu), (yl, yu), 1)
        return ProductPlanes(self, ps, qs, (low, -_touching(-ps[1], -qs[1], (xl, xu), (yl, yu), -1)))

    def difference_planes(self, y: Ends, c: Ends, d: Ends) -> ProductPlanes:
        """`x' y' - x y` is `dx y' + x dy`, and `dx y + x' dy`; term by term the one whose factors vary less."""
        lead = d[0].shape[1:-1].numel()
        of_x, of_y, (dxl, dyl), (dxu, dyu) = self._factors(y, c, d)
        x_lines, y_lines = stretched(*of_x, dxl, dxu), stretched(*of_y, dyl, dyu)
        shape = (-1, lead, self.n, self.m, self.k)
        p, q = ((lines.al.reshape(shape), lines.au.reshape(shape)) for lines in (x_lines, y_lines))
        low, high = _summed((down(x_lines.bl + y_lines.bl), up(x_lines.bu + y_lines.bu)))
        return ProductPlanes(self, p, q, (low.reshape(shape[:-1]), high.reshape(shape[:-1])))

    def difference_image(self, y: Ends, c: Ends, d: Ends) -> Ends:
        """Each term both ways: so what tighter boxes give is never looser."""
        (xl, yl, xu, yu, cxl, cyl, cxu, cyu, dxl, dyl, dxu, dyu) = self._ends(y, c, d)
        low = high = None
        for of_x, of_y in (((cyl, cyu), (xl, xu)), ((yl, yu), (cxl, cxu))):
            by_x, by_y = stretched_range(*of_x, dxl, dxu), stretched_range(*of_y, dyl, dyu)
            least, most = down(by_x[0] + by_y[0]), up(by_x[1] + by_y[1])
            low = least if low is None else torch.maximum(low, least)
            high = most if high is None else torch.minimum(high, most)
        assert low is not None and high is not None
        low, high = _summed((low, high))
        same = ((dxl == 0) & (dxu == 0) & (dyl == 0) & (dyu == 0)).all(-1)
        return torch.where(same, 0.0, low), torch.where(same, 0.0, high)

    def blame(self, loss: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """Planes of `x y` lose in proportion to both widths: either factor known, a term's share is gone."""
        x, y = self.terms_of(upper - lower)
        terms = x * y
        terms = terms * (loss / terms.sum(-1).clamp_min(torch.finfo(loss.dtype).tiny)).unsqueeze(-1)
        return torch.cat([terms.sum(-2).flatten(-2), terms.sum(-3).transpose(-1, -2).flatten(-2)], dim=-1)

    def _factors(self, y: Ends, c: Ends, d: Ends) -> tuple[Ends, Ends, Ends, Ends]:
        """For each term what `dx` and `dy` are multiplied by, as intervals, and the ends of `dx, dy`. All of one shape."""
        (xl, yl, xu, yu, cxl, cyl, cxu, cyu, dxl, dyl, dxu, dyu) = self._ends(y, c, d)
        dx, dy = torch.maximum(dxl.abs(), dxu.abs()), torch.maximum(dyl.abs(), dyu.abs())
        first = dx * (cyu - cyl) + dy * (xu - xl) <= dx * (yu - yl) + dy * (cxu - cxl)
        of_x = torch.where(first, cyl, yl), torch.where(first, cyu, yu)
        of_y = torch.where(first, xl, cxl), torch.where(first, xu, cxu)
        return of_x, of_y, (dxl, dyl), (dxu, dyu)

    def _ends(self, *pairs: Ends) -> Sequence[Tensor]:
        """For each of the boxes the least `x`, the least `y`, the greatest `x`, the greatest `y` of each term, all of one
        shape."""
        return torch.broadcast_tensors(*(part for pair in pairs for end in pair for part in self.terms_of(end)))


def _touching(p: Tensor, q: Tensor, x: Ends, y: Ends, sign: int) -> Tensor:
    """The greatest constant found with `p x + q y + constant <= sign x y` on the box, summed over the terms.

    `sign x y - p x - q y` is `sign (x - sign q) (y - sign p) - sign p q`, least or greatest where the factors are. Each is off
    by a rounding, the products by one more, and their sum by another.
    """
    if sign < 0:
        p, q = -p, -q
    ends = [end - q for end in x], [end - p for end in y]
    corners = [sign * (s * t) for s in ends[0] for t in ends[1]]
    least = torch.minimum(torch.minimum(corners[0], corners[1]), torch.minimum(corners[2], corners[3]))
    widest = torch.maximum(ends[0][0].abs(), ends[0][1].abs()) * torch.maximum(ends[1][0].abs(), ends[1][1].abs())
    both = p * q
    least = least - sign * both - gamma(8, p.dtype) * (widest + both.abs())
    return _summed((down(least - tiny(8, p.dtype)), least))[0]


def _summed(terms: Ends) -> Ends:
    """Sums over the last axis, rounded outward."""
    count, dtype = terms[0].shape[-1], terms[0].dtype
    if count == 1:
        return terms[0][..., 0], terms[1][..., 0]
    slack, floor = gamma(count, dtype), tiny(count, dtype)
    low, high = (end.sum(-1) for end in terms)
    return low - slack * terms[0].abs().sum(-1) - floor, high + slack * terms[1].abs().sum(-1) + floor
