"""Convolution: the adjoint by phases is the transposed convolution, and it is the adjoint."""

from __future__ import annotations

import itertools

import pytest
import torch

from bounds.ops.conv import Conv, Phases


@pytest.mark.parametrize("stride", [(1, 1), (2, 2), (3, 1), (4, 2)])
def test_phases_are_the_transposed_convolution(stride: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(0)
    sizes = itertools.product((1, 2, 3, 5), (1, 4), (0, 1, 2), (0, 1), (7, 8), (6, 9))
    for tall, wide, above, beside, height, width in sizes:
        weight = torch.randn(3, 2, tall, wide, generator=generator, dtype=torch.float64)
        space, padding = (height, width), (above, beside)
        conv = Conv(weight, None, stride, padding, (1, 1), 1, space)
        shape = conv.linear(torch.zeros(1, 1, 2, *space, dtype=torch.float64)).shape[2:]
        a = torch.randn(2, *shape, generator=generator, dtype=torch.float64)
        by_phases = Phases.of(weight, stride, padding, space).apply(a)
        torch.testing.assert_close(by_phases, conv._transposed(a), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("out", "channels", "stride", "groups"), [(4, 6, 1, 1), (6, 4, 1, 1), (4, 6, 2, 1), (4, 6, 2, 2)])
def test_adjoint(dtype: torch.dtype, out: int, channels: int, stride: int, groups: int) -> None:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(out, channels // groups, 3, 3, generator=generator, dtype=dtype)
    conv = Conv(weight, None, (stride, stride), (1, 1), (1, 1), groups, (8, 7))
    x = torch.randn(5, 1, channels, 8, 7, generator=generator, dtype=dtype)
    y = conv.linear(x)
    a = torch.randn(y.shape, generator=generator, dtype=dtype)
    (back,) = conv.adjoint(a)
    assert back.shape == x.shape
    torch.testing.assert_close((a * y).flatten(1).sum(1), (back * x).flatten(1).sum(1), rtol=1e-3, atol=1e-4)


def test_a_kernel_of_zeros() -> None:
    x = Phases.of(torch.zeros(3, 2, 2, 2), (2, 2), (0, 0), (4, 4)).apply(torch.ones(1, 3, 2, 2))
    assert x.shape == (1, 2, 4, 4) and not x.any()
