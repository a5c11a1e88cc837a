"""Laws of input sets."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from bounds.region import Ball, Box, Hull, Region
from bounds.stack import Stack
from bounds.tokens import Tokens

__all__ = [
    "check_box",
    "check_contains",
    "check_minimum",
    "check_moved",
    "check_parts",
    "check_project",
    "check_region",
    "coefficients",
]

_EPS = torch.finfo(torch.float64).eps


def check_region(region: Region, seed: int) -> None:
    """All of them."""
    check_minimum(region, seed)
    check_box(region, seed)
    check_contains(region, seed)
    check_project(region, seed)
    check_moved(region, seed)
    check_parts(region, seed)


def coefficients(region: Region, seed: int, rows: int = 12) -> Tensor:
    """Linear forms: random ones, units, zero, and very small and large ones."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.randn((rows, *region.shape), generator=generator, dtype=torch.float64)
    flat = a.flatten(1)
    flat[0] = 0
    flat[1] = torch.eye(flat.shape[1], dtype=torch.float64)[seed % flat.shape[1]]
    flat[2] *= 1e-170
    flat[3] *= 1e100
    flat[4] = flat[4].round()
    return flat.reshape(a.shape)


def _spill(region: Region) -> Tensor:
    """How far a sampled point may lie outside by rounding. Shape: the region's."""
    wide = torch.zeros(region.shape, dtype=torch.float64)
    if isinstance(region, Stack):
        return torch.stack([_spill(region.first), _spill(region.second)])
    return wide if isinstance(region, Box) else 16 * _EPS * (region.box().magnitude + 1e-300)


def _dot(a: Tensor, x: Tensor) -> list[list[Fraction]]:
    """Exact products, rows of `a` by rows of `x`."""
    left = [[Fraction(v) for v in row] for row in a.flatten(1).tolist()]
    right = [[Fraction(v) for v in row] for row in x.flatten(1).tolist()]
    return [[sum((p * q for p, q in zip(r, s, strict=True)), Fraction(0)) for s in right] for r in left]


def check_minimum(region: Region, seed: int) -> None:
    """Below every point of the set, exactly; and the true least value to 1e-9 for a box, an uncut ball, and a hull."""
    a = coefficients(region, seed)
    x = region.sample(12, torch.Generator().manual_seed(seed))
    x = torch.cat([x, region.minimizer(a)])
    least = region.minimum(a)
    spill = (a.abs() * _spill(region)).flatten(1).sum(1) * (1 + 1e-9)
    for i, (bound, products) in enumerate(zip(least.tolist(), _dot(a, x), strict=True)):
        below = Fraction(bound) - Fraction(float(spill[i]))
        assert below <= min(products), f"minimum: {bound} > {float(min(products))} for row {i}"
    true = _true_minimum(region, a)
    if true is not None:
        size = a.abs().flatten(1).sum(1) * (1 + region.box().magnitude.max())
        assert bool((true - least <= 1e-9 * size + 1e-300).all()), f"minimum: {least} is far below {true}"


def _true_minimum(region: Region, a: Tensor) -> Tensor | None:
    """In float64, another way than the region's own; None where there is no closed form."""
    flat = a.flatten(1)
    if isinstance(region, Stack):
        halves = [_true_minimum(half, a[:, i]) for i, half in enumerate((region.first, region.second))]
        return None if halves[0] is None or halves[1] is None else halves[0] + halves[1]
    if isinstance(region, Box):
        return torch.minimum(flat * region.lower.flatten(), flat * region.upper.flatten()).sum(1)
    if isinstance(region, Hull):
        loose = (flat.abs() * region.rounding.flatten()).sum(1)
        return torch.stack([(flat * p.flatten()).sum(1) for p in region.points]).amin(0) - loose
    if isinstance(region, Tokens):
        points = region.listed(0, region.count).flatten(1)
        return torch.stack([(flat * p).sum(1) for p in points]).amin(0) - region.radius * flat.abs().sum(1)
    assert isinstance(region, Ball)
    whole = (region.clip.lower <= region.center - region.radius) & (region.clip.upper >= region.center + region.radius)
    if not bool(whole.all()):
        return None
    largest = flat.abs().amax(1, keepdim=True).clamp_min(1e-300)
    norm = (flat / largest).square().sum(1).sqrt() * largest.squeeze(1)
    inside = (flat * region.center.flatten()).sum(1) - region.radius * norm
    return torch.maximum(inside, torch.minimum(flat * region.clip.lower.flatten(), flat * region.clip.upper.flatten()).sum(1))


def check_box(region: Region, seed: int) -> None:
    """The enclosing box encloses, and is no larger than it must be for a box or a hull."""
    box = region.box()
    x, spill = region.sample(40, torch.Generator().manual_seed(seed)), _spill(region)
    assert bool(((x >= box.lower - spill) & (x <= box.upper + spill)).all()), "box: a sample outside"
    if isinstance(region, Tokens):
        points = region.listed(0, region.count)
        slack = 4 * _EPS * (points.abs().amax(0) + 1)
        assert bool((box.lower >= points.amin(0) - region.radius - slack).all()), "box: too low"
        assert bool((box.upper <= points.amax(0) + region.radius + slack).all()), "box: too high"
    if isinstance(region, Hull):
        points = region.points
        slack = 4 * _EPS * (points.abs().amax(0) + 1)
        assert bool((box.lower >= points.amin(0) - region.rounding - slack).all()), "box: too low"
        assert bool((box.upper <= points.amax(0) + region.rounding + slack).all()), "box: too high"


