"""Finite sets of token sequences as one-hot rows, and what lies within a distance of them in every coordinate."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.ops.base import Shape
from bounds.region import Box, Region
from bounds.rounding import down, gamma, tiny, up

__all__ = ["Tokens"]

_LISTED = 4096
"""With at most so many sequences a linear form is looked at in each of them; of more, over all that their tokens allow."""


@dataclass(frozen=True, slots=True, eq=False)
class Tokens(Region):
    """Sequences of one token a position, each written as a row of zeros and a one; as a `bag`, their rows added up.

    `allowed` `(positions, vocabulary)` says which tokens each position may hold, all combinations of them; with `sequences`
    (long, `(count, positions)`) only those. Every coordinate may lie up to `radius` off. Shapes: `input_shape` has
    `positions * vocabulary` elements, of a bag (which states its sequences) `vocabulary`.

    Guarantees: `minimum` is exact but for rounding; over more than 4,096 sequences, over all combinations of their tokens.
    """

    allowed: Tensor
    input_shape: Shape
    radius: float = 0.0
    sequences: Tensor | None = None
    bag: bool = False
    dtype: torch.dtype = torch.float64

    @property
    def shape(self) -> Shape:
        return self.input_shape

    @property
    def positions(self) -> int:
        return self.allowed.shape[0]

    @property
    def vocabulary(self) -> int:
        return self.allowed.shape[1]

    @property
    def count(self) -> int:
        """How many sequences there are."""
        return math.prod(self.allowed.sum(1).tolist()) if self.sequences is None else len(self.sequences)

    def listed(self, start: int, stop: int) -> Tensor:
        """Sequences by number, as inputs. Shape: `(stop - start, *shape)`."""
        if self.sequences is not None:
            return self.written(self.sequences[start:stop])
        rest, ids = torch.arange(start, stop, device=self.allowed.device), list[Tensor]()
        for row in self.allowed.flip(0):
            options = row.nonzero().squeeze(1)
            ids.append(options[rest % len(options)])
            rest = rest // len(options)
        return self.written(torch.stack(ids[::-1], dim=1))

    def written(self, ids: Tensor) -> Tensor:
        """Token numbers as inputs. Shapes: `(rows, positions)` to `(rows, *shape)`."""
        rows = torch.nn.functional.one_hot(ids, self.vocabulary).to(self.dtype)
        return (rows.sum(1) if self.bag else rows).reshape(-1, *self.shape)

    def box(self) -> Box:
        if self.sequences is not None and self.bag:
            points = self.listed(0, self.count)
            low, high = points.amin(0), points.amax(0)
        else:
            rows = self.allowed.to(self.dtype)
            low, high = (rows * (rows.sum(1, keepdim=True) == 1)).reshape(self.shape), rows.reshape(self.shape)
        return self._widened(low, high)

    def _widened(self, low: Tensor, high: Tensor) -> Box:
        """Zeros and ones, or their sums, with the radius around them."""
        box = Box(low.double(), high.double())
        if self.radius:
            box = Box(down(box.lower - self.radius), up(box.upper + self.radius))
        return box.to(self.dtype, self.allowed.device)

    def minimum(self, coefficients: Tensor) -> Tensor:
        rows, possible = len(coefficients), self.allowed.unsqueeze(0)
        return self._charged(coefficients.unsqueeze(0), self._least(coefficients.reshape(1, rows, -1), possible)).squeeze(0)

    def minimum_within(self, coefficients: Tensor, box: Box) -> Tensor:
        least = Region.minimum_within(self, coefficients, box)
        if self.bag:
            return least
        possible = self.possible(box)
        some = possible.any(2).all(1)  # a part without a token at some position is empty, and anything holds there
        possible = torch.where(some[:, None, None], possible, self.allowed)
        return torch.maximum(least, self._charged(coefficients, self._least(coefficients.flatten(2), possible)))

    def _least(self, a: Tensor, possible: Tensor) -> Tensor:
        """Least sums over the tokens possible in each part. Shapes: `(parts, rows, size)`, `(parts, positions, vocabulary)` to
        `(parts, rows)`."""
        scores = self._scores(a)
        if self.sequences is None or self.count > _LISTED:
            return torch.where(possible.unsqueeze(1), scores, torch.inf).amin(3).sum(2)
        place = torch.arange(self.positions, device=a.device)
        there = possible[:, place, self.sequences].all(2)
        there = there | ~there.any(1, keepdim=True)
        found = [
            torch.where(there.unsqueeze(1), part[:, :, place, self.sequences].sum(3), torch.inf).amin(2)
            for part in scores.split(max(1, (1 << 22) // (len(a) * self.sequences.numel())), dim=1)
        ]
        return torch.cat(found, dim=1)

    def _scores(self, a: Tensor) -> Tensor:
        """What each token at each position adds. Shapes: `(..., size)` to `(..., positions, vocabulary)`."""
        if self.bag:
            return a.unsqueeze(-2).expand(*a.shape[:-1], self.positions, self.vocabulary)
        return a.unflatten(-1, (self.positions, self.vocabulary))

    def _charged(self, a: Tensor, least: Tensor) -> Tensor:
        """Sums rounded down, less what the radius takes. Shapes: `(parts, rows, *shape)`, `(parts, rows)`."""
        flat = a.flatten(2).abs()
        slack = gamma(2 * flat.shape[2], a.dtype)
        most = self._scores(flat).amax(3).sum(2)
        spread = flat.sum(2) * (self.radius * (1 + slack)) if self.radius else torch.zeros_like(most)
        return down(least - up(spread * (1 + slack)) - slack * most * (1 + slack) - tiny(flat.shape[2], a.dtype))

    def possible(self, box: Box) -> Tensor:
        """The tokens that parts of the set in boxes may hold, as far as each position tells. Shapes: ends `(parts, *shape)`;
        `(parts, positions, vocabulary)` bool."""
        low, high = (end.double().reshape(len(end), *self.allowed.shape) for end in (box.lower, box.upper))
        ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=low.device)
        near = self._widened(ends, ends).to(torch.float64, low.device)
        zero, one = ((low <= near.upper[i]) & (high >= near.lower[i]) for i in (0, 1))
        return self.allowed & one & ((~zero).sum(2, keepdim=True) - (~zero).long() == 0)

    def tighten(self, box: Box) -> Box:
        if self.bag:
            return box
        possible = self.possible(box)
        if self.sequences is not None and self.count <= _LISTED:
            place = torch.arange(self.positions, device=possible.device)
            there = possible[:, place, self.sequences].all(2).to(self.dtype)
            rows = self.written(self.sequences).flatten(1)
            possible = (there @ rows > 0).unflatten(1, (self.positions, -1))
        ones = possible.to(self.dtype)
        low = ones * (ones.sum(2, keepdim=True) == 1)
        low[..., 0] = torch.where(possible.any(2), low[..., 0], 2 + 3 * self.radius)  # crossed where nothing is left
        return box.intersect(self._widened(low.reshape(box.lower.shape), ones.reshape(box.lower.shape)))

    def minimizer(self, coefficients: Tensor) -> Tensor:
        x = self.written(self._chosen(self._scores(coefficients.flatten(1))))
        return x if self.radius == 0 else x - self.radius * coefficients.sign()

    def _chosen(self, scores: Tensor) -> Tensor:
        """The sequence of least score for each row. Shapes: `(rows, positions, vocabulary)` to `(rows, positions)`."""
        if self.sequences is None:
            return torch.where(self.allowed, scores, torch.inf).argmin(2)
        place = torch.arange(self.positions, device=scores.device)
        return torch.stack([self.sequences[row[place, self.sequences].sum(1).argmin()] for row in scores])

    def nearest(self, x: Tensor) -> Tensor:
        """The sequence nearest to each row, as an input."""
        if not self.bag:
            return self.written(self._chosen(-self._scores(x.flatten(1).nan_to_num())))
        points = self.listed(0, self.count)
        return points[torch.cdist(x.flatten(1).to(points), points.flatten(1)).argmin(1)]

    def project(self, x: Tensor) -> Tensor:
        near = self.nearest(x)
        return near + (x - near).clamp(-self.radius, self.radius)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        device = self.allowed.device
        if self.sequences is not None:
            ids = self.sequences[torch.randint(0, len(self.sequences), (count,), generator=generator).to(device)]
        else:
            drawn = torch.rand((count, *self.allowed.shape), generator=generator).to(device)
            ids = torch.where(self.allowed, drawn, -1.0).argmax(2)
        off = 2 * torch.rand((count, *self.shape), generator=generator, dtype=self.dtype).to(device) - 1
        off[: count // 2] = off[: count // 2].sign()
        off[:1] = 0
        return self.written(ids) + self.radius * off

    def _inner(self, near: Tensor) -> Box:
        """What is shown to lie within the radius of sequences."""
        if self.radius == 0:
            return Box(near, near)
        low, high = near.double() - self.radius, near.double() + self.radius
        return Box(up(low), down(high))

    def inward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        inner = self._inner(self.nearest(x))
        return inner.inward(x, dtype)

    def contains(self, x: Tensor) -> bool:
        if not bool(x.isfinite().all()):
            return False
        x = x.to(self.allowed.device).double()
        inner = self._inner(self.nearest(x.unsqueeze(0))[0].double())
        return inner.contains(x)

    def to(self, dtype: torch.dtype, device: torch.device) -> Tokens:
        sequences = None if self.sequences is None else self.sequences.to(device)
        return replace(self, allowed=self.allowed.to(device), sequences=sequences, dtype=dtype)
