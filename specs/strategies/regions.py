"""Input sets and patch boxes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from hypothesis import strategies as st
from torch import Tensor

from bounds.ops.base import Shape
from bounds.region import Ball, Box, Hull, Region
from bounds.rounding import down, up
from bounds.stack import stacked
from bounds.tokens import Tokens
from specs.strategies.numbers import tensors

__all__ = ["Kind", "balls", "boxes", "hulls", "pairs", "regions", "token_sets"]

Kind: TypeAlias = Literal["box", "ball", "hull", "tokens"]

_WIDTHS = (0.5, 0.0625, 0.0, 2.0)
_RADII = (0.5, 0.1, 2.0, 1e-3)


@st.composite
def boxes(draw: st.DrawFn, shape: Shape) -> Box:
    """Boxes of one width, or with coordinates that are points among others; some are points altogether."""
    center = draw(tensors(shape, ("halves", "gaussian", "sparse")))
    width = draw(st.sampled_from(_WIDTHS))
    share = _shares(draw, shape) if width else torch.ones(shape, dtype=torch.float64)
    return Box((center - width * share).float().double(), (center + width * share).float().double())


@st.composite
def balls(draw: st.DrawFn, shape: Shape) -> Ball:
    """Balls, whole or cut by a box, which may leave the centre out. No ball is empty after the cut."""
    center = draw(tensors(shape, ("halves", "gaussian", "sparse")))
    radius = draw(st.sampled_from(_RADII))
    extent = Box(down(center - radius), up(center + radius))
    if not draw(st.booleans()):
        return Ball(center, radius, extent)
    below, above = radius * _shares(draw, shape), radius * _shares(draw, shape)
    off = torch.arange(math.prod(shape)).reshape(shape) < draw(st.integers(0, 4))
    lower = torch.where(off, center + radius / 4, center - below)  # at most four coordinates: within radius / 2 of the centre
    return Ball(center, radius, Box(lower, torch.maximum(center + above, lower)).intersect(extent))


@st.composite
def hulls(draw: st.DrawFn, shape: Shape) -> Hull:
    """Hulls of one to four points, of exact points or as a float32 model receives them."""
    points = torch.stack([draw(tensors(shape, ("halves", "gaussian"))) for _ in range(draw(st.integers(1, 4)))])
    error = draw(st.sampled_from((0.0, torch.finfo(torch.float32).eps)))
    return Hull(points, error * points.abs().amax(0))


@st.composite
def token_sets(draw: st.DrawFn, shape: Shape) -> Tokens:
    """One-hot rows along the last axis: alternatives at each position, some of their combinations, or one row that adds up
    several; exact, or with some room around them."""
    vocabulary, random = shape[-1], torch.Generator().manual_seed(draw(st.integers(0, 99)))
    positions = math.prod(shape) // vocabulary
    bag = positions == 1 and draw(st.booleans())
    positions = 2 if bag else positions
    allowed = torch.rand((positions, vocabulary), generator=random) < draw(st.sampled_from((0.5, 1.0, 0.2)))
    allowed[torch.arange(positions), torch.randint(0, vocabulary, (positions,), generator=random)] = True
    radius = draw(st.sampled_from((0.0, 0.125, 0.0, 0.7)))
    whole = Tokens(allowed, shape, radius)
    if not bag and draw(st.booleans()):
        return whole
    drawn = torch.rand((draw(st.integers(1, 5)), *allowed.shape), generator=random)
    sequences = torch.where(allowed, drawn, -1.0).argmax(2).unique(dim=0)
    return Tokens(torch.nn.functional.one_hot(sequences, vocabulary).bool().any(0), shape, radius, sequences, bag)


def regions(shape: Shape, kinds: Sequence[Kind] = ("box", "ball", "hull", "tokens")) -> st.SearchStrategy[Region]:
    """Input sets of one shape; the kinds wanted, simplest first."""
    known: dict[Kind, st.SearchStrategy[Region]] = {
        "box": boxes(shape),
        "ball": balls(shape),
        "hull": hulls(shape),
        "tokens": token_sets(shape),
    }
    return st.one_of([known[kind] for kind in kinds])


def pairs(shape: Shape) -> st.SearchStrategy[Region]:
    """Pairs of points of one shape, each from a set of its own."""
    return st.builds(stacked, regions(shape), regions(shape))


def _shares(draw: st.DrawFn, shape: Shape) -> Tensor:
    """How much of a radius each coordinate has: all the whole, or each 0, a half or the whole."""
    seed = draw(st.integers(0, 99))
    if seed == 0:
        return torch.ones(shape, dtype=torch.float64)
    return torch.randint(0, 3, shape, generator=torch.Generator().manual_seed(seed)).double() / 2
