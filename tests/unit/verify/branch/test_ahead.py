"""Looking ahead: what is seen in single precision is what is there."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from bounds.backends.native import Native
from bounds.domains.difference import Pair
from bounds.domains.slopes import tune
from bounds.domains.split import Limits, split_trace
from bounds.domains.trace import Trace
from bounds.graph import Graph
from bounds.query import Query
from bounds.region import Box
from tests.nets import asked, net
from verify.branch.ahead import Ahead, least_of
from verify.branch.goals import goals, stacked
from verify.branch.splits import Split, candidates

NONE = Limits({}, {})


def wide(folder: Path) -> tuple[Query, torch.Tensor]:
    """A question about a network of many large inputs, where rounding in single precision costs more than a split gains."""
    rng = np.random.default_rng(0)
    center = rng.uniform(10, 20, size=3000).astype(np.float32)
    weights = [rng.normal(size=(o, i)) / np.sqrt(i) for o, i in ((24, 3000), (12, 24), (3, 12))]
    biases = [-weights[0] @ center, rng.normal(size=12) / 4, np.zeros(3)]
    model = net(folder, list(zip(weights, biases, strict=True)))
    problem = asked(model, {"kind": "linf", "center": center.tolist(), "epsilon": 0.002}, tolerance=0.03)
    mask = torch.ones_like(problem.mask)
    mask[0, [1, 5]] = False
    return problem.claims[0].query, mask


def looks(query: Query, mask: torch.Tensor, dtype: torch.dtype) -> tuple[list[list[Split]], list[list[Split]]]:
    """Candidate splits of each goal, the least likely first, and as they are ranked."""
    base = Native("difference").open(query).trace(mask)
    rows = goals(query.margins)
    forms, (trace, _) = stacked(query.margins, rows), split_trace(base, NONE, len(rows))
    result = tune(trace, NONE, forms.p, forms.q, forms.combine, 8)
    found = [likely[::-1] for likely in candidates(trace, result, 12, dict.fromkeys(range(len(rows)), ()))]
    return found, Ahead(base.to(dtype)).ranked(NONE, forms, result, found)


def test_small_gains_are_seen_in_single_precision(tmp_path: Path) -> None:
    query, mask = wide(tmp_path)
    found, exact = looks(query, mask, torch.float64)
    _, rough = looks(query, mask, torch.float32)
    assert any(given[0] not in ranked[:2] for given, ranked in zip(found, exact, strict=True)), "the order was good already"
    for precise, single in zip(exact, rough, strict=True):
        assert single[0] in precise[:2]


def test_a_constraint_counts_for_what_it_excludes() -> None:
    """`x1 + x2` over `[-1, 1]^2` where `x1 >= 0`: no relaxation says that it is at least -1, only the multiplier does."""
    one = torch.ones(1, 2, dtype=torch.float64)
    graph = Graph("x", (2,), (), "x")
    trace = Trace(graph, Box(-one[0], one[0]))
    trace.read["x"] = Box(-one, one)
    pair = Pair({"x": one[None]}, {}, torch.zeros(1, 1, dtype=torch.float64), torch.zeros(1, 1, dtype=torch.float64))
    above = torch.tensor([[1.0, 0.0]], dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    assert float(least_of(trace, pair, None)) == pytest.approx(-2)
    assert -1.05 < float(least_of(trace, pair, above)) <= -1
