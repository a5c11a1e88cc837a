"""What an operator states about itself. Domains consume these facts and never look at an operator's name.

There are three kinds. An `Affine` op is `y = sum_i L_i x_i + b`; an `Elementwise` op applies one real function to each
coordinate; a `Joint` op is any other function of one tensor, whose values depend on several entries each (products, softmax).
The last two are `Nonlinear`. Everything else (pooling by maximum, division, ...) is lowered to these by `bounds.build`.

Batching: a tensor of shape `s` in the graph is held as `(batch, *s)`. The shape `s` is the one the model's file states at batch
size one, leading 1 included; the batch in front of it is ours.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Any, ClassVar, Self

import torch
from torch import Tensor

__all__ = ["Affine", "Elementwise", "Ends", "Joint", "Lines", "Nonlinear", "Op", "Planes", "Shape"]

Shape = tuple[int, ...]

Ends = tuple[Tensor, Tensor]
"""Lower and upper ends of intervals."""


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
class Nonlinear(Op):
    """A function of one tensor that is not affine.

    `isotone`: whether what is stated of a smaller interval (its range, its difference quotients) is never wider, but for
    rounding. Where not, domains intersect what they find from tighter intervals with what they found from wider ones.
    """

    isotone: ClassVar[bool] = True

    @abstractmethod
    def image(self, lower: Tensor, upper: Tensor) -> Ends:
        """The function's range on each interval, rounded outward; infinite where it is not defined on all of it."""

    @abstractmethod
    def settled(self, lower: Tensor, upper: Tensor) -> Tensor:
        """True where the envelope is exact already, so that tighter bounds of the argument would gain nothing."""


@dataclass(frozen=True, eq=False)
class Elementwise(Nonlinear):
    """One non-linear real function, applied to each coordinate."""

    @abstractmethod
    def envelope(self, lower: Tensor, upper: Tensor) -> Lines:
        """Enclose the function between two lines on each interval.

        Guarantees: `al*t + bl <= f(t) <= au*t + bu` in real arithmetic, for every real `t` in `[lower, upper]`, with the floats
        returned. Raises nothing: bounds are finite and ordered by the caller's care.
        """

    @abstractmethod
    def steepness(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor]:
        """Least and greatest difference quotient `(f(s) - f(t)) / (s - t)` on each interval, rounded outward; may be
        infinite."""

    def free_slopes(self, lower: Tensor, upper: Tensor) -> tuple[Tensor, Tensor] | None:
        """Range of slopes `s` for which the line `s t` lies below the function on each interval; equal ends where the
        envelope's own lower line stays. None: no choice anywhere."""
        return None

    def defined(self, lower: Tensor, upper: Tensor) -> Tensor:
        """True where the function is defined on the whole interval. Where not, bounds are infinite and lines mean nothing."""
        return torch.ones_like(lower, dtype=torch.bool)


class Planes(ABC):
    """Two planes for each value of a `Joint` op: affine functions of its argument that enclose it on the box they were made
    for. They have a batch axis in front, of 1 or of the number of circuits."""

    @abstractmethod
    def below(self, a: Tensor) -> tuple[Tensor, Tensor]:
        """An affine form of the argument below `a . f`: by the lower plane under positive coefficients, the upper one under
        negative ones. Shapes: `(circuits, rows, *shape)` to `(circuits, rows, *before)` and the constant `(circuits, rows)`."""

    @abstractmethod
    def charge(self, size: Tensor) -> Tensor:
        """How far, at most, a form moves by rounding in `below`, for each unit of `|a|`. Shapes: `size` `(1, *before)`, bounds
        of `|argument|`, to `(batch, *shape)`."""

    @abstractmethod
    def gap(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Greatest distance of the two planes on a box, about. Shapes: `(batch, *before)` to `(batch, *shape)`."""

    @abstractmethod
    def pick(self, which: Tensor | None) -> Planes:
        """Those of some circuits by number; all for None. Shared ones stay shared."""


@dataclass(frozen=True, eq=False)
class Joint(Nonlinear):
    """A non-linear function of one tensor; each value depends on several entries of it."""

    @abstractmethod
    def planes(self, lower: Tensor, upper: Tensor, free: Tensor | None = None) -> Planes:
        """Enclose the function between two planes on each box, in real arithmetic, with the floats returned. `free`, in the
        range that `freedom` states, says which of several planes; zeros are the default."""

    @abstractmethod
    def difference_planes(self, y: Ends, c: Ends, d: Ends) -> Planes:
        """Enclose `f(y + d) - f(y)` between two planes in `d`, for `y`, `y + d` and `d` in their boxes."""

    @abstractmethod
    def difference_image(self, y: Ends, c: Ends, d: Ends) -> Ends:
        """Enclose `f(y + d) - f(y)`, for `y`, `y + d` and `d` in their boxes, rounded outward."""

    @abstractmethod
    def blame(self, loss: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
        """About how much of what planes lose on each value is gone where an entry of the argument is known. A guide for
        splitting, and no more. Shapes: `loss` `(batch, *shape)` to `(batch, *before)`."""

    def freedom(self, lower: Tensor, upper: Tensor) -> Ends | None:
        """The range of `free`; equal ends where there is no choice. None: no choice anywhere."""
        return None
