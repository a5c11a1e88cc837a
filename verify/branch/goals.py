"""What branch and bound proves: a claim's margins, taken apart into goals that hold each on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.query import Clauses, Margins
from bounds.rounding import down

__all__ = ["Forms", "goals", "proven", "stacked"]


@dataclass(frozen=True, slots=True, eq=False)
class Forms:
    """The forms `p . f_G + q . (f_C - f_G) + offset` of a batch of goals. Shapes: `p`, `q` `(batch, rows, *output_shape)`,
    `offset` `(batch, rows)`."""

    p: Tensor
    q: Tensor
    offset: Tensor
    margins: Margins

    def combine(self, forms: Tensor) -> Tensor:
        """Margins from bounds of the forms without their offsets, rounded down. Shapes: `(batch, rows)` to `(batch,)`.
        Monotone."""
        if isinstance(self.margins, Clauses):
            return down(forms + self.offset).amax(1)
        return self.margins.combine(forms)

    def to(self, dtype: torch.dtype) -> Forms:
        """The same in another precision, about."""
        return Forms(self.p.to(dtype), self.q.to(dtype), self.offset.to(dtype), self.margins)

    def pick(self, rows: Tensor) -> Forms:
        """Some goals of the batch, in the order asked for."""
        return Forms(self.p[rows], self.q[rows], self.offset[rows], self.margins)


def goals(margins: Margins) -> list[list[int]]:
    """Rows of forms that must be bounded together: a clause each, or all of a norm."""
    if isinstance(margins, Clauses):
        return [list(clause) for clause in margins.clauses.tolist()]
    return [list(range(len(margins.offset)))]


def proven(margins: Margins, goal: Sequence[int], forms: Tensor) -> float:
    """What bounds of the forms prove of a goal. Shapes: `forms` `(forms,)`. Bounds that are no numbers prove nothing."""
    found = float(forms[list(goal)].amax() if isinstance(margins, Clauses) else margins.combine(forms))
    return -math.inf if math.isnan(found) or found == math.inf else found


def stacked(margins: Margins, rows: Sequence[Sequence[int]]) -> Forms:
    """The forms of a batch of goals."""
    at = torch.tensor(rows)
    return Forms(margins.common[at], margins.circuit[at], margins.offset[at], margins)
