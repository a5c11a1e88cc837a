"""Laws of subproblems: what keeps to the constraints is inside every box, and no lower than the tuned bound."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.domains.slopes import tune
from bounds.domains.split import Limits, split_trace
from bounds.ops.base import Joint, Nonlinear
from bounds.query import Query
from bounds.region import Box
from tests.laws.evaluation import Run, run
from tests.laws.trace import check_inside, traces

__all__ = ["check_split"]

_EPS = torch.finfo(torch.float64).eps


def check_split(query: Query, mask: Tensor, seed: int, count: int = 6, steps: int = 3) -> None:
    """Every sampled point gets a subproblem of its own: signs of some of its units, of either stream, and half of the input
    box. The point must not be cut off, by the boxes or by the bound."""
    base = traces(query, mask.unsqueeze(0))["difference"]
    model, circuit = run(query, mask.unsqueeze(0), count, seed)[0]
    generator = torch.Generator().manual_seed(seed)
    limits = Limits(_sides(query, model, generator), _sides(query, circuit, generator))
    limits.model[query.graph.input] = _half(query, model, generator)  # pyright: ignore[reportIndexIssue]
    trace, empty = split_trace(base, limits, count)
    assert trace.model is not None
    assert not bool(empty.any()), "a subproblem with a point in it is called empty"
    for i in range(count):
        check_inside("split model", trace.model, i, _row(model, i))
        check_inside("split", trace, i, _row(circuit, i), _row(model, i))
    margins, output = query.margins, query.graph.output
    p, q = (a.expand(count, *a.shape) for a in (margins.common, margins.circuit))
    found = tune(trace, limits, p, q, lambda forms: margins.combine(forms + margins.offset), steps).margin
    c, g = circuit.value[output], model.value[output]
    weights = margins.circuit.flatten(1).abs() + margins.model.flatten(1).abs()
    error = (circuit.error[output] + model.error[output]).flatten(1) @ weights.T
    size = (c.abs() + g.abs()).flatten(1) @ weights.T + margins.offset.abs()
    highest = margins.combine(margins.forms(c, g) + error * (1 + 1e-6) + 4 * (c[0].numel() + 2) * _EPS * size)
    over = float((found - highest - 1e-14 * (1 + size.amax(1))).amax())
    assert over <= 0, f"tuned bound {over:.3g} above the margin at a point of the subproblem"


def _sides(query: Query, points: Run, generator: torch.Generator) -> dict[str, Box]:
    """For about half of the arguments of non-linear operators, the side of a threshold that each point is on, where that is
    beyond doubt: of 0, or where several arguments belong together of the value at some other point."""
    found: dict[str, Box] = {}
    for node in query.graph.nodes:
        name = node.inputs[0]
        if not isinstance(node.op, Nonlinear) or name == query.graph.input:
            continue
        y, error = points.value[name], points.error[name]
        at = y.roll(1, 0) if isinstance(node.op, Joint) else torch.zeros_like(y)
        chosen = (torch.rand(y.shape, generator=generator) < 0.5) & ((y - at).abs() > 2 * error)
        endless = torch.full_like(y, torch.inf)
        found[name] = Box(torch.where(chosen & (y > at), at, -endless), torch.where(chosen & (y < at), at, endless))
    return found


def _half(query: Query, points: Run, generator: torch.Generator) -> Box:
    """The half of the input box that each point is in, along some axes."""
    box, x = query.region.box(), points.value[query.graph.input]
    middle = box.center.expand_as(x)
    chosen = torch.rand(x.shape, generator=generator) < 0.5
    error = points.error[query.graph.input]
    lower = torch.where(chosen & (x - error > middle), middle, box.lower)
    return Box(lower, torch.where(chosen & (x + error < middle), middle, box.upper))


def _row(points: Run, i: int) -> Run:
    parts = (points.value, points.read, points.error, points.read_error)
    return Run(*({name: v[i : i + 1] for name, v in part.items()} for part in parts))
