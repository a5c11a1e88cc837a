"""TopK: the largest `k` entries of each row, the rest 0; what is negative is 0 too.

An entry is kept where fewer than `k` others are larger. On a box each entry alone is then a function that jumps from 0 to the
entry somewhere between the `k`-th largest of the others' lower ends and that of their upper ends (`bounds.ops.jump`): its lines
depend on the entry itself only.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Ends, Joint, Lines, Planes
from bounds.ops.jump import jump_image, jump_lines
from bounds.rounding import down, gamma, up

__all__ = ["OwnLines", "TopK"]


@dataclass(frozen=True, eq=False)
class OwnLines(Planes):
    """Planes that depend on one entry each: lines. Shapes: those of the values, which are those of the argument."""

    lines: Lines

    def below(self, a: Tensor) -> tuple[Tensor, Tensor]:
        al, bl, au, bu = self._all()
        negative = a.clamp_max(0)
        positive = a - negative
        constant = positive.flatten(2) @ bl.flatten(1).unsqueeze(2) + negative.flatten(2) @ bu.flatten(1).unsqueeze(2)
        return positive * al.unsqueeze(1) + negative * au.unsqueeze(1), constant.squeeze(2)

    def charge(self, size: Tensor) -> Tensor:
        al, bl, au, bu = self._all()
        slope, intercept = torch.maximum(al.abs(), au.abs()), torch.maximum(bl.abs(), bu.abs())
        return gamma(2, size.dtype) * slope * size + 2 * gamma(max(1, intercept[0].numel()), size.dtype) * intercept

    def gap(self, lower: Tensor, upper: Tensor) -> Tensor:
        al, bl, au, bu = self._all()
        slope, height = au - al, bu - bl
        return torch.maximum(slope * lower + height, slope * upper + height).clamp_min(0)

    def pick(self, which: Tensor | None) -> OwnLines:
        if which is None:
            return self
        return OwnLines(Lines(*(x if len(x) == 1 else x.index_select(0, which) for x in self._all())))

    def _all(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        return self.lines.al, self.lines.bl, self.lines.au, self.lines.bu


@dataclass(frozen=True, eq=False)
class TopK(Joint):
    """`max(x_i, 0)` where fewer than `k` other entries of the last axis are larger than `x_i`, else 0.

    Ties for the `k`-th place are all kept, so that the function is one whatever the order of the entries.
    Source: Gao et al. 2024 (TopK sparse autoencoders), arXiv:2406.04093.
    """

    k: int

    def forward(self, *inputs: Tensor) -> Tensor:
        x = inputs[0]
        least = x.topk(min(self.k, x.shape[-1]), dim=-1).values[..., -1:]
        return torch.where(x >= least, x.clamp_min(0), 0.0)

    def image(self, lower: Tensor, upper: Tensor) -> Ends:
        low, _, on, off = self._jumps(lower, upper)
        return jump_image(lower, upper, low, on, off)

    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        _, _, on, off = self._jumps(lower, upper)
        return on | off

    def planes(self, lower: Tensor, upper: Tensor, free: Tensor | None = None) -> Planes:
        return OwnLines(jump_lines(lower, upper, *self._jumps(lower, upper)))

    def difference_planes(self, y: Ends, c: Ends, d: Ends) -> Planes:
        both, (low, high) = self._both_on(y, c), self.difference_image(y, c, d)
        slope = both.to(d[0].dtype)
        return OwnLines(Lines(slope, torch.where(both, 0.0, low), slope, torch.where(both, 0.0, high)))

    def difference_image(self, y: Ends, c: Ends, d: Ends) -> Ends:
        """The arguments' own where an entry is kept in both runs; none where a whole row does not differ; else what the two
        ranges give."""
        both = self._both_on(y, c)
        at_y, at_c = self.image(*y), self.image(*c)
        still = ((d[0] == 0) & (d[1] == 0)).all(-1, keepdim=True)
        gone = still | ((at_y[0] == 0) & (at_y[1] == 0) & (at_c[0] == 0) & (at_c[1] == 0))
        low, high = down(at_c[0] - at_y[1]), up(at_c[1] - at_y[0])
        low, high = torch.where(both, d[0], low), torch.where(both, d[1], high)
        return torch.where(gone, 0.0, low), torch.where(gone, 0.0, high)

    def blame(self, loss: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """A value's lines are of its own entry."""
        return loss

    def _both_on(self, y: Ends, c: Ends) -> Tensor:
        return self._jumps(*y)[2] & self._jumps(*c)[2]

    def _jumps(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Between which numbers each entry's jump is; where it is surely kept and not negative; where it is surely 0."""
        low, high = (self._of_others(end).clamp_min(0) for end in (lower, upper))
        return low, high, lower >= high, upper < low

    def _of_others(self, x: Tensor) -> Tensor:
        """The `k`-th largest among the others, minus infinity where there are fewer."""
        n = x.shape[-1]
        if self.k >= n:
            return torch.full_like(x, -torch.inf)
        top = x.topk(self.k + 1, dim=-1).values
        return torch.where(x >= top[..., -2:-1], top[..., -1:], top[..., -2:-1])
