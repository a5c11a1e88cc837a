"""The law of shrinking: a query without its dead neurons has the same outputs, and its points are inside its boxes."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.build import Builder
from bounds.domains.shrink import shrink
from bounds.gates import Gate, Gates
from bounds.ops import Clip, LeakyRelu, Relu
from bounds.query import Query
from bounds.region import Box
from specs.agreement import Logits
from specs.margins import agreement_margins
from tests.laws.evaluation import run
from tests.laws.trace import check_inside, traces

__all__ = ["check_shrink", "dense_case"]


def dense_case(seed: int) -> tuple[Query, Tensor]:
    """Two hidden dense layers over a small region, so that many neurons never fire; each gate patches zero, a constant or a
    box. The same for a seed."""
    generator = torch.Generator().manual_seed(seed)

    def random(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).double()

    op = (Relu(), LeakyRelu(0.0), Clip(0.0, 1.0))[seed % 3]
    b = Builder("x", (1, 3))
    b.dense("x", random(10, 3), random(10), name="h1")
    b.elementwise(op, "h1", name="r1")
    b.dense("r1", random(8, 10) / 2, random(8), name="h2")
    b.elementwise(op, "h2", name="r2")
    b.dense("r2", random(2, 8), name="y")
    gates: list[Gate] = []
    for i, (name, size) in enumerate((("r1", 10), ("r2", 8))):
        middle = random(1, size).relu() * ((seed + i) % 3 > 0)
        radius = random(1, size).abs() * ((seed + i) % 3 > 1)
        gates.append(Gate(name, torch.arange(size).reshape(1, size), size, Box(middle - radius, middle + radius)))
    center = random(1, 3)
    region = Box(center - 0.2, center + 0.2)
    query = Query(b.build("y"), Gates(tuple(gates)), region, agreement_margins(Logits(tolerance=0.5), (1, 2)))
    return query, torch.rand(18, generator=generator) < 0.7


def check_shrink(query: Query, mask: Tensor, seed: int, count: int = 32) -> int:
    """Compare outputs at sampled points, patched values at the middle of their boxes; returns how many elements went."""
    reduced, trace = shrink(query, traces(query, mask.unsqueeze(0))["difference"], worth=1)
    assert trace.model is not None
    model, circuit = run(reduced, mask.unsqueeze(0), count, seed)[0]
    check_inside("shrunken model", trace.model, 0, model)
    check_inside("shrunken", trace, 0, circuit, model)
    x, output = model.value[query.graph.input], query.graph.output
    masks = mask.expand(count, -1)
    error = model.error[output] + circuit.error[output] + 1e-9
    before, after = (
        q.graph.evaluate(x, q.gates, masks, {g.tensor: g.patch.center.expand(count, *g.patch.shape) for g in q.gates.gates})
        for q in (query, reduced)
    )
    assert bool(((query.graph(x) - reduced.graph(x)).abs() <= error).all()), "the model's output changed"
    assert bool(((before[output] - after[output]).abs() <= error).all()), "the circuit's output changed"
    return sum(a.shape[-1] - b.shape[-1] for a, b in zip(query.graph.nodes, reduced.graph.nodes, strict=True))
