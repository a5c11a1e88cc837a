"""The exact reference itself, and every native bound against it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, note
from hypothesis import strategies as st
from torch import Tensor

from bounds.backends.native import Native
from bounds.build import Builder
from bounds.gates import Gate, Gates
from bounds.ops import Relu
from bounds.query import Query
from bounds.region import Box
from specs.agreement import Logits
from specs.margins import agreement_margins
from specs.strategies import cases, describe, graphs, piecewise, queries
from tests.exact.patterns import TooLarge, exact_margin
from tests.laws.evaluation import run
from tests.laws.examples import share

Case = tuple[Query, Tensor]


SMALL = queries(
    graphs(layouts=("vector",), of=piecewise(), max_blocks=2, max_size=4, max_outputs=2,
           blocks=("dense", "scale", "residual", "concat", "split")),
    kinds=("box", "hull"), max_gates=2,
)  # fmt: skip


def _exact(query: Query, mask: Tensor) -> float | None:
    try:
        return exact_margin(query, mask, pieces=200)
    except (TooLarge, NotImplementedError):
        return None


def test_a_case_done_by_hand() -> None:
    """`f(x) = relu(x) - relu(x - 1)` over [-1, 3], its second unit patched with [0, 0.5]: the difference is `relu(x - 1) - a`,
    between -0.5 (at x <= 1, a = 0.5) and 2 (at x = 3, a = 0)."""
    b = Builder("x", (1, 1))
    b.dense("x", torch.tensor([[1.0], [1.0]]), torch.tensor([0.0, -1.0]), name="h")
    b.elementwise(Relu(), "h", name="r")
    b.dense("r", torch.tensor([[1.0, -1.0]]), name="y")
    patch = Box(torch.zeros((1, 2), dtype=torch.float64), torch.tensor([[0.0, 0.5]], dtype=torch.float64))
    gates = Gates((Gate("r", torch.tensor([[0, 1]]), 2, patch),))
    region = Box(torch.tensor([[-1.0]], dtype=torch.float64), torch.tensor([[3.0]], dtype=torch.float64))
    query = Query(b.build("y"), gates, region, agreement_margins(Logits(tolerance=3.0), (1, 1)))
    assert exact_margin(query, torch.tensor([True, False])) == pytest.approx(1.0, abs=1e-7)
    assert exact_margin(query, torch.tensor([True, True])) == pytest.approx(3.0, abs=1e-7)
    assert exact_margin(query, torch.tensor([False, False])) == pytest.approx(1.5, abs=1e-7)


@given(cases(SMALL, max_circuits=2), st.integers(0, 99))
def test_samples_are_above_it_and_bounds_below(case: Case, seed: int) -> None:
    """What is sampled is never below the exact margin, no native bound above it, and none is absurd: with nothing to relax (all
    units stable in both halves) linear bounds are exact."""
    query, masks = case
    note(describe(query, masks))
    points = run(query, masks, 64, seed)
    found = {method: Native(method=method).open(query).bound(masks).margin for method in ("interval", "linear", "difference")}
    for i, mask in enumerate(masks):
        exact = _exact(query, mask)
        if exact is None:
            continue
        model, circuit = (half.value[query.graph.output] for half in points[i])
        size = 1 + float(torch.stack([model.abs().max(), circuit.abs().max()]).max())
        sampled = float(query.margins.at(circuit, model).min())
        assert exact <= sampled + 1e-6 * size, f"the reference is not exact: {exact}, sampled {sampled}"
        for method, margin in found.items():
            assert float(margin[i]) <= exact + 1e-7 * size, f"{method}: {float(margin[i])} is above the exact margin {exact}"


@share(0.5)
@given(cases(SMALL, max_circuits=1))
def test_points_are_decided_exactly(case: Case) -> None:
    """Over one input and one patch value linear bounds and the exact answer are the value itself."""
    query, masks = case
    box = query.region.box()
    gates = tuple(Gate(g.tensor, g.group, g.size, Box(g.patch.lower, g.patch.lower)) for g in query.gates.gates)
    point = Query(query.graph, Gates(gates), Box(box.lower, box.lower), query.margins)
    note(describe(point, masks))
    model, circuit = (half.value[query.graph.output] for half in run(point, masks, 1, 0)[0])
    true = float(query.margins.at(circuit, model))
    size = 1 + float(torch.stack([model.abs().max(), circuit.abs().max()]).max())
    exact = _exact(point, masks[0])
    if exact is not None:
        assert exact == pytest.approx(true, abs=1e-6 * size)
    for method in ("linear", "difference"):
        assert float(Native(method=method).open(point).bound(masks).margin) == pytest.approx(true, abs=1e-6 * size)
