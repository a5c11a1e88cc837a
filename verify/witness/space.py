"""Coordinates in which an attack moves through an input set: where it may start, and how it steps downhill and stays inside."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Shape
from bounds.region import Ball, Box, Hull, Region
from bounds.stack import Stack
from bounds.tokens import Tokens

__all__ = ["BallSpace", "BoxSpace", "HullSpace", "Space", "StackSpace", "TokenSpace", "space_of"]


class Space(ABC):
    """Coordinates `z` of a set's points. Shapes: `z` `(rows, *any)`, points `(rows, *shape)`."""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Shape of one point's coordinates."""

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` coordinates, the set's centre and corners among them."""

    @abstractmethod
    def locate(self, x: Tensor) -> Tensor:
        """Coordinates of points of the set."""

    @abstractmethod
    def point(self, z: Tensor) -> Tensor:
        """The points; differentiable."""

    @abstractmethod
    def step(self, z: Tensor, gradient: Tensor, size: float) -> Tensor:
        """Move against `gradient` by `size` of the set's width and come back into the set. Rows are independent."""


def _flat_norm(x: Tensor, order: float) -> Tensor:
    norm = x.flatten(1).norm(p=order, dim=1).clamp_min(torch.finfo(x.dtype).tiny)
    return norm.reshape(-1, *[1] * (x.dim() - 1))


@dataclass(frozen=True, slots=True, eq=False)
class BoxSpace(Space):
    """A box, in its own coordinates; steps along the sign of the gradient, in proportion to each side."""

    box: Box

    @property
    def shape(self) -> Shape:
        return self.box.shape

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.box.sample(count, generator)

    def locate(self, x: Tensor) -> Tensor:
        return self.box.project(x)

    def point(self, z: Tensor) -> Tensor:
        return z

    def step(self, z: Tensor, gradient: Tensor, size: float) -> Tensor:
        return self.box.project(z - size * (self.box.upper - self.box.lower) * gradient.sign())


@dataclass(frozen=True, slots=True, eq=False)
class BallSpace(Space):
    """A cut ball, in its own coordinates; steps of one length along the gradient, less what the cut forbids."""

    ball: Ball

    @property
    def shape(self) -> Shape:
        return self.ball.shape

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.ball.sample(count, generator)

    def locate(self, x: Tensor) -> Tensor:
        return self.ball.project(x)

    def point(self, z: Tensor) -> Tensor:
        return z

    def step(self, z: Tensor, gradient: Tensor, size: float) -> Tensor:
        stuck = ((z <= self.ball.clip.lower) & (gradient > 0)) | ((z >= self.ball.clip.upper) & (gradient < 0))
        gradient = gradient.masked_fill(stuck, 0)
        return self.ball.project(z - 2 * self.ball.radius * size * gradient / _flat_norm(gradient, 2))


@dataclass(frozen=True, slots=True, eq=False)
class HullSpace(Space):
    """A convex hull, in the weights of its points; steps by projected gradient on the simplex."""

    hull: Hull

    @property
    def shape(self) -> Shape:
        return (len(self.hull.points),)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        n = len(self.hull.points)
        w = -torch.rand((count, n), generator=generator, dtype=torch.float64).clamp_min(1e-300).log()
        w = w.pow(torch.linspace(1, 6, count, dtype=torch.float64).unsqueeze(1)).clamp_min(1e-300)
        w[:1] = 1
        corners = torch.arange(min(n, count - 1))
        w[corners + 1] = torch.eye(n, dtype=torch.float64)[corners]
        return (w / w.sum(1, keepdim=True)).to(self.hull.points)

    def locate(self, x: Tensor) -> Tensor:
        return self.hull.weights(x).to(self.hull.points)

    def point(self, z: Tensor) -> Tensor:
        return (z @ self.hull.points.flatten(1)).reshape(len(z), *self.hull.shape)

    def step(self, z: Tensor, gradient: Tensor, size: float) -> Tensor:
        gradient = gradient - gradient.mean(1, keepdim=True)
        return _onto_simplex(z - math.sqrt(2) * size * gradient / _flat_norm(gradient, 2))


