"""What an operator states about itself. Domains consume these facts and never look at an operator's name.

There are two kinds. An `Affine` op is `y = sum_i L_i x_i + b`; an `Elementwise` op applies one real function to each
coordinate. Everything else (pooling by maximum, clipping to a window, ...) is lowered to these two by `bounds.build`.

Batching: a tensor of shape `s` in the graph is held as `(batch, *s)`. The shape `s` is the one the model's file states at batch
size one, leading 1 included; the batch in front of it is ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, Self

import torch
from torch import Tensor

__all__ = ["Affine", "Elementwise", "Lines", "Op", "Shape"]

Shape = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Lines:
    """Two lines per coordinate, `al*t + bl <= f(t) <= au*t + bu` on the box they were made for."""

    al: Tensor
    bl: Tensor
    au: Tensor
    bu: Tensor


@dataclass(frozen=True, eq=False)
class Op(ABC):
    """A function of one or more tensors, evaluable in float32 and float64."""

    @abstractmethod
    def forward(self, *inputs: Tensor) -> Tensor:
        """Evaluate. Shapes: each input `(batch, *shape_i)`, the result `(batch, *shape)`."""

    def constants(self) -> list[Tensor]:
        """Its floating-point constants."""
        values = [getattr(self, field.name) for field in fields(self)]
        found = [value for value in values if isinstance(value, Tensor) and value.is_floating_point()]
        return found + [torch.tensor(value, dtype=torch.float64) for value in values if isinstance(value, float)]

    def to(self, dtype: torch.dtype, device: torch.device) -> Self:
        """The same op with its floating-point constants in `dtype` on `device`."""
        moved: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, Tensor):
                moved[field.name] = value.to(device, dtype if value.is_floating_point() else value.dtype)
        return replace(self, **moved) if moved else self


@dataclass(frozen=True, eq=False)
class Affine(Op):
    """`y = sum_i L_i x_i + b`, with the adjoint and the absolute value of each `L_i`."""

    @property
    @abstractmethod
    def terms(self) -> int:
        """The largest number of products added up in one entry of `linear` or of `adjoint`; 0 where no rounding happens."""

    @abstractmethod
    def linear(self, *inputs: Tensor) -> Tensor:
        """`sum_i L_i x_i`."""

    @abstractmethod
    def magnitude(self, *inputs: Tensor) -> Tensor:
        """`sum_i |L_i| x_i`, for non-negative `x_i`."""

    @abstractmethod
    def adjoint(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        """`L_i^T a` for each input `i`. Shapes: `(rows, *shape)` to `(rows, *shape_i)`."""

    def offset(self) -> Tensor | None:
        """`b`, of a shape that broadcasts to the output's, or None where it is zero."""
        return None

    def image(self, *inputs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor] | None:
        """An interval of the result that its inputs' intervals give beside the linear one, or None. Exact, or rounded
        outward."""
        return None

    def forward(self, *inputs: Tensor) -> Tensor:
        y, b = self.linear(*inputs), self.offset()
        return y if b is None else y + b


@dataclass(frozen=True, eq=False)
class Elementwise(Op):
    """One non-linear real function, applied to each coordinate."""

    @abstractmethod
    def image(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """The function's range on each interval, rounded outward."""

    @abstractmethod
    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        """Enclose the function between two lines on each interval.

        Guarantees: `al*t + bl <= f(t) <= au*t + bu` in real arithmetic, for every real `t` in `[lower, upper]`, with the floats
        returned. Raises nothing: bounds are finite and ordered by the caller's care.
        """

    @abstractmethod
    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        """True where the envelope is exact already, so that tighter bounds of the argument would gain nothing."""

    @abstractmethod
    def steepness(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Least and greatest difference quotient `(f(s) - f(t)) / (s - t)` on each interval, rounded outward; may be
        infinite."""

    def free_slopes(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor] | None:
        """Range of slopes `s` for which the line `s t` lies below the function on each interval; equal ends where the
        envelope's own lower line stays. None: no choice anywhere."""
        return None
