"""Exact answers for small piecewise-linear networks: one program over the model and the circuit, branched on open signs.

A mixed-integer program in the way it is solved: every activation that bounds leave open is on one side or the other. Instead of
handing that to a mixed-integer solver, whose integrality, feasibility and presolve tolerances a proof would rest on, the
branching is done here: HiGHS solves linear relaxations from warm starts, and every bound is computed anew from its multipliers
in outward-rounded arithmetic (`bounds.backends.relaxation`). Measured on the bundled and the small literature networks this is
also faster than HiGHS's own mixed-integer solver, which proves an optimum where only a sign is asked for.

Source: Tjeng, Xiao, Tedrake 2019, arXiv:1711.07356 (the program); Neumaier, Shcherbina 2004 (the safe bounds).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor

from bounds.backends.base import Backend, BackendRefusal, Bounder
from bounds.backends.encode import Encoding, TooLarge, encode
from bounds.backends.native import Native, NativeBounder
from bounds.backends.program import Array, Index
from bounds.backends.relaxation import Relaxation
from bounds.domains.refine import circuit_trace
from bounds.domains.sharpen import difference_trace
from bounds.ops.base import Affine
from bounds.ops.relu import LeakyRelu
from bounds.query import Bound, Clauses, Norm, Query
from bounds.region import Box, Hull
from bounds.stack import Stack

__all__ = ["Candidate", "Milp", "MilpBounder", "Search", "goals_of", "refusal"]

_GAP = 1e-7
"""How far, relative to its size, a least value may lie above the bound proven of it before the search for it ends."""

_FLAT = 1e-10
"""A relaxation that misses an activation by no more than this, relative, does not miss it."""

_MEMORY = 1 << 28


def refusal(query: Query) -> str | None:
    """Why a query has no exact program here; None where it has one."""
    for node in query.graph.nodes:
        if not isinstance(node.op, Affine | LeakyRelu):
            return f"tensor {node.name!r}: milp has no exact form of {type(node.op).__name__}; use native"
    region = query.region
    if not all(isinstance(r, Box | Hull) for r in ((region.first, region.second) if isinstance(region, Stack) else (region,))):
        return "milp takes boxes and hulls of inputs only; use native"
    margins = query.margins
    if not isinstance(margins, Clauses) and not (isinstance(margins, Norm) and margins.order == 1):
        return "milp takes margins in clauses and in the L1 norm only; use native"
    return None


def goals_of(query: Query) -> list[list[int]]:
    """Numbers of the forms that make up each goal: a clause each, or all of a norm's."""
    margins = query.margins
    if isinstance(margins, Clauses):
        return [list(dict.fromkeys(clause)) for clause in margins.clauses.tolist()]
    return [list(range(len(margins.offset)))]


@dataclass(frozen=True, slots=True, eq=False)
class Candidate:
    """A point of the claim and the goal's value there, as evaluated in float64. Shapes: `x` `(1, *input_shape)`; `patches` for
    each gated tensor `(1, *shape)`."""

    x: Tensor
    patches: dict[str, Tensor]
    value: float


@dataclass(frozen=True, slots=True, eq=False)
class _Node:
    path: tuple[tuple[int, int], ...]
    bound: float


