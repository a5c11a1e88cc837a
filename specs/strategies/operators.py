"""Elementwise functions, and the intervals they are asked about."""

from __future__ import annotations

import math

import torch
from hypothesis import strategies as st
from torch import Tensor

from bounds.ops import (
    Clip,
    Erf,
    Exp,
    Gelu,
    JumpRelu,
    LeakyRelu,
    Log,
    Product,
    Reciprocal,
    Relu,
    Sigmoid,
    Sign,
    Silu,
    Softmax,
    Sqrt,
    Square,
    Tanh,
    TanhGelu,
    TopK,
)  # fmt: skip
from bounds.ops.base import Elementwise, Joint, Shape

__all__ = ["activations", "functions", "intervals", "joints", "piecewise"]

_SLOPES = (0.125, 0.0, 0.5, 1.0, 1.5, -0.5, -2.0)
_CLIPS = ((0.0, 6.0), (-1.0, 1.0), (-0.5, 2.0), (0.0, math.inf), (-math.inf, 1.0), (1.0, 1.25))

_JUMPS = (0.0, 1.25, -0.5)

_SPECIAL = (-1.0, -0.5, 0.0, 1.0, 1.25, 2.0, 6.0)
"""Kinks of those clips and jumps, and 0: ends and points that intervals have now and then."""


_LEAKY = st.builds(LeakyRelu, st.sampled_from(_SLOPES))
_CLIP = st.sampled_from(_CLIPS).map(lambda ends: Clip(*ends))


def piecewise() -> st.SearchStrategy[Elementwise]:
    """Continuous operators made of straight pieces; ReLU first."""
    return st.one_of(st.builds(Relu), _LEAKY, _CLIP)


def activations() -> st.SearchStrategy[Elementwise]:
    """Elementwise operators that grow no faster than their argument, with slopes below 0 and above 1, one-sided clips and jumps
    among them; ReLU first."""
    return st.one_of(
        st.builds(Relu),
        _LEAKY,
        st.builds(Sigmoid),
        st.builds(Tanh),
        _CLIP,
        st.builds(Sign),
        st.builds(Erf),
        st.builds(Gelu),
        st.builds(TanhGelu),
        st.builds(Silu),
        st.sampled_from(_JUMPS).map(lambda jump: JumpRelu(torch.tensor(jump, dtype=torch.float64))),
    )


def functions() -> st.SearchStrategy[Elementwise]:
    """Every elementwise operator there is."""
    return st.one_of(
        activations(), st.builds(Square), st.builds(Exp), st.builds(Log), st.builds(Sqrt), st.builds(Reciprocal),
    )  # fmt: skip


@st.composite
def joints(draw: st.DrawFn) -> Joint:
    """Operators whose values depend on several entries: small products, the largest few, softmax with masks and without."""
    if draw(st.integers(0, 4)) == 4:
        return TopK(draw(st.integers(1, 4)))
    if draw(st.booleans()):
        return Product(*(draw(st.integers(1, 3)) for _ in range(3)))
    if draw(st.booleans()):
        return Softmax()
    absent = torch.rand((2, draw(st.integers(1, 5))), generator=torch.Generator().manual_seed(draw(st.integers(0, 99)))) < 0.4
    absent[:, draw(st.integers(0, absent.shape[1] - 1))] = False
    return Softmax(absent)


@st.composite
def intervals(draw: st.DrawFn, shape: Shape = (16,), dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor]:
    """Ends of intervals of every kind: on one side of 0, across it, ending at 0, points, one float wide, wide and far out;
    some end exactly at kinks of `activations`."""
    generator = torch.Generator().manual_seed(draw(st.integers(0, 9999)))
    size = draw(st.sampled_from((1.0, 10.0, 1e-3, 100.0, 1e-6, 1e4)))
    ends = size * torch.randn((2, *shape), generator=generator, dtype=dtype)
    if draw(st.booleans()):
        ends = (4 * ends).round() / 4  # kinks and ends of intervals coincide
    lower, upper = ends.amin(0), ends.amax(0)
    kind = torch.randint(0, 8, shape, generator=generator)
    upper = torch.where(kind == 0, lower, upper)
    upper = torch.where(kind == 1, torch.nextafter(lower, torch.full_like(lower, torch.inf)), upper)
    upper = torch.where((kind == 2) & (lower < 0), 0.0, upper)
    lower = torch.where((kind == 3) & (upper > 0), 0.0, lower)
    exact = torch.tensor(_SPECIAL, dtype=dtype)[torch.randint(0, len(_SPECIAL), (2, *shape), generator=generator)]
    at = torch.randint(0, 6, shape, generator=generator) == 0
    lower, upper = torch.where(at, exact.amin(0), lower), torch.where(at, exact.amax(0), upper)
    return lower, torch.where(at & (kind < 4), lower, upper)
