"""Regions, lines and least values, all rounded outward: the pieces that proofs are put together from. Trusted base."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from verify.check.interval import TINY, Array, Box, U, gamma, magnitude
from verify.check.operators import NEAR, Curve, Relu

__all__ = ["FLOOR", "Lines", "Region", "bent", "chords", "minimum", "steepness", "triangle"]

FLOOR = 1e-200


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """`lower <= x <= upper`, and where given: within `radius` of `center` in L2; or the convex hull of `points` alone (the box
    is then theirs). Flat."""

    lower: Array
    upper: Array
    center: Array | None = None
    radius: float = math.inf
    points: Array | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Lines:
    """`al t + bl <= f(t) <= au t + bu`; `gap` is the most they are apart."""

    al: Array
    bl: Array
    au: Array
    bu: Array
    gap: Array


def steepness(op: Relu | Curve, y: Box, c: Box) -> tuple[Array, Array]:
    """The least and the greatest slope between any of `y` and any of `c`."""
    l, u = np.minimum(y[0], c[0]), np.maximum(y[1], c[1])
    if isinstance(op, Relu):
        active, dead = l >= 0, u <= 0
        return np.where(active, 1.0, op.slope), np.where(dead & ~active, op.slope, 1.0)
    half = 0.5 if op.kind == "Sigmoid" else 1.0
    near, far = np.maximum(np.maximum(l, -u), 0.0), np.maximum(np.abs(l), np.abs(u))
    return half * half * _rise(half * far)[0], half * half * _rise(half * near)[1]


def _rise(t: Array) -> Box:
    """The derivative of tanh, enclosed; it falls with the distance from 0."""
    e = np.exp(-2 * np.abs(t))
    found = 4 * e / (1 + e) ** 2
    return np.maximum(found * (1 - 4 * NEAR) - TINY, 0.0), found * (1 + 4 * NEAR) + TINY


def bent(kind: str, box: Box) -> Lines:
    """Lines around tanh, or the sigmoid `(1 + tanh(t / 2)) / 2`. Of some slopes the one that leaves the least area is taken;
    the line is moved until it holds, whatever the slope."""
    half = 0.5 if kind == "Sigmoid" else 1.0
    l, u = half * box[0], half * box[1]
    mid, width = (l + u) / 2, np.where(l < u, u - l, 1.0)
    steep = [_rise(t)[0] for t in (l, u, mid, np.maximum(np.maximum(l, -u), 0.0))]
    least, most = np.minimum(steep[0], steep[1]), steep[3]
    slopes: list[Array] = [np.where(l < u, (np.tanh(u) - np.tanh(l)) / width, steep[2]), steep[2]]
    slopes += [least + k / 6 * (most - least) for k in range(7)]
    lower, upper = ([(a, _under(a, *ends)) for a in slopes] for ends in ((l, u), (-u, -l)))
    (al, bl), (au, bu) = (
        np.take_along_axis(np.array(found), np.argmax([a * at + b for a, b in found], 0)[None, None], 0)[0]
        for found, at in ((lower, mid), (upper, -mid))
    )
    al, bl, au, bu = half * half * al, half * bl, half * half * au, -half * bu
    if half < 1:
        bl, bu = np.nextafter(bl + half, -np.inf), np.nextafter(bu + half, np.inf)
    l, u = box
    return Lines(al, bl, au, bu, np.maximum((au - al) * l, (au - al) * u) + bu - bl)


def _under(a: Array, l: Array, u: Array) -> Array:
    """A lower bound of `tanh(t) - a t` on an interval. Left of 0 it is convex, so above any of its tangents; right of it
    concave, so above the lesser of its ends. By symmetry that bounds it from above on the mirrored interval."""
    m = np.minimum(u, 0.0)
    p = np.clip(-np.arctanh(np.sqrt(np.clip(1 - a, 0.0, 1 - U))), np.minimum(l, m), m)
    rise = _rise(p)
    tangent = np.tanh(p) - a * p + np.minimum((rise[1] - a) * (l - p), (rise[0] - a) * (m - p))
    r = np.maximum(l, 0.0)
    right = np.minimum(np.tanh(r) - a * r, np.tanh(u) - a * u)
    found = np.minimum(np.where(l < 0, tangent, np.inf), np.where(u >= 0, right, np.inf))
    return found - 8 * NEAR * (1 + (1 + a) * (np.abs(l) + np.abs(u)))


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
