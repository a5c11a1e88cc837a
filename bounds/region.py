"""Input sets, and the least value of a linear form over each. Sets are over the reals; tensors hold their data in floats."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.ops.base import Shape
from bounds.rounding import down, gamma, tiny, up

__all__ = ["Ball", "Box", "Hull", "Region"]


class Region(ABC):
    """A compact set of inputs of one shape (no batch axis)."""

    @property
    @abstractmethod
    def shape(self) -> Shape:
        """Shape of one input."""

    @abstractmethod
    def box(self) -> Box:
        """The smallest enclosing box that floats can state."""

    @abstractmethod
    def minimum(self, coefficients: Tensor) -> Tensor:
        """A lower bound of `min_x a.x` for each row. Shapes: `(rows, *shape)` to `(rows,)`. Exact but for rounding, which is
        outward; for a ball cut by a box, the better of the two sets' own minima."""

    def minimum_within(self, coefficients: Tensor, box: Box) -> Tensor:
        """As `minimum`, of the parts of the set in boxes. Shapes: `(parts, rows, *shape)`, ends `(parts, *shape)`, to
        `(parts, rows)`."""
        least = self.minimum(coefficients.flatten(0, 1)).reshape(coefficients.shape[:2])
        a = coefficients.flatten(2)
        center, radius = box.center.flatten(1).unsqueeze(2), box.radius.flatten(1).unsqueeze(2)
        slack = gamma(2 * a.shape[2], a.dtype)
        spread = a.abs() @ (radius + slack * (center.abs() + radius))
        return torch.maximum(least, down((a @ center - spread).squeeze(2) - tiny(a.shape[2], a.dtype)))

    def tighten(self, box: Box) -> Box:
        """Boxes (a batch axis in front) inside the given ones that hold all the set's points there; crossed where none is."""
        return box

    @abstractmethod
    def minimizer(self, coefficients: Tensor) -> Tensor:
        """A point of the set, up to float rounding, where `a.x` is least, or nearly, for each row. Shapes: `(rows, *shape)`
        both."""

    @abstractmethod
    def project(self, x: Tensor) -> Tensor:
        """A nearby point of the set for each row (the nearest, for a box or an uncut ball), up to float rounding."""

    @abstractmethod
    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` points of the set, corners and centre among them, up to float rounding. Shape: `(count, *shape)`."""

    @abstractmethod
    def inward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """Round rows to `dtype` so that, wherever that can be done, they stay inside the set."""

    @abstractmethod
    def contains(self, x: Tensor) -> bool:
        """Whether one point lies in the set, decided without a tolerance (a point that cannot be shown inside is outside)."""

    @abstractmethod
    def to(self, dtype: torch.dtype, device: torch.device) -> Region:
        """The same set or one that encloses it, in `dtype` on `device`."""


@dataclass(frozen=True, slots=True, eq=False)
class Box(Region):
    """`lower <= x <= upper`. Also the type of every interval bound in this package; then there is a batch axis in front."""

    lower: Tensor
    upper: Tensor

    @property
    def shape(self) -> Shape:
        return tuple(self.lower.shape)

    @property
    def center(self) -> Tensor:
        return (self.lower + self.upper) / 2

    @property
    def radius(self) -> Tensor:
        """Rounded up: `center - radius <= lower` and `upper <= center + radius` in real arithmetic. Exactly 0 for a point."""
        c = self.center
        wide = up(torch.maximum(self.upper - c, c - self.lower))
        return torch.where(self.lower == self.upper, torch.zeros_like(wide), wide)

    @property
    def magnitude(self) -> Tensor:
        """`max |x|`, elementwise."""
        return torch.maximum(self.lower.abs(), self.upper.abs())

    def intersect(self, other: Box) -> Box:
        """The part common to both; two enclosures of the same value always share some."""
        return Box(torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper))

    def box(self) -> Box:
        return self

    def minimum(self, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(1)
        c, r = self.center.flatten(), self.radius.flatten()
        size = a.abs()
        slack = gamma(2 * a.shape[1], a.dtype)
        spread = size @ (r + slack * (c.abs() + r))
        return down(a @ c - spread - tiny(a.shape[1], a.dtype))

    def minimizer(self, coefficients: Tensor) -> Tensor:
        return torch.where(coefficients > 0, self.lower, self.upper)

    def project(self, x: Tensor) -> Tensor:
        return torch.minimum(torch.maximum(x, self.lower), self.upper)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        t = torch.rand((count, *self.shape), generator=generator, dtype=self.lower.dtype).to(self.lower.device)
        t[count // 2 :] = t[count // 2 :].round()
        t[:1] = 0.5
        return self.project(self.lower + t * (self.upper - self.lower))

    def inward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        lower, upper = _inner(self.lower, self.upper, dtype)
        return torch.minimum(torch.maximum(x.to(dtype), lower), upper)

    def contains(self, x: Tensor) -> bool:
        x = x.to(self.lower)
        return bool(((self.lower <= x) & (x <= self.upper)).all())

    def to(self, dtype: torch.dtype, device: torch.device) -> Box:
        lower, upper = self.lower.to(device), self.upper.to(device)
        low, high = lower.to(dtype), upper.to(dtype)
        return Box(torch.where(low.to(lower) > lower, down(low), low), torch.where(high.to(upper) < upper, up(high), high))


def _inner(lower: Tensor, upper: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The largest and smallest numbers of `dtype` that still lie inside `[lower, upper]`."""
    low, high = lower.to(dtype), upper.to(dtype)
    low = torch.where(low.to(lower) < lower, up(low), low)
    high = torch.where(high.to(upper) > upper, down(high), high)
    return low, high


@dataclass(frozen=True, slots=True, eq=False)
class Ball(Region):
    """`|x - center|_2 <= radius`, cut with a box. `clip` is the box already cut down to the ball's own extent."""

    center: Tensor
    radius: float
    clip: Box

    @property
    def shape(self) -> Shape:
        return tuple(self.center.shape)

    def box(self) -> Box:
        return self.clip

    def minimum(self, coefficients: Tensor) -> Tensor:
        a, c = coefficients.flatten(1), self.center.flatten()
        slack = gamma(2 * a.shape[1], a.dtype)
        largest = a.abs().amax(1, keepdim=True).clamp_min(torch.finfo(a.dtype).tiny)  # so that no square underflows
        spread = (a / largest).square().sum(1).sqrt() * largest.squeeze(1) * (self.radius * (1 + slack))
        error = slack * (a.abs() @ c.abs()) + tiny(a.shape[1], a.dtype)
        return torch.maximum(down(a @ c - up(spread * (1 + slack)) - error), self.clip.minimum(coefficients))

    def minimizer(self, coefficients: Tensor) -> Tensor:
        norm = coefficients.flatten(1).norm(dim=1).clamp_min(torch.finfo(coefficients.dtype).tiny)
        return self.project(self.center - self.radius * coefficients / norm.reshape(-1, *[1] * len(self.shape)))

    def project(self, x: Tensor) -> Tensor:
        """Along `clip(center + t (x - center))`, whose distance from the centre grows with `t`; for some `t` it is the nearest
        point."""
        step = x - self.center
        t = (self.radius / self._length(step).clamp_min(torch.finfo(x.dtype).tiny)).clamp_max(1)
        near = self.clip.project(self.center + step * t)
        far = self._length(near - self.center) > self.radius * (1 + 8 * torch.finfo(x.dtype).eps)
        if bool(far.any()):  # only where the cut leaves the centre out
            low, high = torch.zeros_like(t), t
            for _ in range(50):
                t = (low + high) / 2
                out = self._length(self.clip.project(self.center + step * t) - self.center) > self.radius
                low, high = torch.where(out, low, t), torch.where(out, t, high)
            near = torch.where(far, self.clip.project(self.center + step * low), near)
        return near

    def _length(self, step: Tensor) -> Tensor:
        """L2 norm of each row, with axes to broadcast. Shape: `(rows, 1, ..., 1)`."""
        return step.flatten(1).norm(dim=1).reshape(-1, *[1] * len(self.shape))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        size = math.prod(self.shape)
        direction = torch.randn((count, *self.shape), generator=generator, dtype=self.center.dtype).to(self.center.device)
        norm = direction.flatten(1).norm(dim=1)
        reach = torch.rand(count, generator=generator, dtype=self.center.dtype).to(self.center.device).pow(1 / size)
        reach[: count // 2] = 1
        reach[:1] = 0
        scale = (self.radius * reach / norm).reshape(-1, *[1] * len(self.shape))
        return self.project(self.center + direction * scale)

    def inward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        x, center = x.double(), self.center.double()
        anchor = self.clip.project(self.center).double()
        # Room for rounding every coordinate of the result; the way to the anchor is as long as it takes to make that room.
        lost = float((self.clip.magnitude.double() * torch.finfo(dtype).eps).norm())
        room = self.radius * (1 - 8 * gamma(center.numel(), torch.float64)) - lost
        length, least = self._length(x - center), float((anchor - center).norm())
        t = ((length - room) / (length - least).clamp_min(torch.finfo(torch.float64).tiny)).clamp(0, 1)
        return self.clip.inward(x + t * (anchor - x), dtype)

    def contains(self, x: Tensor) -> bool:
        if not self.clip.contains(x):
            return False
        step = (x.double() - self.center.double()).flatten()
        return float(step.square().sum()) * (1 + gamma(step.numel(), torch.float64)) <= self.radius**2

    def to(self, dtype: torch.dtype, device: torch.device) -> Ball:
        center = self.center.to(device, dtype)
        moved = float((center.double() - self.center.to(device).double()).norm()) * (1 + 1e-12)
        return Ball(
            center, (self.radius + moved) * (1 + torch.finfo(torch.float64).eps * (moved > 0)), self.clip.to(dtype, device)
        )


@dataclass(frozen=True, slots=True, eq=False)
class Hull(Region):
    """The convex hull of points, each coordinate rounded to the model's input precision by at most `rounding`.

    A float point is almost never exactly in the hull of others, so the set is the hull *as the model receives it*: a point of
    the hull, moved by at most `rounding` a coordinate. Shapes: `points` `(count, *shape)`, `rounding` `(*shape)`.
    """

    points: Tensor
    rounding: Tensor

    @property
    def shape(self) -> Shape:
        return tuple(self.points.shape[1:])

    def box(self) -> Box:
        return Box(down(self.points.amin(0) - self.rounding), up(self.points.amax(0) + self.rounding))

    def minimum(self, coefficients: Tensor) -> Tensor:
        a, p = coefficients.flatten(1), self.points.flatten(1)
        slack = gamma(2 * a.shape[1], a.dtype)
        spread = a.abs() @ (self.rounding.flatten() * (1 + slack) + slack * p.abs().amax(0))
        return down((a @ p.T).amin(1) - up(spread) - tiny(a.shape[1], a.dtype))

    def minimizer(self, coefficients: Tensor) -> Tensor:
        return self.points[(coefficients.flatten(1) @ self.points.flatten(1).T).argmin(1)]

    def weights(self, x: Tensor) -> Tensor:
        """Convex weights whose combination lies near each row (non-negative least squares). Shape: `(rows, count)`."""
        from scipy.optimize import nnls

        p = self.points.flatten(1).double().cpu().numpy()
        scale = max(1.0, float(abs(p).max())) * 1e3
        import numpy as np

        system = np.vstack([p.T, np.full((1, len(p)), scale)])
        rows = [nnls(system, np.append(row, scale))[0] for row in x.flatten(1).double().cpu().numpy()]
        found = torch.tensor(np.array(rows), dtype=torch.float64)
        return found / found.sum(1, keepdim=True)

    def project(self, x: Tensor) -> Tensor:
        w = self.weights(x)
        return (w @ self.points.flatten(1).double().cpu()).reshape(x.shape).to(x)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        n = len(self.points)
        w = -torch.rand((count, n), generator=generator, dtype=torch.float64).clamp_min(1e-300).log()
        w[count // 2 :] = w[count // 2 :].pow(4)
        corners = torch.arange(min(n, count))
        w[corners] = torch.eye(n, dtype=torch.float64)[corners]
        w = w / w.sum(1, keepdim=True)
        return (w.to(self.points) @ self.points.flatten(1)).reshape(count, *self.shape)

    def inward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        return self.project(x.double()).to(dtype)

    def contains(self, x: Tensor) -> bool:
        if not bool(x.isfinite().all()):
            return False
        nearest = self.project(x.double().unsqueeze(0))[0]
        slack = gamma(len(self.points), torch.float64) * self.points.double().abs().amax(0)
        return bool(((x.double() - nearest).abs() + slack <= self.rounding.double()).all())

    def to(self, dtype: torch.dtype, device: torch.device) -> Hull:
        points = self.points.to(device, dtype)
        moved = (points.double() - self.points.to(device).double()).abs().amax(0)
        rounding = self.rounding.to(device).double() + moved
        wide = rounding.to(dtype)
        return Hull(points, torch.where(wide.double() < rounding, up(wide), wide))
