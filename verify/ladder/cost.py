"""What a rung will cost, before it is run: predicted from the graph's size, corrected by what this run has measured.

A prediction is `passes` through the graph (each costs an operator call a node, whatever its size) and `flops`. The two
constants are a desktop core's; `Speeds` learns, rung by rung, by what factor they are off here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

from bounds.ops.base import Affine
from bounds.query import Query
from verify.ladder.round import Tally

__all__ = ["Cost", "Work"]

_CALL_S = 2e-5
_FLOP_S = 5e-10

_OPEN = 0.2
"""Share of elementwise units taken to be open before anything is known."""


@dataclass(frozen=True, slots=True)
class Work:
    """Passes through a graph, and multiply-adds in all."""

    passes: float
    flops: float


@dataclass(frozen=True)
class Cost:
    """Predicted work on one query, and seconds for it at the speed measured in this run."""

    query: Query
    tally: Tally

    @cached_property
    def forward(self) -> float:
        """Multiply-adds of one evaluation of the graph."""
        size = 0
        for node in self.query.graph.nodes:
            terms = max(1, node.op.terms) if isinstance(node.op, Affine) else 1
            size += terms * math.prod(node.shape)
        return float(size)

    @cached_property
    def _rows(self) -> float:
        """Rows that are pulled back through the graph for one circuit, half of the way on average."""
        return len(self.query.margins.offset) + _OPEN * self._units

    @cached_property
    def _units(self) -> int:
        return sum(math.prod(node.shape) for node in self.query.graph.nodes if not isinstance(node.op, Affine))

    def evaluations(self, rows: int, calls: int) -> Work:
        """Both halves at `rows` points altogether, in `calls` batches."""
        return Work(2 * calls, 2 * rows * self.forward)

    def bounds(self, method: str, circuits: int) -> Work:
        """Bounds of a native method: what linear bounds pull back once, the difference domain does four times for two
        streams, in three mixes."""
        layers = sum(not isinstance(node.op, Affine) for node in self.query.graph.nodes) + 1
        if method == "interval":
            return Work(4, 8 * circuits * self.forward)
        linear = Work(4 + 4 * layers, circuits * self._rows * self.forward)
        return linear if method == "linear" else Work(6 * linear.passes, 8 * linear.flops)

    def program(self, circuits: int, most: int) -> Work:
        """An exact program each, of at most `most` open signs: some two relaxations an open sign, each of a few hundred
        multiply-adds a coefficient of both halves."""
        steps = 10 + 2 * min(most, _OPEN * 2 * self._units)
        return Work(circuits * (10 + steps), circuits * steps * 500 * self.forward)

    def seconds(self, name: str, work: Work) -> float:
        """How long a rung is predicted to take."""
        raw = work.passes * len(self.query.graph.nodes) * _CALL_S + work.flops * _FLOP_S
        return raw * self.tally.speeds.get(name, 1.0)

    def learn(self, name: str, work: Work, took_s: float) -> None:
        """Take note of how long it took: half of the surprise, on a log scale, corrects the next prediction."""
        predicted = self.seconds(name, work)
        if took_s > 0 and predicted > 0:
            held = self.tally.speeds.get(name, 1.0)
            self.tally.speeds[name] = held * math.sqrt(took_s / predicted)
