"""Whether one input set lies inside another, where that can be shown."""

from __future__ import annotations

import torch

from bounds.region import Ball, Box, Hull, Region
from bounds.tokens import Tokens

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
    if isinstance(outer, Tokens) and isinstance(inner, Tokens):
        return _fewer(outer, inner)
    return torch.equal(box.lower, box.upper) and outer.contains(box.lower)


def _inside(inner: Box, outer: Box) -> bool:
    return bool(((outer.lower <= inner.lower) & (inner.upper <= outer.upper)).all())


def _fewer(outer: Tokens, inner: Tokens) -> bool:
    """Whether `inner` has no sequence that `outer` lacks: it is cut from the same combinations, or a list of the same."""
    if inner.radius > outer.radius or inner.bag != outer.bag or inner.allowed.shape != outer.allowed.shape:
        return False
    if outer.sequences is None:
        return bool((outer.allowed | ~inner.allowed).all())
    return inner.sequences is not None and torch.equal(inner.sequences, outer.sequences)
