"""Tensors of numbers: a style and a seed are drawn, the rest follows from them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from hypothesis import strategies as st
from torch import Tensor

from bounds.ops.base import Shape

__all__ = ["STYLES", "Style", "layers", "tensors"]

Style: TypeAlias = Literal["halves", "sparse", "gaussian", "cancelling"]

STYLES: tuple[Style, ...] = ("halves", "sparse", "gaussian", "cancelling")
"""Small multiples of 1/2; the same, mostly zero; float32 numbers of a normal distribution; neighbours that cancel at size
1000."""


@st.composite
def tensors(draw: st.DrawFn, shape: Shape, styles: Sequence[Style] = STYLES) -> Tensor:
    """A float64 tensor of float32 numbers. Shrinks towards small multiples of 1/2."""
    style = draw(st.sampled_from(styles))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 99)))
    small = torch.randint(-4, 5, shape, generator=generator).double() / 2
    if style == "sparse":
        return small * (torch.rand(shape, generator=generator) < 0.4)
    if style == "gaussian":
        return torch.randn(shape, generator=generator).double()
    if style == "cancelling":
        sign = 1 - 2 * (torch.arange(math.prod(shape)) % 2).double().reshape(shape)
        return 1000 * sign + small
    return small


@st.composite
def layers(draw: st.DrawFn, shape: Shape) -> tuple[Tensor, Tensor | None]:
    """The weight of a dense or convolutional layer, first axis its units, and a bias or none. Some units may be dead: weight 0,
    bias -1."""
    weight = draw(tensors(shape))
    bias = draw(st.none() | tensors(shape[:1]))
    if draw(st.integers(0, 3)) == 3:
        dead = torch.arange(shape[0]) % 2 == draw(st.integers(0, 1))
        weight = torch.where(dead.reshape(-1, *[1] * (len(shape) - 1)), 0.0, weight)
        bias = torch.where(dead, -1.0, torch.zeros(shape[0], dtype=torch.float64) if bias is None else bias)
    return weight, bias
