"""Inputs that resampled values come from: a claim about activations holds or fails by inputs that somebody can run."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from bounds.gates import Gate, Gates
from bounds.query import Query
from bounds.region import Box, Region
from verify.witness.attack import attack
from verify.witness.pool import Points, circuit_outputs, row_limit
from verify.witness.space import space_of

__all__ = ["Library", "Origins"]

_SAMPLES = 96
_STEPS = ((8, 0.3), (8, 0.05))
"""Steps of the ascent to each component's extremes, and their size in the region's width."""

_HALVINGS = 40
_ROUNDS = 3


@dataclass(frozen=True, slots=True, eq=False)
class Origins:
    """Where resampled values come from. Shapes: `inputs` `(count, *input_shape)`, in the model's precision; `row`, for each
    gated tensor `(gate.size,)`, the input of each component (of those that are kept, any)."""

    inputs: Tensor
    row: dict[str, Tensor]


class Library:
    """Inputs of a region, samples and those that drive each component up or down, with the model's values at the gates.

    All inputs are numbers of the model's precision inside `region`. Cost of making it: some thirty forward and backward passes
    a component.
    """

    def __init__(self, query: Query, region: Region, dtype: torch.dtype, seed: int = 0) -> None:
        """`query` is about the model whose tensors are resampled from `region`; its gates' boxes are not used."""
        self.query, self.region, self.dtype = query, region, dtype
        generator = torch.Generator().manual_seed(seed)
        x = torch.cat([region.sample(_SAMPLES, generator), self._extremes(generator)])
        self.x = self._received(x)
        self.values = self._run(self.x)

    @property
    def attackable(self) -> Query:
        """The query with patch boxes cut down to what the library reaches, for attacks: no proof holds for it."""
        return replace(
            self.query, gates=Gates(tuple(replace(gate, patch=self._reached(gate)) for gate in self.query.gates.gates))
        )

    def settle(self, mask: Tensor, points: Points) -> tuple[Points, Origins]:
        """Near one point, one whose patch values are reached by inputs, and these. Shapes: `mask` `(components,)`.

        A component of one element gets its value to float precision, by bisection between two inputs. Of a larger one the
        elements come from one input together: the nearest in the library or, where that is worse, the one that the gradient
        asks for. Deterministic.
        """
        points = self._whole(points)
        best, rows = self._nearest(points)
        if any(gate.size < gate.group.numel() for gate in self.query.gates.gates):
            best, rows = self._improved(mask, best, rows)
        return self._bisected(mask, points, best, rows)

    def _reached(self, gate: Gate) -> Box:
        values = self.values[gate.tensor]
        return Box(values.amin(0), values.amax(0))

    def _received(self, x: Tensor) -> Tensor:
        """Rounded to the model's precision, without what then lies outside."""
        rounded = self.region.inward(x, self.dtype).double()
        inside = torch.tensor([self.region.contains(row) for row in rounded], dtype=torch.bool)
        if not bool(inside.any()):
            raise ValueError("no number of the model's precision was found inside the resampling region")
        return rounded[inside]

    @torch.no_grad()
    def _run(self, x: Tensor) -> dict[str, Tensor]:
        graph, keep = self.query.graph, frozenset(self.query.gates.by_tensor)
        parts = [graph.evaluate(part, keep=keep) for part in x.split(row_limit(graph))]
        return {name: torch.cat([part[name] for part in parts]) for name in keep}

    def _extremes(self, generator: torch.Generator) -> Tensor:
        """Inputs that drive the sum of each component's elements up, and down, by signed gradients."""
        gates, graph, space = self.query.gates, self.query.graph, space_of(self.region)
        found: list[Tensor] = []
        for rows in torch.arange(2 * gates.size).split(row_limit(graph, gradients=True)):
            z = space.sample(len(rows), generator)
            for steps, size in _STEPS:
                for _ in range(steps):
                    free = z.detach().requires_grad_()
                    values = graph.evaluate(space.point(free), keep=frozenset(gates.by_tensor))
                    sums = torch.cat([_summed(values[gate.tensor], gate) for gate in gates.gates], dim=1)
                    picked = sums.gather(1, (rows // 2).unsqueeze(1)).squeeze(1) * (1.0 - 2.0 * (rows % 2))
                    (gradient,) = torch.autograd.grad(picked.sum(), free)
                    z = space.step(free.detach(), gradient.nan_to_num(), size)
            found.append(space.point(z))
        return torch.cat(found).detach()

    def _whole(self, points: Points) -> Points:
        """With values for every gate: the library's own where a box is a single point."""
        patches = {name: points.patches.get(name, values[:1]) for name, values in self.values.items()}
        return Points(points.x, patches)

    def _nearest(self, points: Points) -> tuple[Points, dict[str, Tensor]]:
        rows = {
            gate.tensor: _summed((self.values[gate.tensor] - points.patches[gate.tensor]).square(), gate).argmin(0)
            for gate in self.query.gates.gates
        }
        return self._taken(points.x, rows), rows

    def _taken(self, x: Tensor, rows: dict[str, Tensor]) -> Points:
        """Patch values from given inputs of the library."""
        patches: dict[str, Tensor] = {}
        for gate in self.query.gates.gates:
            at = rows[gate.tensor][gate.group].unsqueeze(0)
            patches[gate.tensor] = self.values[gate.tensor].gather(0, at)
        return Points(x, patches)

    def _improved(self, mask: Tensor, points: Points, rows: dict[str, Tensor]) -> tuple[Points, dict[str, Tensor]]:
        """Exchange components' inputs along the gradient, then move the model's own input, as long as that helps."""
        best, margin = points, self._margin(mask, points)
        for _ in range(_ROUNDS):
            gradients = self._gradients(mask, best)
            turned = {
                gate.tensor: _summed(self.values[gate.tensor] * gradients[gate.tensor], gate).argmin(0)
                for gate in self.query.gates.gates
            }
            tried = self._taken(best.x, turned)
            fixed = Gates(tuple(replace(g, patch=Box(*(tried.patches[g.tensor][0],) * 2)) for g in self.query.gates.gates))
            start = Points(tried.x, {})
            moved = attack(
                replace(self.query, gates=fixed), mask.reshape(1, -1), seed=0, restarts=4, steps=12, starts=start
            ).points.x
            tried = Points(moved, tried.patches)
            found = self._margin(mask, tried)
            if not found < margin:
                break
            best, rows, margin = tried, turned, found
        return best, rows

    def _margin(self, mask: Tensor, points: Points) -> float:
        query = self.query
        with torch.no_grad():
            outputs = circuit_outputs(query, points, mask.reshape(1, -1))
            return float(query.margins.at(outputs, query.graph(points.x)))

    def _gradients(self, mask: Tensor, points: Points) -> dict[str, Tensor]:
        query = self.query
        free = {name: patch.detach().requires_grad_() for name, patch in points.patches.items()}
        outputs = circuit_outputs(query, Points(points.x, free), mask.reshape(1, -1))
        goal = query.margins.at(outputs, query.graph(points.x)).sum()
        found = torch.autograd.grad(goal, list(free.values()), allow_unused=True, materialize_grads=True)
        return {name: g.nan_to_num() for name, g in zip(free, found, strict=True)}

    def _bisected(self, mask: Tensor, points: Points, best: Points, rows: dict[str, Tensor]) -> tuple[Points, Origins]:
        """Give components of one element the values asked for, between the two inputs of the library around each."""
        inputs, at = [self.x], {name: row.clone() for name, row in rows.items()}
        patches = dict(best.patches)
        first = 0
        for gate in self.query.gates.gates:
            ablated = ~mask[first : first + gate.size]
            first += gate.size
            if gate.size != gate.group.numel():
                continue
            chosen = ablated.nonzero().squeeze(1)
            if not len(chosen):
                continue
            place = torch.empty_like(gate.group.flatten())
            place[gate.group.flatten()] = torch.arange(gate.size)
            element = place[chosen]
            target = points.patches[gate.tensor].flatten()[element]
            known = self.values[gate.tensor].flatten(1)[:, element]
            below = torch.where(known <= target, known, -torch.inf).argmax(0)
            above = torch.where(known >= target, known, torch.inf).argmin(0)
            x = self._between(gate, element, target, self.x[below], self.x[above])
            values = self._run(x)[gate.tensor].flatten(1).gather(1, element.unsqueeze(1)).squeeze(1)
            near = self.values[gate.tensor].flatten(1)[at[gate.tensor][chosen], element]
            inside = torch.tensor([self.region.contains(row) for row in x], dtype=torch.bool)
            closer = inside & ((values - target).abs() < (near - target).abs())
            at[gate.tensor][chosen] = torch.where(closer, sum(map(len, inputs)) + torch.arange(len(x)), at[gate.tensor][chosen])
            inputs.append(x)
            flat = patches[gate.tensor].flatten().clone()
            flat[element] = torch.where(closer, values, near)
            patches[gate.tensor] = flat.reshape(1, *gate.group.shape)
        return Points(best.x, patches), Origins(torch.cat(inputs), at)

    def _between(self, gate: Gate, element: Tensor, target: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Inputs on the way from `low` to `high` at which an element of each row is as near its target as halving finds; the
        region being convex, they are in it, and the element being continuous, its target is on the way."""
        wide = [-1, *[1] * (low.dim() - 1)]
        a, b = torch.zeros(len(low), dtype=low.dtype), torch.ones(len(low), dtype=low.dtype)
        for _ in range(_HALVINGS):
            t = (a + b) / 2
            x = low + t.reshape(wide) * (high - low)
            value = self._run(x)[gate.tensor].flatten(1).gather(1, element.unsqueeze(1)).squeeze(1)
            a, b = torch.where(value <= target, t, a), torch.where(value <= target, b, t)
        return self.region.inward(low + a.reshape(wide) * (high - low), self.dtype).double()


def _summed(values: Tensor, gate: Gate) -> Tensor:
    """Sums over each component's elements. Shapes: `(rows, *shape)` to `(rows, gate.size)`."""
    found = values.new_zeros((len(values), gate.size))
    return found.index_add(1, gate.group.flatten(), values.flatten(1))
