"""Operators as steps of others. Trusted base."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["pooled", "recipe"]

_RECIPES = {
    "Div": "c = Reciprocal w; y = Mul x c",
    "Pow 2": "y = Mul x x",
    "Pow 3": "c = Mul x x; y = Mul c x",
    "Pow 0.5": "y = Sqrt x",
    "Gelu none": f"c = Mul x {0.5**0.5!r}; d = Erf c; e = Add d 1; f = Mul x e; y = Mul f 0.5",
    "Gelu tanh": f"c = Mul x x; d = Mul c x; e = Mul d 0.044715; f = Add x e; g = Mul f {(2 / math.pi) ** 0.5!r}; h = Tanh g; "
    "i = Add h 1; j = Mul x i; y = Mul j 0.5",
    "LayerNormalization": "c = MatMul x mean; d = Sub x c; e = Mul d d; f = MatMul e mean; g = Add f epsilon; h = Sqrt g; "
    "i = Reciprocal h; j = Mul d i; k = Mul j w; y = Add k b",
}
"""x, w and b are what a node reads, y what it computes; `mean` averages the last axis."""

Text = tuple[str, dict[str, Any]]


def recipe(kind: str, attributes: dict[str, Any], shape: tuple[int, ...], second: NDArray[Any] | None) -> Text:
    """The steps of an operator on a tensor of a shape, none where there is no recipe, and constants by name. `second`: its
    second operand, where that is a constant."""
    if kind == "Pow" and second is not None and second.size == 1:
        kind = f"Pow {second.item():g}"
    elif kind == "Gelu":
        kind = f"Gelu {attributes.get('approximate', b'none').decode()}"
    elif kind == "LayerNormalization" and attributes.get("axis", -1) not in (-1, len(shape) - 1):
        kind = ""
    mean = np.full((shape[-1], 1), 1 / shape[-1]) if shape else 1.0
    return _RECIPES.get(kind, ""), {"mean": mean, "epsilon": attributes.get("epsilon", 1e-5), "w": 1.0, "b": 0.0}


def pooled(rows: NDArray[np.int64], shape: tuple[int, ...]) -> Text:
    """The greatest of several elements each as maxima of pairs, `max(a, b) = b + max(a - b, 0)`, round by round. Shapes: `rows`
    `(several, size)` of places in x."""
    lines, given = ["s = Reshape x flat"], {"flat": np.array([-1]), "shape": np.array(shape)}
    stack, spare, size = "s", list[tuple[str, NDArray[Any]]](), rows.shape[1]
    while len(rows) > 1 or spare:
        half, k = len(rows) // 2, len(lines)
        if len(rows) > 1 and len(rows) % 2:
            spare.append((stack, rows[-1]))
        a, b = (stack, rows[:half] if half else rows[0]), (stack, rows[half : 2 * half]) if half else spare.pop(0)
        given |= {f"i{k}": a[1].ravel(), f"j{k}": b[1].ravel()}
        lines.append(
            f"a{k} = Gather {a[0]} i{k}; b{k} = Gather {b[0]} j{k}; gap{k - 1} = Sub a{k} b{k}; relu{k - 1} = Relu gap{k - 1}; "
            f"max{k - 1} = Add b{k} relu{k - 1}"
        )
        stack, rows = f"max{k - 1}", np.arange(a[1].size).reshape(-1, size)
    return "; ".join([*lines, f"y = Reshape {stack} shape"]), given
