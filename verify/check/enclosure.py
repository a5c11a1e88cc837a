"""Intervals, lines and least values, all rounded outward: the pieces that proofs are put together from. Trusted base."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from verify.check.program import Affine, Array, Program, Relu

__all__ = ["FLOOR", "HUGE", "TINY", "Box", "Lines", "Region", "U", "chords", "closure", "gamma", "image", "magnitude", "meet"]
__all__ += ["minimum", "minus", "plus", "relu", "steepness", "triangle"]

Box = tuple[Array, Array]
U, TINY, HUGE, FLOOR = 2.0**-53, 1e-300, 1e100, 1e-200


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """`lower <= x <= upper`, and where given: within `radius` of `center` in L2; or the convex hull of `points` alone (the box
    is then theirs). Flat."""

    lower: Array
    upper: Array
    center: Array | None = None
    radius: float = math.inf
    points: Array | None = None


def gamma(n: int) -> float:
    return n * U / (1 - n * U) * (1 + 1e-9)


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """`al t + bl <= f(t) <= au t + bu`; `gap` is the most they are apart."""

    al: Array
    bl: Array
    au: Array
    bu: Array
    gap: Array


def image(op: Affine, boxes: Sequence[Box], offset: bool = True) -> Box:
    """The interval of an affine step's values, or of their differences (no `offset`)."""
    mid = [(l + u) / 2 for l, u in boxes]
    radius = [np.where(l < u, np.maximum(u - m, m - l) * (1 + 4 * U) + TINY, 0.0) for (l, u), m in zip(boxes, mid, strict=True)]
    bias = op.bias if offset else np.zeros(len(op.bias))
    size = op.forward(*(np.abs(m) + r for m, r in zip(mid, radius, strict=True)), size=True) + np.abs(bias)
    spread = op.forward(*radius, size=True) + 4 * gamma(op.terms + 2) * size + np.where(size > 0, TINY, 0.0)
    middle = op.forward(*mid) + bias
    return middle - spread, middle + spread


def relu(op: Relu, box: Box) -> Box:
    lower, upper = (np.where(end > 0, end, op.slope * end) for end in box)
    return (lower, upper) if op.slope == 0 else (np.nextafter(lower, -np.inf), np.nextafter(upper, np.inf))


def plus(a: Box, b: Box) -> Box:
    """Sums, outward; exact where one is zero."""
    ends = [
        np.where(x == 0, z, np.where(z == 0, x, np.nextafter(x + z, way)))
        for x, z, way in zip(a, b, (-np.inf, np.inf), strict=True)
    ]
    return ends[0], ends[1]


def minus(a: Box, b: Box) -> Box:
    return plus(a, (-b[1], -b[0]))


def meet(a: Box, b: Box) -> Box:
    return np.maximum(a[0], b[0]), np.minimum(a[1], b[1])


def steepness(slope: float, y: Box, c: Box) -> tuple[Array, Array]:
    """The least and the greatest slope of ReLU between any of `y` and any of `c`."""
    active, dead = np.minimum(y[0], c[0]) >= 0, np.maximum(y[1], c[1]) <= 0
    return np.where(active, 1.0, slope), np.where(dead & ~active, slope, 1.0)


def closure(program: Program, region: Region, sites: Sequence[str]) -> dict[str, Box]:
    """Intervals that hold each tensor's values whenever all upstream of it are in theirs."""
    known: dict[str, Box] = {program.input: (region.lower, region.upper)}
    for step in program.steps.values():
        boxes = [known[x] for x in step.inputs]
        known[step.name] = relu(step.op, boxes[0]) if isinstance(step.op, Relu) else image(step.op, boxes)
    return {site: known[site] for site in sites}


def magnitude(box: Box) -> Array:
    return np.maximum(np.abs(box[0]), np.abs(box[1]))


def triangle(slope: float, box: Box, lower_slope: Array | None) -> Lines:
    l, u = box
    stable, one_side = (l >= 0) | (u <= 0), np.where(l >= 0, 1.0, slope)
    width = np.where(stable, 1.0, u - l)
    au = np.where(stable, one_side, (u - slope * l) / width)
    over = np.maximum(slope * l - au * l, u - au * u) + 8 * U * (
        np.abs(au * l) + np.abs(slope * l) + np.abs(au * u) + np.abs(u)
    )
    free = np.where(u > -l, 1.0, slope) if lower_slope is None else np.clip(lower_slope, slope, 1.0)
    al, bu = np.where(stable, one_side, free), np.where(stable, 0.0, over + TINY)
    gap = np.where(stable, 0.0, np.maximum((au - al) * l, (au - al) * u) + bu)
    return Lines(al, np.zeros_like(l), au, bu, gap)


def chords(s0: Array, s1: Array, d: Box) -> Lines:
    """Lines around what lies between `s0 d` and `s1 d`: convex above and concave below, so chords over the interval; where `d`
    has a sign, the rays themselves."""
    l, u = d
    signed = (l >= 0) | (u <= 0)
    width = np.where(signed, 1.0, u - l)
    au = np.where(signed, np.where(l >= 0, s1, s0), (s1 * u - s0 * l) / width)
    al = np.where(signed, np.where(l >= 0, s0, s1), (s0 * u - s1 * l) / width)
    slack = 16 * U * (np.abs(l) + np.abs(u)) + TINY
    bu = np.where(signed, 0.0, np.maximum(s0 * l - au * l, s1 * u - au * u) + slack)
    bl = np.where(signed, 0.0, np.minimum(s1 * l - al * l, s0 * u - al * u) - slack)
    gap = np.maximum((au - al) * l, (au - al) * u) + bu - bl
    return Lines(al, bl, au, bu, gap)


def minimum(region: Region, box: Box, a: Array) -> Array:
    """Lower bounds of `a . x` over a region cut by a box. Shapes: `(rows, n)` to `(rows,)`."""
    n, slack = a.shape[1], 2 * gamma(2 * a.shape[1] + 4)
    size = np.abs(a)
    least = np.maximum(a, 0) @ box[0] + np.minimum(a, 0) @ box[1] - slack * (size @ magnitude(box))
    if region.center is not None:
        largest = np.maximum(size.max(1, initial=0.0), TINY)[:, None]
        norm = np.sqrt(((a / largest) ** 2).sum(1)) * largest[:, 0] * (1 + slack)
        ball = a @ region.center - region.radius * norm * (1 + 8 * U) - slack * (size @ np.abs(region.center))
        least = np.maximum(least, ball - 4 * U * (np.abs(ball) + region.radius * norm))
    if region.points is not None:
        hull = (a @ region.points.T).min(1) - slack * (size @ np.abs(region.points).max(0))
        least = np.maximum(least, hull)
    return least - n * TINY
