"""The enumeration rung: every point of a finite region, evaluated with its rounding enclosed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bounds.domains import interval, points
from bounds.enumeration import Enumeration, PointBoxes, enumeration
from bounds.narrow import apart, narrowed
from bounds.query import Bound, Clauses, Query
from bounds.stem import Stem
from verify.ladder.cost import Cost, Work
from verify.ladder.round import Round
from verify.ladder.rungs import Rung
from verify.witness.evidence import Evidence
from verify.witness.pool import Points, free_gates
from verify.work.budget import Budget, TimeUp

__all__ = ["EnumerationRung"]

_MOST = 1 << 24
"""Regions of more points are not looked at one by one."""

_BYTES = 1 << 26
"""Working memory of one batch of points."""

_SHARP = 64
"""Points bounded backwards together."""

_SHARE = 0.5
"""Of the time left that goes into these, at most."""

_PASSES = 6
"""What an interval evaluation costs, in evaluations; and one to look for a violation first."""


class EnumerationRung(Rung):
    """Looks at every point: first for one that violates the claim, in floats, then at all with rounding enclosed.

    It decides all circuits whose patched values are given at a point, but for margins within rounding of zero: in intervals,
    and where these have grown too wide, as they do in deep networks, by backward bounds at the point. Where patched values are
    free inside boxes it proves what intervals can.
    """

    name, kind, prior = "enumeration", "exact", 0.99

    def __init__(self, evidence: Evidence, cost: Cost) -> None:
        self.evidence, self.cost = evidence, cost
        self.query = evidence.query
        found = enumeration(evidence.query.region)
        assert found is not None
        self.all: Enumeration = found

    @staticmethod
    def fits(query: Query) -> bool:
        """Whether a query's region has finitely many points, and not too many."""
        found = enumeration(query.region)
        return found is not None and found.count <= _MOST

    def work(self, climbing: Round) -> Work:
        rows = self.all.count * (1 + len(climbing.open)) * (1 + _PASSES) // 2
        return self.cost.evaluations(rows, math.ceil(self.all.count / self._together))

    @property
    def _together(self) -> int:
        """Points in one batch."""
        graph, margins = self.query.graph, self.query.margins
        numbers = 2 * sum(math.prod(node.shape) for node in graph.nodes)
        numbers += margins.clauses.numel() if isinstance(margins, Clauses) else 2 * len(margins.offset)
        return max(1, min(self.all.count, _BYTES // (8 * numbers)))

    def run(self, climbing: Round, budget: Budget) -> None:
        self._look(climbing, budget)
        sharpening = budget.part(_SHARE)
        if not climbing.open:
            return
        query, masks = _left(self.query, climbing)
        proofs = {i: _Proof(query, mask) for i, mask in masks.items()}
        boxes, margins = PointBoxes(query.graph, query.gates), query.margins
        for x in self._batches(budget):
            values = boxes.values(x)
            model = interval.least(margins.model, values[query.graph.output])
            for proof in proofs.values():
                proof.bound(interval.least(margins.circuit, boxes.outputs(values, proof.mask)), model)
            if not free_gates(query.gates):
                self._sharpen(query, x, list(proofs.values()), sharpening)
            for proof in proofs.values():
                proof.take()
        for i, proof in proofs.items():
            assert proof.forms is not None and proof.margin is not None
            self.evidence.bounded(climbing, [i], Bound(proof.forms.unsqueeze(0), proof.margin.unsqueeze(0)), self.name)

    def _sharpen(self, query: Query, x: Tensor, proofs: Sequence[_Proof], allowed: Budget) -> None:
        """Bound anew the points of a batch at which a proof would fail. One that fails then too, or that is not done when the
        time for it is over, is given up."""
        margins, output = query.margins, query.graph.output
        for at in torch.stack([proof.failing for proof in proofs]).any(0).nonzero().squeeze(1).split(_SHARP):
            asking = [proof for proof in proofs if bool(proof.failing[at].any())]
            if not asking:
                continue
            if allowed.expired:
                for proof in asking:
                    proof.give_up()
                continue
            at = at if len(at) > 1 else at.repeat(2)
            trace = points.of_model(query.graph, x[at])
            model = points.least(trace, output, margins.model)
            for proof in asking:
                circuit = points.of_circuit(trace, query.gates, proof.mask)
                proof.sharpen(at, points.least(circuit, output, margins.circuit), model)

    def _batches(self, budget: Budget) -> Iterator[Tensor]:
        for start in range(0, self.all.count, self._together):
            if budget.expired:
                raise TimeUp
            yield self.all.points(start, min(self.all.count, start + self._together)).to(self.query.graph.device)

    @torch.no_grad()
    def _look(self, climbing: Round, budget: Budget) -> None:
        """Evaluate every point in floats; the worst of each batch is tried on the original."""
        gates = self.evidence.attackable.gates
        patches = {gate.tensor: gate.patch.lower.unsqueeze(0) for gate in gates.gates}
        free = {gate.tensor: patches[gate.tensor] for gate in free_gates(gates)}
        query, masks = _left(self.evidence.attackable, climbing)
        stem, own = Stem(query.graph, query.gates), {gate.tensor: patches[gate.tensor] for gate in query.gates.gates}
        for x in self._batches(budget):
            values = stem.values(x)
            model = values[query.graph.output] if query.graph.output in values else query.graph(x)
            for i in climbing.open:
                circuit = stem.outputs(values, masks[i], own)
                margin = query.margins.at(circuit.expand_as(model), model)
                at = int(margin.argmin())
                self.evidence.seen(climbing, i, float(margin[at]), Points(x[at : at + 1], free))
            if not climbing.open:
                return


def _left(query: Query, climbing: Round) -> tuple[Query, dict[int, Tensor]]:
    """What is left of a query where the open circuits read the same edges whole, and each of these there."""
    masks = climbing.masks[climbing.open].to(query.graph.device)
    left = narrowed(query, torch.stack([whole for _, whole in apart(query, masks)]).all(0))
    own = masks if left is None else masks[:, left.columns]
    return (query if left is None else left.query), dict(zip(climbing.open, own.split(1), strict=True))


@dataclass(slots=True, eq=False)
class _Proof:
    """Lower bounds of one circuit's forms, and of its margin, over the points taken so far, and at those of a batch. Shapes:
    `forms` `(forms,)`, `margin` `()`; `here` `(points, forms)`, `failing` `(points,)`."""

    query: Query
    mask: Tensor
    forms: Tensor | None = None
    margin: Tensor | None = None
    here: Tensor = field(default_factory=lambda: torch.zeros(0))
    failing: Tensor = field(default_factory=lambda: torch.zeros(0, dtype=torch.bool))
    lost: bool = False

    def bound(self, circuit: Tensor, model: Tensor) -> None:
        """Take note of a batch of points, by lower bounds of both halves of the forms. Shapes: `(points, forms)`."""
        self.here = self._forms(circuit, model)
        self.failing = self._fails()

    def sharpen(self, at: Tensor, circuit: Tensor, model: Tensor) -> None:
        """Take note of better bounds at some points of the batch."""
        self.here[at] = torch.fmax(self.here[at], self._forms(circuit, model))
        self.lost = not bool((Bound.of(self.query.margins, self.here[at]).margin >= 0).all())
        self.failing = self._fails()

    def give_up(self) -> None:
        """Ask for no better bounds any more."""
        self.lost = True
        self.failing = self._fails()

    def take(self) -> None:
        """Be done with the batch."""
        bound = Bound.of(self.query.margins, self.here)
        forms, margin = bound.forms.amin(0), bound.margin.amin(0)
        self.forms = forms if self.forms is None else torch.minimum(self.forms, forms)
        self.margin = margin if self.margin is None else torch.minimum(self.margin, margin)

    def _fails(self) -> Tensor:
        """Points at which it is worth a better bound."""
        fails = ~(Bound.of(self.query.margins, self.here).margin >= 0)
        return torch.zeros_like(fails) if self.lost else fails

    def _forms(self, circuit: Tensor, model: Tensor) -> Tensor:
        margins = self.query.margins
        total = circuit + model + margins.offset
        return total - 4 * torch.finfo(total.dtype).eps * (circuit.abs() + model.abs() + margins.offset.abs())
