"""Laws of operators whose values depend on several entries: points of a box lie inside what is said of the box."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bounds.ops import Product
from bounds.ops.base import Ends, Joint, Planes, Shape
from bounds.ops.lines import widen

__all__ = ["before", "check_joint", "check_planes"]

_EPS = torch.finfo(torch.float64).eps


def before(op: Joint) -> Shape:
    """A shape that the operator takes."""
    if isinstance(op, Product):
        return 2, op.k * (op.n + op.m)
    absent: Tensor | None = getattr(op, "absent", None)
    return (2, 4) if absent is None else tuple(absent.shape)


def check_joint(op: Joint, lower: Tensor, upper: Tensor, seed: int, count: int = 200) -> None:
    """All of them, on two boxes and the difference between, in the ends' precision; points are evaluated in float64. Shapes:
    `lower`, `upper` `(2, *before)`."""
    generator = torch.Generator().manual_seed(seed)
    y, c = (lower[:1], upper[:1]), (lower[1:], upper[1:])
    points, others = _points(y, count, generator), _points(c, count, generator)
    f, g = op.forward(points), op.forward(others)
    off, other = _own_error(op, points), _own_error(op, others)
    low, high = op.image(*y)
    assert _over(low - f, off) <= 0 and _over(f - high, off) <= 0, f"image of {op}"
    planes = op.planes(*y)
    check_planes(planes, points, f, off, generator, f"planes of {op}", lower.dtype)
    span = op.freedom(*y)
    if span is not None:
        for t in (0.0, 1.0, float(torch.rand((), generator=generator))):
            chosen = op.planes(*y, span[0] + t * (span[1] - span[0]))
            check_planes(chosen, points, f, off, generator, f"chosen planes of {op}", lower.dtype)
    gap = planes.gap(*y)[0].double()
    apart = _ones(planes, points, tuple(f.shape[1:]), lower.dtype, 1) + _ones(
        planes, points, tuple(f.shape[1:]), lower.dtype, -1
    )
    rough = 1e-9 if lower.dtype == torch.float64 else 1e-3
    assert float((-apart - gap - rough * (1 + gap + points.abs().amax() ** 2)).max()) <= 0, f"gap of {op}"
    loss = planes.gap(*y)
    blame = op.blame(loss, *y)
    assert blame.shape == y[0].shape and bool((blame >= 0).all()), f"blame of {op}"
    assert float(blame.sum()) <= 2.001 * float(loss.sum()), f"{op}: more blame than two factors of each term can have"
    d = _around(points, others, c, y)
    dx, df, both = others - points, g - f, off + other
    lowest, highest = op.difference_image(y, c, d)
    assert _over(lowest - df, both) <= 0 and _over(df - highest, both) <= 0, f"difference of {op}"
    check_planes(op.difference_planes(y, c, d), dx, df, both, generator, f"difference planes of {op}", lower.dtype)
    zero = (torch.zeros_like(y[0]), torch.zeros_like(y[0]))
    still = op.difference_image(y, y, zero)
    assert bool((still[0] == 0).all() & (still[1] == 0).all()), f"{op}: what does not differ, differs"


def check_planes(
    planes: Planes, x: Tensor, f: Tensor, off: Tensor, generator: torch.Generator, what: str, dtype: torch.dtype
) -> None:
    """Forms of the values are no lower than those of the argument; each value by itself, and sums. Rounding within `charge`."""
    size = f[0].numel()
    units = torch.cat([torch.eye(size), -torch.eye(size), torch.randn((8, size), generator=generator)])
    a = units.to(dtype).reshape(1, -1, *f.shape[1:])
    form, constant = planes.below(a)
    assert form.shape == (1, a.shape[1], *x.shape[1:]) and constant.shape == (1, a.shape[1]), f"{what}: shape"
    charge = planes.charge(x.abs().amax(0, keepdim=True).to(dtype)).flatten(1).double()
    a, form, constant = a[0].double().flatten(1), form[0].double().flatten(1), constant.double()
    found = x.flatten(1) @ form.T + constant
    allowed = (off.flatten(1) + charge * (1 + 1e-6)) @ a.abs().T * (1 + 1e-6)
    allowed = allowed + 4 * (x[0].numel() + 2) * _EPS * (x.abs().flatten(1) @ form.abs().T + constant.abs())
    over = float((found - f.flatten(1) @ a.T - allowed).max())
    assert over <= 0, f"{what}: above by {over:.3g}"


def _ones(planes: Planes, x: Tensor, shape: Shape, dtype: torch.dtype, sign: int) -> Tensor:
    """Each value's lower plane, or the upper one negated, at points."""
    size = math.prod(shape)
    form, constant = planes.below(sign * torch.eye(size, dtype=dtype).reshape(1, size, *shape))
    return (x.flatten(1) @ form[0].double().flatten(1).T + constant.double()).reshape(-1, *shape)


def _points(ends: Ends, count: int, generator: torch.Generator) -> Tensor:
    """Points of a box: corners, its centre, and points inside."""
    lower, upper = (end.double() for end in ends)
    t = torch.rand((count, *lower.shape[1:]), generator=generator, dtype=torch.float64)
    t[: count // 2] = t[: count // 2].round()
    t[0] = 0.5
    return (lower + t * (upper - lower)).clamp(lower, upper)


def _own_error(op: Joint, x: Tensor) -> Tensor:
    """What the evaluation itself may be off by."""
    y = op.forward(x)
    return (
        8
        * (x.shape[-1] + 4)
        * _EPS
        * (op.forward(x.abs()).abs() if isinstance(op, Product) else y.abs() * (1 + x.abs().amax()))
    )


def _over(found: Tensor, off: Tensor) -> float:
    return float((found - off).max())


def _around(points: Tensor, others: Tensor, c: Ends, y: Ends) -> Ends:
    """A box of the points' differences, as wide as may be along some axes and as narrow along others."""
    d = others - points
    narrow = widen(d.amin(0, keepdim=True).to(c[0].dtype), d.amax(0, keepdim=True).to(c[0].dtype), 2)
    wide = widen(c[0] - y[1], c[1] - y[0], 2)
    odd = torch.arange(d.shape[-1]) % 2 == 1
    return torch.where(odd, narrow[0], wide[0]), torch.where(odd, narrow[1], wide[1])
