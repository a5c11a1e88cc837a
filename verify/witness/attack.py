"""Gradient attack on a claim: inputs and patch values move together, downhill on the margin, for many circuits at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.query import Clauses, Margins, Query
from verify.witness.pool import DEPTH, Points, circuit_outputs, free_gates, row_limit
from verify.witness.probe import Probes
from verify.witness.space import BoxSpace, Space, space_of

__all__ = ["Found", "attack"]

_SCREENED = 4
"""Starts evaluated for each restart that is descended from."""

_AGREE = 1e-12
"""Outputs that differ by no more than this share of the largest are the same but for rounding, and so are their gradients."""

_MOMENTUM = 0.5

_PHASES = ((0.4, 0.5, 0.02), (0.3, 0.25, 0.01), (0.3, 0.1, 0.001))
"""Share of the steps, first and last step size (of the region's width). Each phase goes on from the best of the one before."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The worst point found for each circuit. Shapes: `points` one row a circuit; `margin` `(circuits,)`, in the query's
    precision (a negative one must still be replayed on the original model); infinite where time ran out before the first
    evaluation."""

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
    """Look for points of negative margin: screen many starts, then descend by projected gradient, then again from the best.

    Starts are the region's centre, corners, random points and `starts` (points of this claim). Every third restart goes after
    the combined margin, the others each after one clause of it (those lowest at the starts come first), from the start that is
    best for it. Where circuit and model agree a row drives an ablated component's pre-activation across zero instead, and where
    that has no gradient either it is drawn anew. Stops early for
    circuits that are refuted by more than rounding, and altogether when `expired` says so. Deterministic for a seed, unless it
    expires. Shapes: `masks` `(circuits, gates.size)`. Cost: `circuits * restarts * steps` forward and backward passes, in
    batches.
    """
    together = max(1, _limit(query, gradients=True) // restarts)
    parts = [
        _Descent(query, part, seed + i, restarts, starts, expired).run(steps) for i, part in enumerate(masks.split(together))
    ]
    return Found(Points.join([part.points for part in parts]), torch.cat([part.margin for part in parts]))


def _limit(query: Query, gradients: bool) -> int:
    margins = query.margins
    return row_limit(
        query.graph, gradients, margins.clauses.numel() if isinstance(margins, Clauses) else margins.offset.numel()
    )


def _values(margins: Margins, forms: Tensor) -> Tensor:
    """What a restart may minimise besides the margin: each clause, or each form for a norm. Shape: `(rows, goals)`."""
    return forms[:, margins.clauses].amax(-1) if isinstance(margins, Clauses) else forms


def _combined(margins: Margins, values: Tensor) -> Tensor:
    """The margin, from what `_values` found. Not a number counts as infinite: it shows nothing."""
    margin = values.amin(1) if isinstance(margins, Clauses) else margins.combine(values)
    return margin.nan_to_num(torch.inf, torch.inf, -torch.inf)


def _goal(margins: Margins, forms: Tensor, values: Tensor, target: Tensor) -> Tensor:
    """The value that each row minimises; target 0 is the margin, `1 + i` the `i`-th of `_values`. Differentiable in `forms`; of
    the clauses only the one that counts is built."""
    if isinstance(margins, Clauses):
        clause = torch.where(target > 0, target - 1, values.argmin(1))
        return forms.gather(1, margins.clauses[clause]).amax(1)
    one = forms.gather(1, (target - 1).clamp_min(0).unsqueeze(1)).squeeze(1)
    return torch.where(target > 0, one, margins.combine(forms))


@dataclass(slots=True, eq=False)
class _Rows:
    """Restarts in flight, `restarts` rows a circuit: where they are (coordinates of each free space, the input's first), what
    each goes after (`target`; `probe` while circuit and model agree), and the best margin each has seen and where."""

    masks: Tensor
    target: Tensor
    probe: Tensor
    at: list[Tensor]
    margin: Tensor
    best: list[Tensor]

    def pick(self, rows: Tensor) -> _Rows:
        at, best = [z[rows] for z in self.at], [z[rows] for z in self.best]
        return _Rows(self.masks[rows], self.target[rows], self.probe[rows], at, self.margin[rows], best)


def _gradients(goals: Tensor, free: list[Tensor]) -> list[Tensor]:
    """Of the sum of goals, zero where there is none or it is not a number."""
    if not goals.requires_grad:
        return [torch.zeros_like(z) for z in free]
    return [g.nan_to_num() for g in torch.autograd.grad(goals.sum(), free, allow_unused=True, materialize_grads=True)]


def _flat(gradients: list[Tensor]) -> Tensor:
    """Rows whose gradients are all zero."""
    return torch.stack([(g == 0).flatten(1).all(1) for g in gradients]).all(0)


def _wide(flags: Tensor, like: Tensor) -> Tensor:
    return flags.reshape(-1, *[1] * (like.dim() - 1))


class _Descent:
    """One batch of circuits."""

    def __init__(
        self, query: Query, masks: Tensor, seed: int, restarts: int, starts: Points | None, expired: Callable[[], bool]
    ) -> None:
        self.query, self.restarts, self.expired = query, restarts, expired
        self.generator = torch.Generator().manual_seed(seed)
        self.names = [gate.tensor for gate in free_gates(query.gates)]
        boxes = [BoxSpace(gate.patch) for gate in free_gates(query.gates)]
        self.spaces: list[Space] = [space_of(query.region), *boxes]
        self.depth = 0.0
        self.margin = masks.new_full((len(masks),), torch.inf, dtype=query.graph.dtype)
        screened = self._sample(_SCREENED * restarts)
        if starts is not None and len(starts):
            n = min(len(starts), restarts)
            given = [starts.x, *(starts.patches[name] for name in self.names)]
            for z, space, x in zip(screened, self.spaces, given, strict=True):
                z[-n:] = space.locate(x[-n:])
        self.best = [z[:1].expand(len(masks), *z.shape[1:]).clone() for z in screened]
        self.open = torch.arange(len(masks), device=masks.device)
        self.rows = self._screen(masks, screened)

    def run(self, steps: int) -> Found:
        for phase, (share, first, last) in enumerate(_PHASES):
            count = max(1, round(share * steps))
            if self.probes and len(self.open):
                self.rows.probe = self.probes.choose(
                    self.rows.masks[:: self.restarts], self.restarts, phase * self.restarts
                ).flatten()
            velocity = [torch.zeros_like(z) for z in self.rows.at]
            for i in range(count):
                if not len(self.open) or self.expired():
                    break
                velocity = self._step(first * (last / first) ** (i / count), velocity)
                velocity = self._close(velocity)
            if len(self.open) and not self.expired():
                self._evaluate(False)
                self._close(velocity)
                if phase < len(_PHASES) - 1 and len(self.open):
                    self._restart()
        self._note(torch.ones(len(self.open), dtype=torch.bool, device=self.open.device))
        return Found(self._points(self.best), self.margin)

    def _sample(self, count: int) -> list[Tensor]:
        """Coordinates in every space, paired at random: centre with centre first, but corners with all sorts."""
        found = [self.spaces[0].sample(count, self.generator)]
        for space in self.spaces[1:]:
            order = torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(count - 1, generator=self.generator)])
            z = space.sample(count, self.generator)
            found.append(z[order.to(z.device)])
        return found

    def _points(self, at: list[Tensor]) -> Points:
        return Points(self.spaces[0].point(at[0]), dict(zip(self.names, at[1:], strict=True)))

    @torch.no_grad()
    def _screen(self, masks: Tensor, at: list[Tensor]) -> _Rows:
        """Evaluate every start for every circuit, and give each restart a target and the start that suits it best."""
        points, margins, circuits, count = self._points(at), self.query.margins, len(masks), len(at[0])
        limit = _limit(self.query, gradients=False)
        self.probes = Probes(self.query, points.x)
        model = torch.cat([self.query.graph(x) for x in points.x.split(limit)])
        self.depth = DEPTH * float(model.abs().max())
        parts: list[Tensor] = []
        for row in torch.arange(circuits * count, device=masks.device).split(limit):
            if parts and self.expired():
                parts.append(torch.full((len(row), parts[0].shape[1]), torch.inf).to(parts[0]))
                continue
            i = row % count
            forms = margins.forms(circuit_outputs(self.query, points[i], masks[row // count]), model[i])
            values = _values(margins, forms)
            parts.append(torch.cat([_combined(margins, values).unsqueeze(1), values], dim=1))
        values = torch.cat(parts).reshape(circuits, count, -1).nan_to_num(torch.inf, torch.inf, -torch.inf)
        goals = values.shape[2] - 1
        turn = torch.arange(self.restarts, device=masks.device)
        nth = torch.where(turn % 3 == 0, turn // 3, turn - turn // 3 - 1)
        clauses = values[:, :, 1:].amin(1).argsort(dim=1)[:, nth % goals] + 1
        target = torch.where(turn % 3 == 0, torch.zeros_like(clauses), clauses)
        rank = torch.where(turn % 3 == 0, nth, nth // goals).clamp_max(count - 1)
        wanted = values.gather(2, target.unsqueeze(1).expand(-1, count, -1))
        start = wanted.argsort(dim=1).gather(1, rank.expand(circuits, 1, -1)).squeeze(1)
        margin = values[:, :, 0].gather(1, start).flatten()
        chosen = [z[start.flatten()] for z in at]
        # The best of all screened starts is the first restart's: nothing seen is lost.
        rows = masks.repeat_interleave(self.restarts, dim=0)
        return _Rows(rows, target.flatten(), torch.zeros_like(target).flatten(), chosen, margin, list(chosen))

    def _evaluate(self, gradients: bool) -> list[Tensor]:
        """Look at where all rows are, remember what is better, and differentiate their goals (zeros: nothing to go after)."""
        rows, margins = self.rows, self.query.margins
        with torch.set_grad_enabled(gradients):
            free = [z.detach().requires_grad_(gradients) for z in rows.at]
            points = self._points(free)
            circuit, model = circuit_outputs(self.query, points, rows.masks), self.query.graph(points.x)
            forms = margins.forms(circuit, model)
            with torch.no_grad():
                values = _values(margins, forms.detach())
                margin = _combined(margins, values)
                better = margin < rows.margin
                rows.margin = torch.where(better, margin, rows.margin)
                rows.best = [torch.where(_wide(better, z), z.detach(), b) for z, b in zip(free, rows.best, strict=True)]
            if not gradients:
                return []
            goal = _goal(margins, forms, values, rows.target)
            apart = (circuit - model).detach().flatten(1).abs().amax(1) > _AGREE * model.detach().flatten(1).abs().amax(1)
            return _gradients(torch.where(apart, goal, torch.zeros_like(goal)), free)

    def _step(self, size: float, velocity: list[Tensor]) -> list[Tensor]:
        """One step of every row; returns the new velocity."""
        rows = self.rows
        gradients = self._evaluate(True)
        stuck = _flat(gradients)
        # One row in four does not probe: signs behind signs have no gradient anywhere.
        probing = (stuck & (torch.arange(len(stuck), device=stuck.device) % 4 != 3)).nonzero().squeeze(1)
        if self.probes and len(probing):
            z = rows.at[0][probing].detach().requires_grad_()
            goal = self.probes.goal(self.spaces[0].point(z), rows.probe[probing])
            gradients[0] = gradients[0].index_copy(0, probing, _gradients(goal, [z])[0])
            stuck = _flat(gradients)
        moved: list[Tensor] = []
        with torch.no_grad():
            for i, (space, z, g, v) in enumerate(zip(self.spaces, rows.at, gradients, velocity, strict=True)):
                g = g / _wide(g.flatten(1).abs().mean(1), g).clamp_min(torch.finfo(g.dtype).tiny)
                moved.append(_MOMENTUM * v + g)
                rows.at[i] = space.step(z, moved[-1], size)
            if bool(stuck.any()):
                for i, fresh in enumerate(self._sample(len(stuck))):
                    rows.at[i] = torch.where(_wide(stuck, fresh), fresh, rows.at[i])
        return moved

    def _close(self, velocity: list[Tensor]) -> list[Tensor]:
        """Drop the rows of circuits that are refuted, once they are half of all (or all)."""
        done = (self.rows.margin.reshape(-1, self.restarts) < -self.depth).any(1)
        if not len(done) or 2 * int(done.sum()) < len(done):
            return velocity
        self._note(done)
        keep = ~done.repeat_interleave(self.restarts)
        self.open, self.rows = self.open[~done], self.rows.pick(keep)
        return [v[keep] for v in velocity]

    def _note(self, which: Tensor) -> None:
        """Write down the best of some of the open circuits."""
        margin, row = self.rows.margin.reshape(-1, self.restarts).min(1)
        row = (row + self.restarts * torch.arange(len(row), device=row.device))[which]
        circuit = self.open[which]
        self.margin[circuit] = margin[which]
        for noted, best in zip(self.best, self.rows.best, strict=True):
            noted[circuit] = best[row]

    @torch.no_grad()
    def _restart(self) -> None:
        """Put every circuit's rows at the best half of what its rows have seen, twice: as it is, and a fifth of the way
        elsewhere. Every other row keeps the target of the row that it starts from."""
        rows, circuits = self.rows, len(self.open)
        order = rows.margin.reshape(circuits, self.restarts).argsort(dim=1)
        turn = torch.arange(self.restarts, device=order.device)
        source = order[:, turn // 2] + self.restarts * torch.arange(circuits, device=order.device).unsqueeze(1)
        source = source.flatten()
        shifted = (turn % 2 == 1).repeat(circuits)
        own = (turn % 4 >= 2).repeat(circuits)
        fresh = self._sample(len(source))
        rows.at = [
            torch.where(_wide(shifted, z), b[source] + 0.2 * (z - b[source]), b[source])
            for z, b in zip(fresh, rows.best, strict=True)
        ]
        rows.target = torch.where(own, rows.target[source], torch.zeros_like(rows.target))
