"""Laws of elementwise operators, decided in exact or fifty-digit arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from typing import Any

import mpmath  # pyright: ignore[reportMissingTypeStubs]
import torch
from torch import Tensor

from bounds.domains.envelope import difference_envelope
from bounds.ops import (
    Clip,
    Erf,
    Exp,
    Gelu,
    JumpRelu,
    LeakyRelu,
    Log,
    Reciprocal,
    Sigmoid,
    Sign,
    Silu,
    Sqrt,
    Square,
    Tanh,
    TanhGelu,
)  # fmt: skip
from bounds.ops.base import Elementwise, Lines
from bounds.ops.lines import widen
from bounds.region import Box

__all__ = ["check_difference", "check_elementwise", "check_envelope", "check_free_slopes", "check_image", "check_settled",
           "check_steepness", "points"]  # fmt: skip

_SLACK = Fraction(1, 10**28)
"""What a value in fifty digits may be off by; nothing where the function is exact."""


def _exact(op: Elementwise) -> tuple[Callable[[float], Fraction], Fraction]:
    """The function in exact arithmetic, or in fifty digits, and how far off it may be."""
    if isinstance(op, LeakyRelu):
        return lambda t: Fraction(t) * (1 if t >= 0 else Fraction(op.slope)), Fraction(0)
    if isinstance(op, Clip):
        return lambda t: Fraction(min(max(t, op.low), op.high)), Fraction(0)
    if isinstance(op, JumpRelu):
        return lambda t: Fraction(t) if t > float(op.threshold) else Fraction(0), Fraction(0)
    if isinstance(op, Sign):
        return lambda t: Fraction((t > 0) - (t < 0)), Fraction(0)
    if isinstance(op, Square):
        return lambda t: Fraction(t) ** 2, Fraction(0)
    if isinstance(op, Reciprocal):
        return lambda t: 1 / Fraction(t), Fraction(0)
    if isinstance(op, Gelu):
        return lambda t: _fraction(mpmath.mpf(t) * mpmath.erfc(-op.c * mpmath.mpf(t)) / 2), _SLACK
    if isinstance(op, TanhGelu):
        return lambda t: _fraction(t * _logistic(2 * (mpmath.mpf(op.a) * t + mpmath.mpf(op.b) * mpmath.mpf(t) ** 3))), _SLACK
    if type(op) in _KNOWN:
        return lambda t: _fraction(_KNOWN[type(op)](mpmath.mpf(t))), _SLACK
    # An operator without a reference of its own: its evaluation in float64, with room for that.
    return lambda t: Fraction(float(op.forward(torch.tensor([t], dtype=torch.float64)))), Fraction(1, 10**14)


def _logistic(t: Any) -> Any:
    return 1 / (1 + mpmath.exp(-t))


_KNOWN: dict[type, Callable[[Any], Any]] = {
    Sigmoid: _logistic, Tanh: mpmath.tanh, Erf: mpmath.erf, Exp: mpmath.exp, Log: mpmath.log, Sqrt: mpmath.sqrt,
    Silu: lambda t: t * _logistic(t),
}  # fmt: skip


def inside(op: Elementwise, lower: Tensor, upper: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """Intervals on which an operator is defined and finite, made of any."""
    if isinstance(op, Exp):
        return lower.clamp(-80, 80), upper.clamp(-80, 80)
    if bool(op.defined(lower, upper).all()):
        return lower, upper
    ends = torch.stack([lower.abs(), upper.abs()]).clamp_min(1e-6)
    lower, upper = ends.amin(0), ends.amax(0)
    return (-upper, -lower) if isinstance(op, Reciprocal) and seed % 2 else (lower, upper)


def _fraction(x: Any) -> Fraction:
    return Fraction(int(mpmath.floor(x * mpmath.mpf(10) ** 40)), 10**40)


def points(lower: Tensor, upper: Tensor, seed: int, inner: int = 9) -> list[list[float]]:
    """For each interval its ends, a grid, random points, and 0, kinks and steps that lie inside. All are numbers of the
    dtype."""
    t = torch.cat([torch.linspace(0, 1, inner), torch.rand(4, generator=torch.Generator().manual_seed(seed))]).to(lower.dtype)
    between = (lower + t.reshape(-1, *[1] * lower.dim()) * (upper - lower)).clamp(lower, upper)
    rows = torch.cat([between, lower.unsqueeze(0), upper.unsqueeze(0)]).flatten(1).T.tolist()
    ends = zip(lower.flatten().tolist(), upper.flatten().tolist(), strict=True)
    special = [s for k in (-1.0, -0.5, 0.0, 1.0, 1.25, 2.0, 6.0) for s in (k, math.nextafter(k, 9), math.nextafter(k, -9))]
    return [row + [k for k in special if l <= k <= u] for row, (l, u) in zip(rows, ends, strict=True)]


def check_elementwise(op: Elementwise, lower: Tensor, upper: Tensor, seed: int) -> None:
    """All of them, on one tensor of intervals."""
    lower, upper = inside(op, lower, upper, seed)
    with mpmath.workdps(50):
        check_image(op, lower, upper, seed)
        check_envelope(op, lower, upper, seed)
        check_free_slopes(op, lower, upper, seed)
        check_settled(op, lower, upper)
        check_steepness(op, lower, upper, seed)
        check_difference(op, lower, upper, seed)


def check_image(op: Elementwise, lower: Tensor, upper: Tensor, seed: int) -> None:
    """The range encloses every value."""
    f, slack = _exact(op)
    low, high = (_fractions(end) for end in op.image(lower, upper))
    for row, least, most in zip(points(lower, upper, seed), low, high, strict=True):
        for t in row:
            inside = least <= f(t) + slack and f(t) - slack <= most
            assert inside, f"image of {op}: f({t}) outside [{float(least)}, {float(most)}]"


def _enclosed(lines: Lines, what: str, rows: list[list[tuple[Fraction, Fraction]]], slack: Fraction) -> None:
    """Two lines enclose points `(t, f)`, one list an interval."""
    ends = (_fractions(x) for x in (lines.al, lines.bl, lines.au, lines.bu))
    for row, al, bl, au, bu in zip(rows, *ends, strict=True):
        for t, y in row:
            assert al * t + bl <= y + slack, f"{what}: lower line {float(al)} t + {float(bl)} above {float(y)} at {float(t)}"
            assert au * t + bu >= y - slack, f"{what}: upper line {float(au)} t + {float(bu)} below {float(y)} at {float(t)}"


def check_envelope(op: Elementwise, lower: Tensor, upper: Tensor, seed: int) -> None:
    """The two lines enclose the function."""
    f, slack = _exact(op)
    rows = [[(Fraction(t), f(t)) for t in row] for row in points(lower, upper, seed)]
    _enclosed(op.envelope(lower, upper), f"envelope of {op}", rows, slack)


def check_free_slopes(op: Elementwise, lower: Tensor, upper: Tensor, seed: int) -> None:
    """Where a range of slopes is offered, lines through 0 with its ends lie below the function."""
    offered = op.free_slopes(lower, upper)
    if offered is None:
        return
    f, slack = _exact(op)
    for row, first, last in zip(points(lower, upper, seed), *(_fractions(end) for end in offered), strict=True):
        for t in row if first < last else []:
            for slope in (first, last):
                assert slope * Fraction(t) <= f(t) + slack, f"free slope {float(slope)} of {op} above it at {t}"


def check_settled(op: Elementwise, lower: Tensor, upper: Tensor) -> None:
    """Where the operator calls itself settled, its lines coincide on the interval, but for rounding."""
    lines, settled = op.envelope(lower, upper), op.settled(lower, upper)
    for end in (lower, upper):
        gap = (lines.au * end + lines.bu) - (lines.al * end + lines.bl)
        size = end.abs() * (1 + lines.au.abs() + lines.al.abs()) + lines.bu.abs()
        allowed = 200 * torch.finfo(lower.dtype).eps * (1 + size)
        assert bool((gap.abs() <= allowed)[settled].all()), f"{op} is not settled where it says so"


def check_steepness(op: Elementwise, lower: Tensor, upper: Tensor, seed: int) -> None:
    """Difference quotients lie between the two numbers."""
    f, slack = _exact(op)
    flat, steep = (end.expand_as(lower).flatten().tolist() for end in op.steepness(lower, upper))
    for row, least, most in zip(points(lower, upper, seed, 5), flat, steep, strict=True):
        values = [(Fraction(t), f(t)) for t in sorted(set(row))]
        for i, (s, fs) in enumerate(values):
            for t, ft in values[i + 1 :: 2]:
                rise, run = ft - fs, t - s
                assert least == -math.inf or rise >= Fraction(least) * run - 2 * slack, (
                    f"steepness of {op}: below {least} from {float(s)} to {float(t)}"
                )
                assert most == math.inf or rise <= Fraction(most) * run + 2 * slack, (
                    f"steepness of {op}: above {most} from {float(s)} to {float(t)}"
                )


def check_difference(op: Elementwise, lower: Tensor, upper: Tensor, seed: int) -> None:
    """Lines in `d` enclose `f(y + d) - f(y)` for `y` in one interval and `y + d` in another."""
    y, c = Box(lower, upper), Box(lower.roll(1), upper.roll(1))
    low, high = widen(c.lower - y.upper, c.upper - y.lower, 2)
    lines, usable = difference_envelope(op, y, c, Box(low, high))
    f, slack = _exact(op)
    rows: list[list[tuple[Fraction, Fraction]]] = []
    of_y, of_c = points(y.lower, y.upper, seed, 3), points(c.lower, c.upper, seed + 1, 3)
    for ys, cs, there in zip(of_y, of_c, usable.flatten().tolist(), strict=True):
        values = [(Fraction(v), f(v)) for v in ys], [(Fraction(v), f(v)) for v in cs]
        rows.append([(t - s, ft - fs) for s, fs in values[0][::2] for t, ft in values[1]] if there else [])
    _enclosed(lines, f"difference envelope of {op}", rows, 2 * slack)


def _fractions(x: Tensor) -> list[Fraction]:
    return [Fraction(v) for v in x.flatten().tolist()]
