"""Intervals with ends rounded outward. Trusted base.

Ends are float64 arrays, flat in their last axis; axes before it count points. A sum of n products in any order is within
`gamma(n)` of exact, relative to the sum of their absolute values (Higham 2002, section 3.1).
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["HUGE", "TINY", "Array", "Box", "Rejected", "U", "gamma", "magnitude", "meet", "middle", "minus", "plus", "sound"]

Array: TypeAlias = NDArray[np.float64]
Box: TypeAlias = tuple[Array, Array]
U, TINY, HUGE = 2.0**-53, 1e-300, 1e100


class Rejected(Exception):
    """The checker does not confirm; the message says why."""


def gamma(n: int) -> float:
    return n * U / (1 - n * U) * (1 + 1e-9)


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


def magnitude(box: Box) -> Array:
    return np.maximum(np.abs(box[0]), np.abs(box[1]))


def middle(box: Box) -> Box:
    """A point of each interval, and how far its ends are from it at most."""
    l, u = box
    mid = (l + u) / 2
    return mid, np.where(l < u, np.maximum(u - mid, mid - l) * (1 + 4 * U) + TINY, 0.0)


def sound(box: Box) -> Box:
    """The same. Raises: Rejected: an end that is not finite, or too large for what is known of rounding."""
    if not (np.abs(box[0]) < HUGE).all() or not (np.abs(box[1]) < HUGE).all():
        raise Rejected("an interval is not finite, or too large")
    return box
