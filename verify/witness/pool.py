"""Points of a claim, and the margins of many circuits at them in batched forward passes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.gates import Gate, Gates
from bounds.graph import Graph
from bounds.query import Clauses, Query
from bounds.stem import Stem

__all__ = ["DEPTH", "Points", "WitnessPool", "circuit_outputs", "free_gates", "row_limit"]

DEPTH = 1e-5
"""A circuit counts as refuted below minus this share of the largest output: what is shallower may not survive the model's own
precision."""

_FIRST_BLOCK = 4
"""Points tried first on many circuits; then twice as many, and so on."""

_BUDGET_BYTES = 256 * 2**20
"""Working memory of one batched pass. A constant, not what happens to be free: chunking must not change from run to run."""


_CACHE_BYTES = 2 * 2**20
"""What one pass over many circuits works on at a time: measured, 3 times as fast as 64 MiB at a time on small networks."""

_LEAST_ROWS = 16


@dataclass(frozen=True, slots=True, eq=False)
class Points:
    """Inputs with the patch values that go with them. Shapes: `x` `(count, *input_shape)`; `patches` for each gated tensor
    whose patch box has a positive width `(count, *shape)`. Gates not named take their box's lower end (its only value)."""

    x: Tensor
    patches: Mapping[str, Tensor]

    def __len__(self) -> int:
        return len(self.x)

    def __getitem__(self, rows: Tensor | slice) -> Points:
        return Points(self.x[rows], {name: patch[rows] for name, patch in self.patches.items()})

    def detach(self) -> Points:
        return Points(self.x.detach(), {name: patch.detach() for name, patch in self.patches.items()})

    @staticmethod
    def join(parts: Sequence[Points]) -> Points:
        """One after another; all must name the same gates. Raises: ValueError for no parts."""
        if not parts:
            raise ValueError("no points to join")
        names = parts[0].patches
        return Points(torch.cat([part.x for part in parts]), {n: torch.cat([part.patches[n] for part in parts]) for n in names})


def free_gates(gates: Gates) -> tuple[Gate, ...]:
    """The gates that have a patch value to choose."""
    wide = [gate for gate in gates.gates if bool((gate.patch.lower < gate.patch.upper).any())]
    return tuple(gate for gate in wide if gate.source is None)