@dataclass(frozen=True, slots=True, eq=False)
class StackSpace(Space):
    """Pairs of points, in the coordinates of both, flat and one after the other."""

    first: Space
    second: Space

    @property
    def shape(self) -> Shape:
        return (math.prod(self.first.shape) + math.prod(self.second.shape),)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        second = self.second.sample(count, generator)
        order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(count - 1, generator=generator)])
        return self._joined(self.first.sample(count, generator), second[order.to(second.device)])

    def locate(self, x: Tensor) -> Tensor:
        return self._joined(self.first.locate(x[:, 0]), self.second.locate(x[:, 1]))

    def point(self, z: Tensor) -> Tensor:
        first, second = self._parts(z)
        return torch.stack([self.first.point(first), self.second.point(second)], dim=1)

    def step(self, z: Tensor, gradient: Tensor, size: float) -> Tensor:
        steps = zip((self.first, self.second), self._parts(z), self._parts(gradient), strict=True)
        return self._joined(*(space.step(part, g, size) for space, part, g in steps))

    @staticmethod
    def _joined(first: Tensor, second: Tensor) -> Tensor:
        return torch.cat([first.flatten(1), second.flatten(1)], dim=1)

    def _parts(self, z: Tensor) -> tuple[Tensor, Tensor]:
        n = math.prod(self.first.shape)
        return z[:, :n].reshape(-1, *self.first.shape), z[:, n:].reshape(-1, *self.second.shape)


@dataclass(frozen=True, slots=True, eq=False)
class TokenSpace(Space):
    """Token sequences: coordinates say how much of each token there is, and the nearest sequence is the point; beside them how
    far the point lies off it, in radii. Gradients pass through as if the coordinates were the point."""

    tokens: Tokens

    @property
    def shape(self) -> Shape:
        return (2, *self.tokens.shape)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return self.locate(self.tokens.sample(count, generator))

    def locate(self, x: Tensor) -> Tensor:
        near = self.tokens.nearest(x)
        off = (x - near) / self.tokens.radius if self.tokens.radius else torch.zeros_like(x)
        return torch.stack([near, off.clamp(-1, 1)], dim=1)

    def point(self, z: Tensor) -> Tensor:
        soft, off = z.unbind(1)
        near = self.tokens.nearest(soft.detach())
        return near + (soft - soft.detach()) + self.tokens.radius * off

    def step(self, z: Tensor, gradient: Tensor, size: float) -> Tensor:
        soft, off = z.unbind(1)
        down, turn = gradient.unbind(1)
        # A token that is half replaced is replaced: steps have to be able to cross that half.
        soft = (soft - 2 * size * down / _flat_norm(down, torch.inf)).clamp(0, max(1, self.tokens.positions))
        return torch.stack([soft, (off - 2 * size * turn.sign()).clamp(-1, 1)], dim=1)


def _onto_simplex(w: Tensor) -> Tensor:
    """The nearest convex weights to each row, by the sorted threshold. Source: Held, Wolfe & Crowder 1974."""
    ordered = w.sort(dim=1, descending=True).values
    excess = ordered.cumsum(1) - 1
    rank = torch.arange(1, w.shape[1] + 1, device=w.device, dtype=w.dtype)
    support = (ordered * rank > excess).sum(1, keepdim=True).clamp_min(1)
    return (w - excess.gather(1, support - 1) / support).clamp_min(0)


def space_of(region: Region) -> Space:
    """The coordinates for a region. Raises: TypeError for a kind of set that has none."""
    if isinstance(region, Box):
        return BoxSpace(region)
    if isinstance(region, Ball):
        return BallSpace(region)
    if isinstance(region, Hull):
        return HullSpace(region)
    if isinstance(region, Tokens):
        return TokenSpace(region)
    if isinstance(region, Stack):
        return StackSpace(space_of(region.first), space_of(region.second))
    raise TypeError(f"no attack moves through a {type(region).__name__}; add its coordinates in verify/witness/space.py")
