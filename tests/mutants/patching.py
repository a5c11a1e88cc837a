"""Unsound answers about patched values: where they come from, and what they make monotone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from torch import Tensor

from bounds.domains import linear, refine
from bounds.domains.trace import Trace
from bounds.graph import Graph
from bounds.region import Box
from specs import monotone, reach
from tests.mutants.planting import Patch, changed, mutant


@mutant("bound")
def second_run_forgotten(patch: Patch) -> None:
    def wrong(original: Any, trace: Trace, pending: dict[str, Tensor], name: str, part: Tensor, error: Tensor) -> None:
        if not name.endswith("'"):
            original(trace, pending, name, part, error)

    changed(patch, linear, "added", wrong)


@mutant("trace")
def patched_from_the_first_run(patch: Patch) -> None:
    def wrong(trace: Trace) -> Mapping[str, Box]:
        assert trace.gates is not None and trace.model is not None
        given = {g.tensor: Box(g.patch.lower.unsqueeze(0), g.patch.upper.unsqueeze(0)) for g in trace.gates.gates}
        return given | {name: trace.model.read[name] for name in trace.sources}

    patch.setattr(Trace, "patch", property(wrong))


@mutant("monotone")
def boxes_called_closed_unseen(patch: Patch) -> None:
    changed(patch, monotone, "_stays", lambda original, query: True)


@mutant("monotone")
def what_is_upstream_overlooked(patch: Patch) -> None:
    changed(patch, monotone, "_upstream", lambda original, query: None)


@mutant("monotone")
def closure_by_bounds_of_the_model_alone(patch: Patch) -> None:
    """Linear bounds are tighter than intervals; but patched values leave them."""

    def wrong(original: Any, graph: Graph, box: Box, tensors: Iterable[str]) -> dict[str, Box]:
        known = refine.model_trace(graph, box, 1 << 24).value
        return {name: Box(known[name].lower[0], known[name].upper[0]) for name in tensors}

    changed(patch, reach, "closure", wrong)
