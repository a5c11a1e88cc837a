"""An input as a picture, where it is one: `HxW`, `1xHxW` or `3xHxW`, with or without a batch axis, or a square of pixels."""

from __future__ import annotations

import base64
import io
import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Floats", "as_image", "difference_png", "image_png"]

Floats = NDArray[np.float64]

_LEAST = 4
"""Pixels a side that a picture has at least: fewer are numbers."""


def as_image(values: Any) -> Floats | None:
    """The numbers as `(H, W)` or `(H, W, 3)`; None where they are no picture, or not all are numbers."""
    array = np.asarray(values, dtype=object)
    if array.size == 0 or any(not isinstance(entry, int | float) for entry in array.flat):
        return None
    x = array.astype(np.float64)
    while x.ndim > 1 and x.shape[0] == 1:
        x = x[0]
    if x.ndim == 1:
        side = math.isqrt(x.size)
        if side * side != x.size:
            return None
        x = x.reshape(side, side)
    elif x.ndim == 3:
        if x.shape[-1] != 3 and x.shape[0] == 3:
            x = np.moveaxis(x, 0, -1)
        if x.shape[-1] != 3:
            return None
    return x if x.ndim in (2, 3) and min(x.shape[:2]) >= _LEAST else None


def image_png(image: Floats, low: float, high: float) -> str:
    """The picture as a `data:` address, `low` black and `high` white; both halves of a pair are shown on one scale."""
    scaled = np.clip((image - low) / max(high - low, 1e-300), 0.0, 1.0)
    return _png(scaled if image.ndim == 3 else np.repeat(scaled[..., None], 3, axis=-1))


def difference_png(difference: Floats, largest: float) -> str:
    """A change of each pixel: blue is less, red is more, white none; of a coloured picture, its channels' mean."""
    flat = difference.mean(-1) if difference.ndim == 3 else difference
    t = np.clip(flat / max(largest, 1e-300), -1.0, 1.0)[..., None]
    less, more, none = np.array([0.13, 0.40, 0.67]), np.array([0.70, 0.09, 0.17]), np.ones(3)
    return _png(none + np.where(t < 0, -t * (less - none), t * (more - none)))


def _png(pixels: Floats) -> str:
    from matplotlib.image import imsave

    stream = io.BytesIO()
    imsave(stream, np.ascontiguousarray(pixels), format="png")
    return "data:image/png;base64," + base64.b64encode(stream.getvalue()).decode("ascii")
