"""The exact backend against the exact margin, over queries that bounds leave open."""

from __future__ import annotations

import random

import torch
from torch import Tensor

from bounds.backends.milp import Milp
from bounds.build import Builder
from bounds.gates import Gate, Gates
from bounds.ops import LeakyRelu
from bounds.query import Query
from bounds.region import Box, Hull, Region
from specs.agreement import LogitDifference, Logits, Top1
from specs.margins import agreement_margins

__all__ = ["check_program", "open_case"]


def check_program(query: Query, mask: Tensor, exact: float, reach: float = 1e-5) -> None:
    """The bound is never above the exact margin, but for the reference's own 1e-7, and reaches it to within `reach`; both
    relative to the margin's size. Shapes: `mask` `(1, gates.size)`."""
    size = 1 + abs(exact)
    found = float(Milp(time_s=20).open(query).bound(mask).margin)
    assert found <= exact + 1e-7 * size, f"{found} is above the exact {exact}"
    assert found >= exact - reach * size, f"{found} is far below the exact {exact}"


def open_case(seed: int) -> tuple[Query, Tensor]:
    """A network of two hidden layers over a wide region of two inputs, most of its activations open, with its mask."""
    rng, generator = random.Random(seed), torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    width, outputs, slope = rng.choice([3, 4]), rng.choice([1, 2, 3]), rng.choice([0.0, 0.0, 0.25, -0.5, 1.5])
    builder = Builder("x", (1, 2))
    builder.dense("x", normal(width, 2), normal(width) / 2, name="h1")
    builder.elementwise(LeakyRelu(slope), "h1", name="r1")
    builder.dense("r1", normal(width, width), normal(width) / 2, name="h2")
    builder.elementwise(LeakyRelu(slope), "h2", name="r2")
    builder.dense("r2", normal(outputs, width), normal(outputs), name="y")
    gates: list[Gate] = []
    for tensor in ("r1", "r2"):
        low = normal(1, width).clamp(-1, 0) * rng.choice([0.0, 1.0])
        group = torch.arange(width).reshape(1, width)
        gates.append(Gate(tensor, group, width, Box(low, low + torch.rand((1, width), generator=generator).double())))
    region: Region = Box(torch.full((1, 2), -1.0, dtype=torch.float64), torch.ones((1, 2), dtype=torch.float64))
    if rng.random() < 0.25:
        region = Hull(normal(4, 1, 2), torch.full((1, 2), 1e-6, dtype=torch.float64))
    agreements = [Logits(tolerance=1.0), Logits(tolerance=1.0, norm="l1")]
    if outputs > 1:
        agreements += [LogitDifference(target=0, against=1, tolerance=1.0)]
    margins = agreement_margins(rng.choice(agreements), (1, outputs))
    if outputs > 2 and rng.random() < 0.5:
        margins = agreement_margins(Top1(tolerance=0.0), (1, outputs), list(range(outputs)))
    mask = torch.rand((1, 2 * width), generator=generator) < 0.7
    return Query(builder.build("y"), Gates(tuple(gates)), region, margins), mask
