"""Whether one input set lies inside another, where that can be shown."""

from __future__ import annotations

import torch

from bounds.region import Ball, Box, Hull, Region

__all__ = ["includes"]


def includes(outer: Region, inner: Region) -> bool:
    """Whether `inner` is shown to lie in `outer`: by its enclosing box, as a smaller ball around the same centre, as the same
    hull, or as a single point. False proves nothing."""
    box = inner.box()
    if isinstance(outer, Box):
        return _inside(box, outer)
    if isinstance(outer, Ball) and isinstance(inner, Ball):
        near = torch.equal(outer.center, inner.center) and inner.radius <= outer.radius
        return near and _inside(inner.clip, outer.clip)
    if isinstance(outer, Hull) and isinstance(inner, Hull):
        return torch.equal(outer.points, inner.points) and bool((inner.rounding <= outer.rounding).all())
    return torch.equal(box.lower, box.upper) and outer.contains(box.lower)


def _inside(inner: Box, outer: Box) -> bool:
    return bool(((outer.lower <= inner.lower) & (inner.upper <= outer.upper)).all())