class Search:
    """Branch and bound on one goal of one circuit: a depth-first tree over the kinks, the relaxation's side first.

    Guarantees: at any moment the goal is at least `bound` on the whole claim, in real arithmetic. With `sign` the search ends
    as soon as the sign is known (`bound >= 0`, or a candidate below 0); without, when bound and best candidate meet. It also
    ends where nothing is left to split; then `bound` may lie a rounding below 0. Shapes: `known` `(forms,)`, lower bounds of
    all forms. Cost of a step: one warm-started simplex run and one evaluation of both halves. Deterministic.
    """

    def __init__(self, query: Query, mask: Tensor, encoding: Encoding, forms: Sequence[int], known: Tensor, sign: bool) -> None:
        self.query, self.mask, self.encoding, self.forms, self.sign = query, mask, encoding, list(forms), sign
        self.goal = encoding.goal(query.margins, forms, known.double().cpu().numpy())
        self.relaxation = Relaxation(self.goal)
        self.best: Candidate | None = None
        self.steps = 0
        start = query.margins.combine(known) if isinstance(query.margins, Norm) else known[self.forms].amax()
        self._stack = [_Node((), float(start))]
        self._closed = math.inf

    @property
    def bound(self) -> float:
        """The least value proven so far."""
        return min(self._closed, min((node.bound for node in self._stack), default=math.inf))

    @property
    def done(self) -> bool:
        """Whether nothing more would come of it."""
        return not self._stack or (self.sign and self.best is not None and self.best.value < 0)

    @property
    def _cutoff(self) -> float:
        best = math.inf if self.best is None else self.best.value
        return min(0.0, best) if self.sign else best - _GAP * (1 + abs(best)) if best < math.inf else math.inf

    def run(self, expired: Callable[[], bool]) -> None:
        """Step until done or `expired`."""
        while not self.done and not expired():
            self.step(expired)

    def step(self, expired: Callable[[], bool]) -> None:
        """Bound the part on top of the stack, and split it if it stays open."""
        node = self._stack.pop()
        if node.bound >= self._cutoff:
            self._close(node.bound)
            return
        self.steps += 1
        ends = self._ends(node.path)
        solved = self.relaxation.solve(*ends, self._cutoff, expired)
        bound = max(node.bound, solved.bound)
        if solved.point is not None and bound < self._cutoff:
            self._look(solved.point)
        if bound >= self._cutoff:
            self._close(bound)
        elif solved.point is None and expired():
            self._stack.append(_Node(node.path, bound))
        elif (split := self._split(ends, solved.point, solved.multipliers)) is None:
            self._closed = min(self._closed, bound)
        else:
            kink, side = split
            self._stack += [_Node((*node.path, (kink, s)), bound) for s in (-side, side)]

    def _close(self, bound: float) -> None:
        self._closed = min(self._closed, bound)

    def _ends(self, path: Sequence[tuple[int, int]]) -> tuple[Array, Array, Array, Array]:
        """Ends of columns and rows where the kinks of a path keep to their sides."""
        goal, kinks = self.goal, self.goal.kinks
        ends = goal.lower.copy(), goal.upper.copy(), goal.low.copy(), goal.high.copy()
        lower, upper, low, high = ends
        for kink, side in path:
            x = kinks.x[kink]
            row = kinks.line[kink] if side > 0 else kinks.flat[kink]
            if side > 0:
                lower[x] = max(lower[x], 0.0)
            else:
                upper[x] = min(upper[x], 0.0)
            low[row] = high[row] = 0.0
        return ends

    def _split(self, ends: tuple[Array, Array, Array, Array], point: Array | None, y: Array | None) -> tuple[int, int] | None:
        """The kink that the relaxation misses most, by what its rows weigh in the proof; and the side that it prefers."""
        kinks = self.goal.kinks
        open_ = (ends[0][kinks.x] < 0) & (ends[1][kinks.x] > 0)
        if not open_.any():
            return None
        if point is None or y is None:
            width = np.minimum(-ends[0][kinks.x], ends[1][kinks.x])
            return int(np.where(open_, width, -np.inf).argmax()), 1
        true = kinks.value(point)
        missed = abs(point[kinks.v] - true)
        weight = abs(y[kinks.line]) + abs(y[kinks.flat]) + abs(y[kinks.chord])
        score = np.where(missed > _FLAT * (1 + abs(true)), missed * (weight + 1e-3 * weight.max() + 1e-9), 0.0)
        if not (score * open_).any():  # a point of the claim, but for rounding: what is open may still hide a lower one
            score = weight + 1e-12
        kink = int(np.where(open_, score, -1.0).argmax())
        return kink, 1 if point[kinks.x[kink]] > 0 else -1

    @torch.no_grad()
    def _look(self, point: Array) -> None:
        """Evaluate both halves at the relaxation's input and patch values."""
        query = self.query
        x = query.region.project(_at(point, self.encoding.input, query.graph.input_shape, query.region.box().center.double()))
        patches: dict[str, Tensor] = {}
        for gate in query.gates.gates:
            if gate.tensor in self.encoding.patches and gate.source is None:
                held = _at(point, self.encoding.patches[gate.tensor], gate.group.shape, gate.patch.lower.double())
                patches[gate.tensor] = gate.patch.project(held)
            elif gate.source is None:
                patches[gate.tensor] = gate.patch.lower.unsqueeze(0)
        forms = query.margins.forms(
            query.graph.evaluate(x, query.gates, self.mask, patches)[query.graph.output], query.graph(x)
        )
        value = float(forms[0, self.forms].amax() if isinstance(query.margins, Clauses) else query.margins.combine(forms)[0])
        if value < (math.inf if self.best is None else self.best.value):
            self.best = Candidate(x, patches, value)


def _at(point: Array, columns: Index, shape: Sequence[int], otherwise: Tensor) -> Tensor:
    """A tensor from its columns; elements without one are as in `otherwise`. Shape: `(1, *shape)`."""
    values = np.where(columns >= 0, point[columns], otherwise.flatten().cpu().numpy())
    return torch.from_numpy(values).reshape(1, *shape)


@dataclass(frozen=True, slots=True)
class Milp(Backend):
    """The least value of every goal, in at most `time_s` seconds a goal.

    Guarantees: bounds that hold in real arithmetic whatever the solver did: nothing rests on its tolerances (see
    `bounds.backends.relaxation`). Where the time suffices, a bound is within 1e-7, relative, of a point's value, but for the
    network's own rounding. Takes affine operators, ReLU and LeakyReLU; boxes and hulls of inputs; clauses and the L1 norm.
    Programs over `entries` coefficients are not made: then, as where the time does not suffice, the bound is the best proven,
    never a guess.
    """

    name: ClassVar[str] = "milp"
    time_s: float = 30.0
    entries: int = 1 << 22

    def open(self, query: Query) -> MilpBounder:
        if (why := refusal(query)) is not None:
            raise BackendRefusal(why)
        return MilpBounder(query.to(torch.float64, torch.device("cpu")), self)


@dataclass(frozen=True, eq=False)
class MilpBounder(Bounder):
    """One query; the native backend's bounds of the model are kept between circuits."""

    query: Query
    options: Milp

    @cached_property
    def _native(self) -> NativeBounder:
        return Native("difference").open(self.query)

    def bound(self, masks: Tensor) -> Bound:
        """As `Bounder.bound`; `forms` are what cheaper bounds prove of them, `margin` is the exact one's."""
        known = self._native.bound(masks)
        margins = [self._margin(mask.unsqueeze(0), forms) for mask, forms in zip(masks, known.forms, strict=True)]
        exact = torch.tensor(margins, dtype=torch.float64)
        return Bound(known.forms, torch.maximum(known.margin, exact))

    def _margin(self, mask: Tensor, forms: Tensor) -> float:
        circuit = difference_trace(circuit_trace(self._native.model, self.query.gates, mask, _MEMORY), _MEMORY)
        try:
            encoding = encode(circuit, self.query.margins, self.options.entries)
        except TooLarge:
            return -math.inf
        least = math.inf
        for goal in goals_of(self.query):
            search = Search(self.query, mask, encoding, goal, forms, sign=False)
            until = time.monotonic() + self.options.time_s
            search.run(lambda until=until: time.monotonic() > until)
            least = min(least, search.bound)
        return least