def row_limit(graph: Graph, gradients: bool = False, extra: int = 0) -> int:
    """Rows of one batched pass that stay within the working memory, at least 1. A function of the graph alone, and of `extra`
    numbers a row that the caller holds besides."""
    sizes = [math.prod(graph.input_shape), *(math.prod(node.shape) for node in graph.nodes)]
    per_row = ((4 if gradients else 2) * sum(sizes) + extra) * torch.finfo(graph.dtype).bits // 8
    return max(1, _BUDGET_BYTES // max(per_row, 1))


def circuit_outputs(query: Query, points: Points, masks: Tensor) -> Tensor:
    """`f_C` at points, one mask a row. Shapes: `masks` `(count, size)` or `(1, size)`; `(count, *output_shape)`.
    Differentiable; not chunked: the caller keeps within `row_limit`."""
    patches = {
        gate.tensor: points.patches[gate.tensor] if gate.tensor in points.patches else gate.patch.lower.unsqueeze(0)
        for gate in query.gates.gates
    }
    return query.graph.evaluate(points.x, query.gates, masks, patches)[query.graph.output]


class WitnessPool:
    """Points of *one claim* that once told a circuit from the model, kept to refute other circuits before any proof is tried.

    A point belongs to the region and patch boxes of its claim: never use one pool for two claims. When full, the points that
    refuted least go first, older ones before newer. Deterministic. `note` is told what is taken in.
    """

    def __init__(self, limit: int = 256, note: Callable[[Points], None] = lambda points: None) -> None:
        if limit < 1:
            raise ValueError("a pool holds at least one point")
        self.limit, self.note = limit, note
        self._points: Points | None = None
        self._hits = torch.zeros(0, dtype=torch.long)
        self._bound: _Bound | None = None

    def __len__(self) -> int:
        return 0 if self._points is None else len(self._points)

    @property
    def points(self) -> Points | None:
        """Everything held, oldest first, or None where there is nothing."""
        return self._points

    def add(self, points: Points) -> None:
        """Take points in. They must name the same gates as those already held."""
        points = points.detach()
        held = points if self._points is None else Points.join([self._points, points])
        hits = torch.cat([self._hits, torch.zeros(len(points), dtype=torch.long)])
        if len(held) > self.limit:
            ranked = sorted(((count, i) for i, count in enumerate(hits.tolist())), reverse=True)[: self.limit]
            kept = torch.tensor(sorted(i for _, i in ranked), dtype=torch.long)
            held, hits = held[kept.to(held.x.device)], hits[kept]
        self._points, self._hits, self._bound = held, hits, None
        self.note(points)

    @torch.no_grad()
    def evaluate(self, query: Query, masks: Tensor, rows: Tensor | None = None) -> Tensor:
        """The claim's margin at every point (or at those of `rows`) for every circuit: negative where the circuit is refuted,
        up to the float rounding of `query`'s precision (a witness must still be replayed).

        Shapes: `masks` `(K, size)` bool; `(points, K)`, zero rows where the pool is empty. Cost: points * K forward passes, in
        chunks; the model's own outputs are computed once and kept.
        """
        if self._points is None:
            return torch.zeros((0, len(masks)), dtype=query.graph.dtype, device=query.graph.device)
        margins = query.margins
        extra = margins.clauses.numel() if isinstance(margins, Clauses) else margins.offset.numel()
        held, bound = self._points, self._bound_to(query)
        asked = torch.arange(len(held)) if rows is None else rows
        device, limit = masks.device, _rows(bound.stem.numbers + extra, query.graph)
        fixed = {gate.tensor: gate.patch.lower.unsqueeze(0) for gate in query.gates.gates if gate.tensor not in held.patches}
        parts: list[Tensor] = []
        for start in range(0, len(asked) * len(masks), limit):
            flat = torch.arange(start, min(start + limit, len(asked) * len(masks)), device=device)
            at, of = asked.to(device)[flat // len(masks)], flat % len(masks)
            values = {name: value[at] for name, value in bound.values.items()}
            patches = fixed | {name: patch[at] for name, patch in held.patches.items()}
            outputs = bound.stem.outputs(values, masks[of], patches)
            parts.append(query.margins.at(outputs, bound.model[at]))
        found = torch.cat(parts).reshape(len(asked), len(masks)) if parts else bound.model.new_zeros((len(asked), 0))
        self._hits[asked] += (found < 0).sum(1).cpu()
        return found

    @torch.no_grad()
    def worst(self, query: Query, masks: Tensor) -> tuple[Tensor, Tensor]:
        """For each circuit the least margin met, and the point where; those that refuted most are tried first, and a circuit
        that is refuted by more than rounding is tried no further.

        Shapes: `masks` `(K, size)` bool; `(K,)` both, infinite and 0 where the pool is empty.
        """
        least = torch.full((len(masks),), torch.inf, dtype=query.graph.dtype, device=masks.device)
        where = torch.zeros(len(masks), dtype=torch.long, device=masks.device)
        if self._points is None:
            return least, where
        depth = DEPTH * (1 + float(self._bound_to(query).model.abs().max()))
        order = torch.argsort(self._hits, descending=True, stable=True)
        which = torch.arange(len(masks), device=masks.device)
        start, block = 0, _FIRST_BLOCK
        while start < len(order) and len(which):
            tried = order[start : start + block]
            margin, at = self.evaluate(query, masks[which], tried).min(0)
            better = margin < least[which]
            least[which] = torch.where(better, margin, least[which])
            where[which] = torch.where(better, tried.to(masks.device)[at], where[which])
            which = which[least[which] >= -depth]
            start, block = start + block, 2 * block
        return least, where

    def _bound_to(self, query: Query) -> _Bound:
        """The points as a query sees them, made anew when either changed."""
        assert self._points is not None
        if self._bound is None or self._bound.query is not query:
            stem, limit = Stem(query.graph, query.gates), row_limit(query.graph)
            parts = [stem.values(x) for x in self._points.x.split(limit)]
            values = {name: torch.cat([part[name] for part in parts]) for name in stem.names}
            model = torch.cat([query.graph(x) for x in self._points.x.split(limit)])
            self._bound = _Bound(query, stem, values, model)
        return self._bound


@dataclass(frozen=True, slots=True, eq=False)
class _Bound:
    """What all circuits share at the points of a pool: the tensors that no gate touches, and the model's outputs."""

    query: Query
    stem: Stem
    values: Mapping[str, Tensor]
    model: Tensor


def _rows(numbers: int, graph: Graph) -> int:
    """Rows of `numbers` each that fit the cache, or a few where not even these would."""
    row = 2 * numbers * torch.finfo(graph.dtype).bits // 8
    return max(1, min(_BUDGET_BYTES // row, max(_LEAST_ROWS, _CACHE_BYTES // row)))
