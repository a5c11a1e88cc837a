"""The rung for networks of few inputs: boxes of inputs, halved until every one is proven or holds a counterexample.

Only for questions without gates: with patch values there are more dimensions than a grid of boxes can cover.
Source: Bunel et al. 2018, arXiv:1711.00455; Wang et al. 2018 (ReluVal), arXiv:1804.10829.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from bounds.domains.boxes import bounded
from bounds.query import Query
from bounds.region import Box
from verify.ladder.round import Kind, Round
from verify.ladder.rungs import Rung
from verify.witness.attack import attack
from verify.witness.evidence import Evidence
from verify.witness.pool import Points
from verify.work.budget import Budget
from verify.work.memory import out_of_memory

__all__ = ["BoxRung", "Boxes"]

MOST_INPUTS = 8
"""Inputs that vary, at most."""

_SHARE = 0.7
"""Of the time left, at most. What is open then is open on many boxes; activation splits may still close it."""

_HELD = 1 << 21
"""Boxes waiting, at most. A depth-first order keeps to far fewer; more means that nothing closes."""

_BATCH_BYTES = 1 << 26

_WIDEST = 1024


class Boxes:
    """Boxes that cover a query's region, the deepest halved first. Shapes: ends of `waiting` `(boxes, *input_shape)`. `closed`
    is infinite where no box has been closed.

    Guarantees: the margin is at least `closed` on the boxes no longer waiting, in real arithmetic.
    """

    def __init__(self, query: Query) -> None:
        self.query = query
        box = query.region.box()
        self.waiting = Box(box.lower.unsqueeze(0), box.upper.unsqueeze(0))
        self.closed = math.inf
        widest = max(math.prod(node.shape) for node in query.graph.nodes)
        self.batch = max(2, min(2048, _BATCH_BYTES // (8 * 10 * widest * widest)))

    def step(self) -> tuple[Tensor, Tensor]:
        """Bound a batch of boxes, and halve those still open. Returns points of these where the margin may be negative, and its
        value there. Shapes: `(points, *input_shape)`, `(points,)`."""
        query = self.query
        taken = Box(self.waiting.lower[-self.batch :], self.waiting.upper[-self.batch :])
        rest = Box(self.waiting.lower[: -self.batch], self.waiting.upper[: -self.batch])
        single = len(taken.lower) == 1
        given = (
            Box(taken.lower.expand(2, *taken.lower.shape[1:]), taken.upper.expand(2, *taken.upper.shape[1:]))
            if single
            else taken
        )
        margins = query.margins
        common = margins.common
        found, slopes = bounded(query.graph, given, common)
        error = 4 * torch.finfo(found.dtype).eps * (found.abs() + margins.offset.abs())
        forms = found + margins.offset - error
        margin = margins.combine(forms)
        margin = torch.where(margin.isfinite(), margin, torch.full_like(margin, -torch.inf))
        if single:
            margin, forms, slopes = margin[:1], forms[:1], slopes[:1]
        proven = margin >= 0
        if bool(proven.any()):
            self.closed = min(self.closed, float(margin[proven].min()))
        open_ = ~proven
        left = Box(taken.lower[open_], taken.upper[open_])
        slope = slopes[open_]
        whole = _splittable(left)
        if not bool(whole.all()):
            # Points, or as good as: nothing more can be known of them by bounds.
            self.closed = min(self.closed, float(margin[open_][~whole].min()))
        corners = torch.where(slope.mean(1) > 0, left.lower, left.upper)
        points = torch.cat([left.center, corners])
        values = _margins(query, points)
        self.waiting = _joined(rest, _halved(Box(left.lower[whole], left.upper[whole]), slope[whole]))
        return points, values


class BoxRung(Rung):
    """Boxes of inputs of one question."""

    name, prior = "input splitting", 0.6
    kind: Kind = "split"

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence

    @staticmethod
    def fits(query: Query) -> bool:
        """Whether a query has no gates, few inputs that vary, and layers whose bounds are cheap."""
        box = query.region.box()
        few = not query.gates.gates and isinstance(query.region, Box) and int((box.lower < box.upper).sum()) <= MOST_INPUTS
        return few and max(math.prod(node.shape) for node in query.graph.nodes) <= _WIDEST

    def work(self, climbing: Round) -> None:
        """Nothing is known of it: it keeps its place, which is the last."""

    def run(self, climbing: Round, budget: Budget) -> None:
        evidence, part = self.evidence, budget.part(_SHARE)
        for i in climbing.open:
            boxes = Boxes(evidence.query)
            while len(boxes.waiting.lower) and not part.expired and len(boxes.waiting.lower) <= _HELD:
                try:
                    points, values = boxes.step()
                except (MemoryError, RuntimeError) as error:
                    if not out_of_memory(error) or boxes.batch == 1:
                        raise
                    boxes.batch //= 2
                    continue
                if not len(values):
                    continue
                at = int(values.argmin())
                self._try(climbing, i, points[at : at + 1], float(values[at]), boxes)
                if climbing.verdicts[i] is not None:
                    break
            if climbing.verdicts[i] is None and not len(boxes.waiting.lower):
                evidence.proved(climbing, i, boxes.closed, self.name)

    def _try(self, climbing: Round, i: int, point: Tensor, value: float, boxes: Boxes) -> None:
        """See whether a point, or what an attack makes of it, is a counterexample."""
        evidence = self.evidence
        evidence.seen(climbing, i, value, Points(point, {}))
        if climbing.verdicts[i] is not None or value >= climbing.seen[i]:
            return
        climbing.seen[i] = value
        found = attack(
            evidence.attackable, climbing.masks[i : i + 1].to(point.device), seed=evidence.seed, restarts=1, steps=20,
            starts=Points(point, {}),
        )  # fmt: skip
        evidence.seen(climbing, i, float(found.margin[0]), found.points[:1])


def _splittable(parts: Box) -> Tensor:
    """Whether some float lies between a box's ends, on some axis. Shape: `(boxes,)`."""
    return ((parts.lower < parts.center) & (parts.center < parts.upper)).flatten(1).any(1)


@torch.no_grad()
def _margins(query: Query, points: Tensor) -> Tensor:
    output = query.graph(points)
    return query.margins.at(output, output)


def _halved(parts: Box, slopes: Tensor) -> Box:
    """Both halves of each box, cut where its forms vary most."""
    if not len(parts.lower):
        return parts
    lower, upper = parts.lower.flatten(1), parts.upper.flatten(1)
    width = upper - lower
    rise = slopes.flatten(2).abs().amax(1)
    score = width * (rise + 1e-3 * rise.amax(1, keepdim=True) + 1e-30)
    middle = (lower + upper) / 2
    at = torch.where((lower < middle) & (middle < upper), score, -1.0).argmax(1, keepdim=True)
    cut = middle.gather(1, at)
    low, high = upper.scatter(1, at, cut), lower.scatter(1, at, cut)
    shape = (-1, *parts.lower.shape[1:])
    return Box(torch.cat([lower, high]).reshape(shape), torch.cat([low, upper]).reshape(shape))


def _joined(one: Box, other: Box) -> Box:
    return Box(torch.cat([one.lower, other.lower]), torch.cat([one.upper, other.upper]))
