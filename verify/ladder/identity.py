"""The identity rung: a circuit that replaces nothing is the model, and forms in which the two cancel are their offsets."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.query import Bound, Query
from verify.ladder.cost import Work
from verify.ladder.round import Kind, Round
from verify.ladder.rungs import Rung
from verify.witness.evidence import Evidence
from verify.work.budget import Budget

__all__ = ["IdentityRung", "whole"]


class IdentityRung(Rung):
    """Decides circuits that keep every element of every gate, of claims that hold wherever circuit and model agree.

    Guarantees: exact. Such a circuit computes the model's function, from the model's values: `f_C = f_G` in real numbers,
    whatever the region; so a form with `circuit = -model` is its offset, and no rounding enters, as it does in bounds of the
    two halves. Of other forms (those of a feature) nothing is known here. Cost: none to speak of.
    """

    name, prior = "identity", 0.1
    kind: Kind = "bound"

    def __init__(self, evidence: Evidence, which: list[int]) -> None:
        """`which`: the circuits that replace nothing, by number."""
        self.evidence, self.which = evidence, which

    def work(self, climbing: Round) -> Work:
        return Work(0, 0)

    def run(self, climbing: Round, budget: Budget) -> None:
        margins = self.evidence.claim.query.margins
        cancels = (margins.circuit == -margins.model).flatten(1).all(1)
        bound = Bound.of(margins, torch.where(cancels, margins.offset, -torch.inf))
        for i in self.which:
            if climbing.verdicts[i] is None and bound.margin.isfinite():
                self.evidence.proved(climbing, i, float(bound.margin), self.name)


def whole(query: Query, masks: Tensor) -> list[int]:
    """The circuits that keep all that they could replace. Shapes: `masks` `(circuits, gates.size)`."""
    kept = torch.ones(len(masks), dtype=torch.bool, device=masks.device)
    for part, gate in zip(masks.split([gate.size for gate in query.gates.gates], dim=1), query.gates.gates, strict=True):
        kept &= part[:, gate.group.unique().to(masks.device)].all(1)
    return kept.nonzero().squeeze(1).tolist()