def check_contains(region: Region, seed: int) -> None:
    """Samples, rounded inward, are inside where that can be done; what is clearly outside is not."""
    x = region.sample(8, torch.Generator().manual_seed(seed))
    for dtype in (torch.float64, torch.float32):
        for row in region.inward(x, dtype) if _promised(region, dtype) else []:
            assert region.contains(row), f"contains: not a sample rounded inward to {dtype}"
    beyond = region.box().upper.double() + 1
    assert not region.contains(beyond), "contains: a point outside"
    assert not region.contains(torch.full_like(beyond, torch.nan)), "contains: NaN"


def _promised(region: Region, dtype: torch.dtype) -> bool:
    """Whether a point rounded inward must be inside."""
    if isinstance(region, Stack):
        return _promised(region.first, dtype) and _promised(region.second, dtype)
    if isinstance(region, Box):
        return _has(region, dtype)
    if isinstance(region, Ball):
        return _has(region.clip, dtype) and region.radius > 1e-4
    if isinstance(region, Tokens):
        return True
    return isinstance(region, Hull) and dtype == torch.float64 and _loose(region)


def _has(box: Box, dtype: torch.dtype) -> bool:
    """Whether every side of the box holds a number of the dtype."""
    low, high = box.lower.to(dtype).double(), box.upper.to(dtype).double()
    return bool((((low >= box.lower) & (low <= box.upper)) | ((high >= box.lower) & (high <= box.upper))).all())


def _loose(hull: Hull) -> bool:
    return bool((hull.rounding > 1e-9 * (1 + hull.points.abs().amax(0))).all())


def check_project(region: Region, seed: int) -> None:
    """A projection lands inside, and points inside stay where they are."""
    generator = torch.Generator().manual_seed(seed)
    x = 3 * torch.randn((4, *region.shape), generator=generator, dtype=torch.float64)
    inside = region.project(x)
    slack = 1e-6 if isinstance(region, Hull | Stack) else 1e-12
    size = 1 + region.box().magnitude
    low, high = region.box().lower - slack * size, region.box().upper + slack * size
    assert bool(((inside >= low) & (inside <= high)).all()), "project: outside the box"
    if isinstance(region, Ball):
        step = (inside - region.center).flatten(1).norm(dim=1)
        cut = bool(((region.clip.lower > region.center) | (region.clip.upper < region.center)).any())
        assert bool((step <= region.radius * (1 + (1e-2 if cut else 1e-9)) + 1e-12).all()), "project: outside the ball"
    points = region.sample(4, generator)
    assert bool(((region.project(points) - points).abs() <= slack * size).all()), "project: moves a point of the set"


def check_moved(region: Region, seed: int) -> None:
    """In another precision the set is the same or larger."""
    moved = region.to(torch.float32, torch.device("cpu"))
    a = coefficients(region, seed).clamp(-1e30, 1e30).float()
    a[5] *= 1e-30
    least = moved.minimum(a).double()
    true = region.minimum(a.double())
    assert bool((least <= true + 1e-12 * true.abs() + 1e-300).all()), "to: the set has shrunk"


def check_parts(region: Region, seed: int) -> None:
    """Of parts in boxes: points there stay in the tightened boxes, and no form of theirs lies below its bound."""
    generator = torch.Generator().manual_seed(seed)
    box, x = region.box(), region.sample(40, generator)
    middle = box.lower + torch.rand((6, *region.shape), generator=generator, dtype=torch.float64) * (box.upper - box.lower)
    above = torch.rand((6, *region.shape), generator=generator) < 0.15
    below = (torch.rand((6, *region.shape), generator=generator) < 0.15) & ~above
    parts = Box(torch.where(above, middle, box.lower), torch.where(below, middle, box.upper))
    tight = region.tighten(parts)
    a = coefficients(region, seed)
    least = region.minimum_within(a.expand(6, *a.shape), parts)
    spill = _spill(region)
    assert bool((tight.lower >= parts.lower).all() and (tight.upper <= parts.upper).all()), "tighten: outside its box"
    for i in range(6):
        inside = ((x >= parts.lower[i]) & (x <= parts.upper[i])).flatten(1).all(1)
        held = ((x >= tight.lower[i] - spill) & (x <= tight.upper[i] + spill)).flatten(1).all(1)
        assert bool((held | ~inside).all()), "tighten: a point of the part is outside"
        for bound, form, products in zip(least[i].tolist(), a, _dot(a, x[inside]), strict=True):
            room = Fraction(float((form.abs() * spill).sum() * (1 + 1e-9)))
            assert all(Fraction(bound) - room <= product for product in products), "minimum_within: above a point of the part"
