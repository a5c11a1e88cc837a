"""Laws of monotonicity: what a component of a monotone claim computes is a value that it may be patched with."""

from __future__ import annotations

from dataclasses import replace

import torch

from bounds.gates import Gates
from bounds.query import Query
from bounds.region import Box, Region
from specs import patching as records
from specs.monotone import monotonicity
from specs.reach import patched_from
from tests.laws.evaluation import run

__all__ = ["check_monotone", "continuous"]


def continuous(query: Query) -> list[tuple[records.Patching, Query, Region | None]]:
    """A query's graph, gates and region under the kinds of patching that may be monotone."""
    plain = replace(query, gates=Gates(tuple(replace(gate, source=None) for gate in query.gates.gates)))
    box = query.region.box()
    wide = Box(box.lower - 0.125, box.upper + 0.125)
    closed, resample = records.Closed.model_construct(), records.Resample.model_construct()
    found: list[tuple[records.Patching, Query, Region | None]] = [(records.Box.model_construct(), plain, None)]
    for record, second in ((closed, wide), (resample, query.region), (resample, wide)):
        found.append((record, patched_from(record, plain, second, file="spec"), second))
    closing = found[1][1]
    found.append((records.Box.model_construct(), closing, None))
    # Boxes that would be closed if a component's own were not upstream of others.
    narrow = tuple(replace(g, patch=Box(g.patch.lower, g.patch.upper)) for g in found[2][1].gates.gates)
    found.append((records.Box.model_construct(), replace(plain, gates=Gates(narrow)), None))
    return found


def check_monotone(query: Query, seed: int, count: int = 32) -> int:
    """Every computed value of every gated tensor is in its patch box, in random circuits, wherever a claim is called monotone:
    so a smaller circuit can be patched to do the same. How many claims were."""
    said = 0
    generator = torch.Generator().manual_seed(seed)
    for patching, asked, second in continuous(query):
        known = monotonicity(patching, asked, second)
        if not known.known:
            continue
        said += 1
        masks = torch.rand((3, asked.gates.size), generator=generator) < torch.tensor([[0.2], [0.5], [0.8]])
        for _, circuit in run(asked, masks, count, seed):
            for gate in asked.gates.gates:
                value, error = circuit.value[gate.tensor], circuit.error[gate.tensor] * (1 + 1e-6)
                inside = (gate.patch.lower - error <= value) & (value <= gate.patch.upper + error)
                assert bool(inside.all()), f"{known.reason}: {gate.tensor} computes what it may not be patched with"
    return said
