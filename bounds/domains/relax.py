"""What a relaxation of a non-linear operator does to linear forms: lines for elementwise ones, planes for joint ones."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor

from bounds.domains.envelope import difference_envelope
from bounds.ops.base import Elementwise, Ends, Joint, Lines, Nonlinear, Planes
from bounds.region import Box
from bounds.rounding import gamma

__all__ = ["Relaxation", "below", "charge", "difference_relaxation", "dot", "gap", "relaxation", "select"]

Relaxation: TypeAlias = Lines | Planes


def relaxation(op: Nonlinear, box: Box, free: Tensor | None = None) -> Relaxation:
    """Enclose an operator on a box of its argument; `free` chooses among the planes of a joint one."""
    if isinstance(op, Joint):
        return op.planes(box.lower, box.upper, free)
    assert isinstance(op, Elementwise)
    return op.envelope(box.lower, box.upper)


def difference_relaxation(op: Nonlinear, y: Box, c: Box, d: Box) -> tuple[Relaxation, Tensor]:
    """Enclose `f(c) - f(y)` in `d = c - y`; also for which values there is such a relaxation. Shape of these: the result's."""
    if isinstance(op, Elementwise):
        return difference_envelope(op, y, c, d)
    assert isinstance(op, Joint)
    planes = op.difference_planes(_ends(y), _ends(c), _ends(d))
    return planes, torch.ones(op.forward(d.lower).shape, dtype=torch.bool, device=d.lower.device)


def _ends(box: Box) -> Ends:
    return box.lower, box.upper


def below(a: Tensor, lines: Relaxation, constant: Tensor, which: Tensor | None) -> Tensor:
    """`a f` from below by the lower line where `a` is positive, the upper one where it is negative: the coefficients of the
    argument. What is left goes to `constant`, in place. Shapes: `a` `(circuits, rows, *shape)`."""
    if isinstance(lines, Planes):
        form, part = lines.pick(which).below(a)
        constant += part
        return form
    al, bl, au, bu = (select(x, which) for x in (lines.al, lines.bl, lines.au, lines.bu))
    negative = a.clamp_max(0)
    if bool((bl != 0).any()):
        constant += dot((a - negative).flatten(2), bl.flatten(1))
    if bool((bu != 0).any()):
        constant += dot(negative.flatten(2), bu.flatten(1))
    return torch.addcmul(a * al.unsqueeze(1), negative, (au - al).unsqueeze(1))


def gap(lines: Relaxation, box: Box, which: Tensor | None) -> Tensor:
    """Greatest vertical distance of the two lines, which they take at an end. Shape: `(circuits or 1, 1, *shape)`."""
    if isinstance(lines, Planes):
        return select(lines.gap(box.lower, box.upper), which).unsqueeze(1)
    slope, height = lines.au - lines.al, lines.bu - lines.bl
    found = torch.maximum(slope * box.lower + height, slope * box.upper + height).clamp_min(0)
    return select(found, which).unsqueeze(1)


def charge(lines: Relaxation, size: Tensor) -> Tensor:
    """How far a form moves, at most, by rounding in `below`, for each unit of `|a|`, over all circuits. Shapes: `size` `(1,
    *before)`, bounds of the argument, to `(1, *shape)`."""
    if isinstance(lines, Planes):
        return lines.charge(size).amax(0, keepdim=True)
    slope = torch.maximum(lines.al.abs(), lines.au.abs()).amax(0, keepdim=True)
    intercept = torch.maximum(lines.bl.abs(), lines.bu.abs()).amax(0, keepdim=True)
    # Three roundings: a*al, n*(au - al), their sum; the slopes' difference is at most twice the larger one.
    return 4 * gamma(1, size.dtype) * slope * size + 2 * gamma(max(1, intercept[0].numel()), size.dtype) * intercept


def dot(a: Tensor, v: Tensor) -> Tensor:
    """Rows times one vector a circuit. Shapes: `(circuits, rows, n)`, `(circuits or 1, n)` to `(circuits, rows)`."""
    return a @ v[0] if len(v) == 1 else torch.bmm(a, v.unsqueeze(2)).squeeze(2)


def select(x: Tensor, which: Tensor | None) -> Tensor:
    """Rows of a trace's batch axis that a form stands for; shared ones stay shared."""
    return x if which is None or len(x) == 1 else x.index_select(0, which)
