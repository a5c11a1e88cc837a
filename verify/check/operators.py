"""What a step of a program computes: each operator encloses the values that it takes on intervals. Trusted base.

Operators work on flat vectors; axes before the last count points. Of numpy's and the C library's exp, tanh and erf it is
trusted that they are within `NEAR` of exact, relatively; of what a sigmoid makes of exp it follows within twice that.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from verify.check.interval import TINY, Array, Box, Rejected, gamma, middle

__all__ = ["NEAR", "Affine", "Curve", "Operator", "Product", "Relu", "Softmax"]

NEAR = 2.0**-48
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """`y = sum_i L_i x_i + bias`, each `L_i` a matrix `(m, n)`, a factor for each element `(n,)`, or `index` (`y = x[index]`,
    no position twice). `terms`: the most products other than 0 that are summed for one number, in either direction."""

    factors: tuple[Array, ...]
    bias: Array
    index: NDArray[np.int64] | None = None
    terms: int = field(init=False)

    def __post_init__(self) -> None:
        most = (max(np.count_nonzero(f, axis=k).max(initial=0) for k in (0, 1)) if f.ndim == 2 else 1 for f in self.factors)
        object.__setattr__(self, "terms", int(sum(most)) + 1)

    def forward(self, *x: Array, size: bool = False) -> Array:
        """`sum_i L_i x_i`, or `sum_i |L_i| x_i` with `size`. Shapes: `(..., n_i)` to `(..., m)`."""
        if self.index is not None:
            return x[0][..., self.index]
        parts = [np.abs(f) if size else f for f in self.factors]
        return sum((v @ f.T if f.ndim == 2 else v * f for f, v in zip(parts, x, strict=True)), np.zeros(len(self.bias)))

    def adjoint(self, a: Array, i: int, n: int) -> Array:
        """`L_i^T a`. Shapes: `(rows, m)` to `(rows, n)`."""
        if self.index is not None:
            out = np.zeros((len(a), n))
            out[:, self.index] = a
            return out
        return a @ self.factors[i] if self.factors[i].ndim == 2 else a * self.factors[i]

    def image(self, *boxes: Box, offset: bool = True) -> Box:
        """Values, or their differences (no `offset`)."""
        if self.index is not None:
            return boxes[0][0][..., self.index], boxes[0][1][..., self.index]
        mid, radius = zip(*map(middle, boxes), strict=True)
        bias = self.bias if offset else np.zeros(len(self.bias))
        size = self.forward(*(np.abs(m) + r for m, r in zip(mid, radius, strict=True)), size=True) + np.abs(bias)
        spread = self.forward(*radius, size=True) if any(r.any() for r in radius) else 0.0
        spread = spread + 4 * gamma(self.terms + 2) * size + np.where(size > 0, TINY, 0.0)
        center = self.forward(*mid) + bias
        return center - spread, center + spread


@dataclass(frozen=True, slots=True, eq=False)
class Relu:
    """`max(t, slope * t)`, `0 <= slope <= 1`."""

    slope: float

    def image(self, box: Box) -> Box:
        lower, upper = (np.where(end > 0, end, self.slope * end) for end in box)
        return (lower, upper) if self.slope == 0 else (np.nextafter(lower, -np.inf), np.nextafter(upper, np.inf))


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """A function of one number that rises everywhere; `Reciprocal`, which falls, of positive numbers alone."""

    kind: Literal["Tanh", "Sigmoid", "Erf", "Exp", "Sqrt", "Reciprocal"]

    def image(self, box: Box) -> Box:
        if self.kind in ("Sqrt", "Reciprocal") and not (box[0] >= (TINY if self.kind == "Reciprocal" else 0.0)).all():
            raise Rejected(f"a {self.kind} of what may not be positive")
        lower, upper = map(_CURVES[self.kind], box[::-1] if self.kind == "Reciprocal" else box)
        return lower - 2 * NEAR * np.abs(lower) - TINY, upper + 2 * NEAR * np.abs(upper) + TINY


_CURVES: dict[str, Any] = {"Tanh": np.tanh, "Exp": np.exp, "Sqrt": np.sqrt, "Reciprocal": np.reciprocal}
_CURVES["Sigmoid"] = lambda x: 1 / (1 + np.exp(-x))  # pyright: ignore[reportUnknownLambdaType]
_CURVES["Erf"] = lambda x: np.asarray(np.frompyfunc(math.erf, 1, 1)(x), np.float64)  # pyright: ignore[reportUnknownLambdaType]


@dataclass(frozen=True, slots=True, eq=False)
class Product:
    """Two tensors of these shapes multiplied, as matrices or (broadcast) number by number."""

    shapes: tuple[Shape, Shape]
    matrix: bool

    def forward(self, a: Array, b: Array) -> Array:
        rank = max(map(len, self.shapes))
        a, b = (
            x.reshape(*x.shape[:-1], *(1,) * (rank - len(shape)), *shape) for x, shape in zip((a, b), self.shapes, strict=True)
        )
        product = a @ b if self.matrix else a * b
        return product.reshape(*product.shape[: product.ndim - rank], -1)

    def image(self, a: Box, b: Box) -> Box:
        (m, r), (n, s) = middle(a), middle(b)
        spread = self.forward(np.abs(m), s) + self.forward(r, np.abs(n) + s)
        size = self.forward(np.abs(m) + r, np.abs(n) + s)
        spread += 8 * gamma((self.shapes[0][-1] if self.matrix else 1) + 4) * size + TINY
        center = self.forward(m, n)
        lower, upper = center - spread, center + spread
        return (np.maximum(lower, 0.0), upper) if a is b and not self.matrix else (lower, upper)


@dataclass(frozen=True, slots=True, eq=False)
class Softmax:
    """`exp(x_i) / sum_j exp(x_j)` along an axis of a tensor of a shape; those `masked` count as minus infinity."""

    shape: Shape
    axis: int
    masked: NDArray[np.bool_]

    def image(self, box: Box) -> Box:
        axis = self.axis - len(self.shape)
        l, u, there = (np.moveaxis(x.reshape(*x.shape[:-1], *self.shape), axis, -1) for x in (*box, ~self.masked.ravel()))
        top = np.where(there, u, -np.inf).max(-1, keepdims=True)  # any number will do, the same for all of a row
        low = np.where(there, np.exp(np.nextafter(l - top, -np.inf)) * (1 - 2 * NEAR), 0.0)
        high = np.where(there, np.exp(np.nextafter(u - top, np.inf)) * (1 + 2 * NEAR) + TINY, 0.0)
        slack = 4 * gamma(l.shape[-1] + 4)
        lower = low / high.sum(-1, keepdims=True) * (1 - slack) - TINY
        upper = high / low.sum(-1, keepdims=True) * (1 + slack)
        ends = (np.moveaxis(end, -1, axis).reshape(box[0].shape) for end in (lower, upper))
        return np.maximum(next(ends), 0.0), np.minimum(next(ends), 1.0)


Operator: TypeAlias = Affine | Relu | Curve | Product | Softmax
