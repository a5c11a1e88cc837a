"""Gradient attack on a claim: inputs and patch values move together, downhill on the margin, for many circuits at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.query import Clauses, Margins, Query
from verify.pool import Points, circuit_outputs, free_gates, row_limit
from verify.space import BoxSpace, space_of

__all__ = ["Found", "attack"]


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The worst point found for each circuit. Shapes: `points` one row a circuit; `margin` `(circuits,)`, in the query's precision
    (a negative one must still be replayed on the original model)."""

    points: Points
    margin: Tensor


def attack(
    query: Query,
    masks: Tensor,
    *,
    seed: int,
    restarts: int = 24,
    steps: int = 50,
    starts: Points | None = None,
    expired: Callable[[], bool] = lambda: False,
) -> Found:
    """Look for points of negative margin by projected gradient descent.

    Each restart goes after the combined margin or after one clause of it (those lowest at the start come first), from the region's
    centre, corners, random points and `starts`. Steps shrink from half the region's width to a thousandth. Stops early for circuits
    that are refuted, and altogether when `expired` says so. Deterministic for a seed. Shapes: `masks` `(circuits, gates.size)`.
    Cost: `circuits * restarts * steps` forward and backward passes, in batches.
    """
    parts: list[Found] = []
    together = max(1, row_limit(query.graph, gradients=True) // restarts)
    for i, part in enumerate(masks.split(together)):
        parts.append(_attack(query, part, seed + i, restarts, steps, starts, expired))
    return Found(Points.join([part.points for part in parts]), torch.cat([part.margin for part in parts]))


def _attack(
    query: Query, masks: Tensor, seed: int, restarts: int, steps: int, starts: Points | None, expired: Callable[[], bool]
) -> Found:
    generator = torch.Generator().manual_seed(seed)
    space, count = space_of(query.region), len(masks)
    gates = free_gates(query.gates)
    boxes = {gate.tensor: BoxSpace(gate.patch) for gate in gates}
    z = space.sample(restarts, generator)
    patches = {name: box.sample(restarts, generator) for name, box in boxes.items()}
    if starts is not None and len(starts):
        n = min(len(starts), restarts // 2)
        z[-n:] = space.locate(starts.x[-n:])
        for name in patches:
            patches[name][-n:] = starts.patches[name][-n:]
    rows = masks.repeat_interleave(restarts, dim=0)
    z = z.repeat(count, *[1] * (z.dim() - 1))
    patches = {name: p.repeat(count, *[1] * (p.dim() - 1)) for name, p in patches.items()}
    best: Found | None = None
    target: Tensor | None = None
    for step in range(steps + 1):
        free = [z.requires_grad_(), *(p.requires_grad_() for p in patches.values())]
        points = Points(space.point(z), patches)
        forms = query.margins.forms(circuit_outputs(query, points, rows), query.graph(points.x))
        best = _better(best, points.detach(), query.margins.combine(forms.detach()), count)
        if step == steps or bool((best.margin < 0).all()) or expired():
            break
        goals = _goals(query.margins, forms)
        if target is None:
            target = _targets(goals.detach(), count, restarts)
        chosen = goals.gather(1, target.unsqueeze(1)).sum()
        if not chosen.requires_grad:
            break  # nothing to descend: the outputs do not depend on what may move
        gradients = torch.autograd.grad(chosen, free, allow_unused=True)
        size = 0.5 * (0.002 ** (step / steps))
        with torch.no_grad():
            moved = [g if g is not None else torch.zeros_like(v) for g, v in zip(gradients, free, strict=True)]
            z = space.step(z.detach(), moved[0], size)
            patches = {name: boxes[name].step(p.detach(), g, size) for (name, p), g in zip(patches.items(), moved[1:], strict=True)}
    assert best is not None
    return best


def _better(best: Found | None, points: Points, margins: Tensor, circuits: int) -> Found:
    """Keep each circuit's worst point so far."""
    least, at = margins.reshape(circuits, -1).min(1)
    new = Found(points[at + torch.arange(circuits, device=at.device) * (len(margins) // circuits)], least)
    if best is None:
        return new
    lower = new.margin < best.margin

    def merged(a: Tensor, b: Tensor) -> Tensor:
        return torch.where(lower.reshape(-1, *[1] * (a.dim() - 1)), a, b)

    patches = {name: merged(p, best.points.patches[name]) for name, p in new.points.patches.items()}
    return Found(Points(merged(new.points.x, best.points.x), patches), torch.minimum(new.margin, best.margin))


def _goals(margins: Margins, forms: Tensor) -> Tensor:
    """What a restart may minimise: the combined margin first, then each clause (each form, for a norm). Shape: `(rows, goals)`."""
    single = forms[:, margins.clauses].amax(-1) if isinstance(margins, Clauses) else forms
    return torch.cat([margins.combine(forms).unsqueeze(1), single], dim=1)


def _targets(goals: Tensor, circuits: int, restarts: int) -> Tensor:
    """A goal for each row: every third restart the combined margin, the others the clauses in order of their least value."""
    least = goals[:, 1:].reshape(circuits, restarts, -1).amin(1)
    order = least.argsort(dim=1) + 1
    turn = torch.arange(restarts, device=goals.device)
    clause = order[:, (turn - turn // 3 - 1).clamp_min(0) % order.shape[1]]
    return torch.where(turn % 3 == 0, torch.zeros_like(clause), clause).flatten()
