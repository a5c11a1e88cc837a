"""Planes of functions that take each row of the last axis to a row of values: softmax, normalisations."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Ends, Planes
from bounds.ops.lines import stretched, stretched_range
from bounds.rounding import gamma, tiny

__all__ = ["RowPlanes", "stretched_rows", "stretched_rows_range"]


@dataclass(frozen=True, eq=False)
class RowPlanes(Planes):
    """Slopes `(b, *lead, k, m)` of `k` values in the `m` entries of their row, constants `(b, *lead, k)`; lower and upper."""

    slope: Ends
    constant: Ends

    def below(self, a: Tensor) -> tuple[Tensor, Tensor]:
        lead, (k, m) = a.shape[2:-1], self.slope[0].shape[-2:]
        rows = a.reshape(*a.shape[:2], -1, k).transpose(1, 2)
        negative = rows.clamp_max(0)
        form = constant = torch.zeros((), dtype=a.dtype, device=a.device)
        for part, slope, b in zip((rows - negative, negative), self.slope, self.constant, strict=True):
            form = form + part @ slope.reshape(len(slope), -1, k, m)
            constant = constant + (part.transpose(1, 2).flatten(2) @ b.flatten(1).unsqueeze(2)).squeeze(2)
        return form.transpose(1, 2).reshape(*a.shape[:2], *lead, m), constant

    def charge(self, size: Tensor) -> Tensor:
        steep = torch.maximum(self.slope[0].abs(), self.slope[1].abs())
        b = torch.maximum(self.constant[0].abs(), self.constant[1].abs())
        moved = (steep @ size.unsqueeze(-1)).squeeze(-1)
        return gamma(2 * steep.shape[-2], size.dtype) * moved + gamma(2 * b[0].numel(), size.dtype) * b

    def gap(self, lower: Tensor, upper: Tensor) -> Tensor:
        slope = self.slope[1] - self.slope[0]
        wide = torch.maximum(slope * lower.unsqueeze(-2), slope * upper.unsqueeze(-2)).sum(-1)
        return (wide + self.constant[1] - self.constant[0]).clamp_min(0)

    def pick(self, which: Tensor | None) -> RowPlanes:
        if which is None or len(self.constant[0]) == 1:
            return self
        slope, constant = ((ends[0][which], ends[1][which]) for ends in (self.slope, self.constant))
        return RowPlanes(slope, constant)


def stretched_rows(flat: Tensor, steep: Tensor, d: Ends) -> RowPlanes:
    """Planes in `d` around `sum_j s_ij d_j`, `s` in `[flat, steep]`. Shapes: `(b, *lead, k, m)`, `d` `(b, *lead, m)`."""
    lines = stretched(flat, steep, *(end.unsqueeze(-2).expand_as(flat) for end in d))
    slack, floor = gamma(flat.shape[-1], flat.dtype), tiny(flat.shape[-1], flat.dtype)
    low, high = (b.sum(-1) for b in (lines.bl, lines.bu))
    low = low - slack * lines.bl.abs().sum(-1) - floor
    return RowPlanes((lines.al, lines.au), (low, high + slack * lines.bu.abs().sum(-1) + floor))


def stretched_rows_range(flat: Tensor, steep: Tensor, d: Ends) -> Ends:
    """Where `sum_j s_ij d_j` lies, rounded outward; exactly 0 where all of `d` is."""
    low, high = stretched_range(flat, steep, *(end.unsqueeze(-2) for end in d))
    slack, floor = gamma(flat.shape[-1], flat.dtype), tiny(flat.shape[-1], flat.dtype)
    same = ((d[0] == 0) & (d[1] == 0)).all(-1, keepdim=True)
    lower = low.sum(-1) - slack * low.abs().sum(-1) - floor
    upper = high.sum(-1) + slack * high.abs().sum(-1) + floor
    return torch.where(same, 0.0, lower), torch.where(same, 0.0, upper)
