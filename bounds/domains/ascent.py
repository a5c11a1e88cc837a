"""Gradient ascent of many bounds at once, each row of a batch with a step size of its own and the best point it met.

A warm start is near its optimum, where steps of a fixed size first fall far and need as many steps again to come back: what was
reached is kept, and a row that has not risen for a while goes back to it and on from there with smaller steps.

Source: Kingma & Ba 2015 (Adam), arXiv:1412.6980; going back is ours.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

__all__ = ["ascend"]

_PATIENCE, _SMALLER = 4, 0.3
"""After so many steps without a rise a row goes back, and its steps are this much smaller from then on."""

_FADE = 0.98
"""By how much every step is smaller than the one before."""

_FIRST, _SECOND = 0.9, 0.999
"""How much of the mean gradient, and of its mean square, a step keeps."""


def ascend(
    free: Sequence[Tensor],
    goal: Callable[[], Tensor],
    project: Callable[[], None],
    steps: int,
    rate: float,
    stop: Callable[[], bool] = lambda: False,
) -> None:
    """Change `free` in place towards greater goals, row by row; where a row ends, its goal is the greatest it met.

    Shapes: each of `free` `(batch, ...)`; `goal` gives `(batch,)`, each row a function of its own row alone; `project` puts
    `free` back into its range. Cost: `steps` times goal and gradient, and one goal more.
    """
    first, second = ([torch.zeros_like(value) for value in free] for _ in range(2))
    held = [value.detach().clone() for value in free]
    size = torch.full((len(free[0]),), rate, dtype=free[0].dtype, device=free[0].device)
    reached = torch.full_like(size, -torch.inf)
    waited = torch.zeros_like(size)
    for value in free:
        value.requires_grad_()
    for step in range(steps + 1):
        with torch.set_grad_enabled(step < steps):
            found = goal()
        better = found.detach() > reached
        reached = torch.where(better, found.detach(), reached)
        waited = torch.where(better, 0.0, waited + 1)
        for value, kept in zip(free, held, strict=True):
            kept.copy_(torch.where(_rows(better, value), value.detach(), kept))
        if step == steps or stop():
            break
        gradients = _gradients(found, free)
        back = waited >= _PATIENCE
        if bool(back.any()):
            size, waited = torch.where(back, size * _SMALLER, size), torch.where(back, 0.0, waited)
        with torch.no_grad():
            for value, kept, m, v, g in zip(free, held, first, second, gradients, strict=True):
                m.mul_(_FIRST).add_(g, alpha=1 - _FIRST)
                v.mul_(_SECOND).addcmul_(g, g, value=1 - _SECOND)
                scale = (v / (1 - _SECOND ** (step + 1))).sqrt_().add_(1e-8)
                move = (m / scale).mul_(_rows(size * _FADE**step / (1 - _FIRST ** (step + 1)), value))
                value.add_(move)
                if bool(back.any()):
                    value.copy_(torch.where(_rows(back, value), kept, value))
                    m.copy_(torch.where(_rows(back, value), torch.zeros_like(m), m))
        project()
    for value, kept in zip(free, held, strict=True):
        value.requires_grad_(False).copy_(kept)


def _gradients(goal: Tensor, free: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of the finite goals; zero in what they do not depend on."""
    total = torch.where(goal.isfinite(), goal, torch.zeros_like(goal)).sum()
    if not total.requires_grad:
        return [torch.zeros_like(value) for value in free]
    return list(torch.autograd.grad(total, list(free), allow_unused=True, materialize_grads=True))


def _rows(x: Tensor, like: Tensor) -> Tensor:
    return x.reshape(-1, *[1] * (like.dim() - 1))
