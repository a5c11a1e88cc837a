"""Laws of the domains: sampled points lie inside every box of every trace."""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.domains.refine import circuit_trace, model_trace
from bounds.domains.sharpen import difference_trace
from bounds.domains.trace import Trace
from bounds.query import Query
from bounds.region import Box
from tests.laws.evaluation import Run, run

__all__ = ["MEMORY", "check_inside", "check_nested", "check_trace", "traces"]

MEMORY = 1 << 24
_EPS = torch.finfo(torch.float64).eps


def traces(query: Query, masks: Tensor, dtype: torch.dtype = torch.float64) -> dict[str, Trace]:
    """Every kind of trace there is, by name, loosest first; `model` is the one that the last of them stands on."""
    moved = query.to(dtype, torch.device("cpu"))
    found: dict[str, Trace] = {}
    for name, refine in (("interval", False), ("linear", True)):
        found["model"] = model_trace(moved.graph, moved.region, MEMORY, refine)
        found[name] = circuit_trace(found["model"], moved.gates, masks, MEMORY, refine)
    found["difference"] = difference_trace(found["linear"], MEMORY)
    return found


def check_trace(query: Query, masks: Tensor, seed: int, dtype: torch.dtype = torch.float64, count: int = 64) -> None:
    """Sampled inputs and patch values are inside every tensor's box, of values, of what readers see, and of differences.

    In float32 the question is about the network whose constants are the float32 ones; its points are evaluated in float64.
    """
    cpu = torch.device("cpu")
    meant = query if dtype == torch.float64 else _sampled_as(query, query.to(dtype, cpu).to(torch.float64, cpu))
    runs = run(meant, masks, count, seed)
    found = traces(query, masks, dtype)
    for name in ("interval", "linear", "difference"):
        trace = found[name]
        assert trace.model is not None
        for i, pair in enumerate(runs):
            check_inside(f"{name} model", trace.model, 0, pair[0])
            check_inside(name, trace, i, pair[1], pair[0])


def _sampled_as(query: Query, moved: Query) -> Query:
    """The moved graph over the sets as they were: those that the moved ones must enclose."""
    return Query(moved.graph, query.gates, query.region, query.margins)


def check_inside(what: str, trace: Trace, row: int, points: Run, model: Run | None = None) -> None:
    """One circuit's points in its boxes. `model` gives the differences."""
    for name, box in trace.value.items():
        _within(f"{what}: value of {name}", box, row, points.value[name], points.error[name])
    for name, box in trace.read.items():
        _within(f"{what}: reading of {name}", box, row, points.read[name], points.read_error[name])
    for name, box in trace.delta.items():
        assert model is not None
        d, error = points.read[name] - model.read[name], points.read_error[name] + model.read_error[name]
        _within(f"{what}: difference of {name}", box, row, d, error + _EPS * d.abs())


def _within(what: str, box: Box, row: int, value: Tensor, error: Tensor) -> None:
    lower, upper = (end[row if len(end) > 1 else 0].double() for end in (box.lower, box.upper))
    error = error * (1 + 1e-6)
    below, above = (lower - value - error).amax(), (value - upper - error).amax()
    assert not bool(lower.isnan().any() | upper.isnan().any()), f"{what}: NaN"
    assert float(below) <= 0 and float(above) <= 0, f"{what}: outside by {float(torch.maximum(below, above)):.3g}"


def check_nested(query: Query, masks: Tensor) -> None:
    """Linear boxes are inside interval ones, and those that the difference domain sharpened inside linear ones."""
    found = traces(query, masks)
    for tight, wide in (("linear", "interval"), ("difference", "linear")):
        for kind in ("value", "read", "delta"):
            for name, outer in getattr(found[wide], kind).items():
                inner: Box = getattr(found[tight], kind)[name]
                slack = 1e-9 * (1 + outer.magnitude)
                fits = (inner.lower >= outer.lower - slack) & (inner.upper <= outer.upper + slack)
                assert bool(fits.all()), f"{kind} of {name}: {tight} is looser than {wide}"
