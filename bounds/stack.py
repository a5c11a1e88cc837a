"""Pairs of inputs, each from a set of its own."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Shape
from bounds.region import Box, Region
from bounds.rounding import down

__all__ = ["Stack", "stacked"]


def stacked(first: Region, second: Region) -> Region:
    """All pairs of a point of `first` and one of `second`, as one set of shape `(2, *shape)`. Two boxes give a box.

    Raises: ValueError: points of the two have different shapes.
    """
    if first.shape != second.shape:
        raise ValueError(f"a point of shape {first.shape} and one of {second.shape} make no pair")
    if isinstance(first, Box) and isinstance(second, Box):
        return _paired(first, second)
    return Stack(first, second)


def _paired(first: Box, second: Box) -> Box:
    return Box(torch.stack([first.lower, second.lower]), torch.stack([first.upper, second.upper]))


@dataclass(frozen=True, slots=True, eq=False)
class Stack(Region):
    """Pairs of a point of `first` and a point of `second`, independent of one another. Guarantees: as each of the two."""

    first: Region
    second: Region

    @property
    def shape(self) -> Shape:
        return (2, *self.first.shape)

    def box(self) -> Box:
        return _paired(self.first.box(), self.second.box())

    def minimum(self, coefficients: Tensor) -> Tensor:
        return down(self.first.minimum(coefficients[:, 0]) + self.second.minimum(coefficients[:, 1]))

    def minimizer(self, coefficients: Tensor) -> Tensor:
        return torch.stack([self.first.minimizer(coefficients[:, 0]), self.second.minimizer(coefficients[:, 1])], dim=1)

    def project(self, x: Tensor) -> Tensor:
        return torch.stack([self.first.project(x[:, 0]), self.second.project(x[:, 1])], dim=1)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """The two sets' own samples, centre with centre, the others paired at random. `count` is at least 1."""
        first, second = self.first.sample(count, generator), self.second.sample(count, generator)
        order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(count - 1, generator=generator)])
        return torch.stack([first, second[order.to(second.device)]], dim=1)

    def inward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return torch.stack([self.first.inward(x[:, 0], dtype), self.second.inward(x[:, 1], dtype)], dim=1)

    def contains(self, x: Tensor) -> bool:
        return self.first.contains(x[0]) and self.second.contains(x[1])

    def to(self, dtype: torch.dtype, device: torch.device) -> Stack:
        return Stack(self.first.to(dtype, device), self.second.to(dtype, device))
