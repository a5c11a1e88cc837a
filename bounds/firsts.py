"""Which of a model's outputs can be its first somewhere in a region.

At a list of few points each is looked at; elsewhere linear bounds show some outputs to be below one of those that lead at the
centre.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.domains import linear, points
from bounds.domains.refine import model_trace, rows_together
from bounds.enumeration import Enumeration, PointBoxes, enumeration
from bounds.gates import Gates
from bounds.graph import Graph
from bounds.region import Box, Region
from bounds.rounding import down

__all__ = ["firsts"]

_LEADERS = 16
"""Outputs that others are shown to be below."""

_FEW = 1 << 12
"""Points that are looked at one by one."""

_SHARP = 64
"""Of these, points that are bounded backwards."""


def firsts(graph: Graph, region: Region, memory: int = 1 << 26) -> list[int]:
    """The outputs that can be the model's first, by their numbers in the flattened output: all that are first at some point of
    the region, and perhaps others.

    Guarantees: in real arithmetic; where outputs are equally large, one of them is listed at least. Cost: of a list of points
    four evaluations each, and backward bounds at a few; else the model's linear bounds and a backward pass for sixteen times
    the outputs, in blocks that keep to `memory` bytes.
    """
    found = enumeration(region)
    listed = found if found is not None and found.count <= _FEW else None
    first = _over(graph, region, memory) if listed is None else _at_points(graph, listed, memory)
    if not bool(first.any()):
        raise AssertionError("some output is first at every point; a bound that says otherwise is wrong")
    return first.nonzero().squeeze(1).tolist()


def _at_points(graph: Graph, listed: Enumeration, memory: int) -> Tensor:
    """Of each output, whether its upper end reaches the greatest lower one at some point: by intervals, and at up to `_SHARP`
    points where these name outputs that no other point is sure of, by backward bounds. Shape: `(outputs,)` bool."""
    numbers = sum(int(torch.Size(node.shape).numel()) for node in graph.nodes)
    step = max(1, memory // (16 * numbers))
    boxes = PointBoxes(graph, Gates(()))
    possible: list[Tensor] = []
    for start in range(0, listed.count, step):
        x = listed.points(start, min(listed.count, start + step)).to(graph.device)
        possible.append(_reaching(boxes.values(x)[graph.output]))
    every = torch.cat(possible)
    sure = every[every.sum(1) == 1].any(0)
    unsure = (every & ~sure).any(1).nonzero().squeeze(1)
    if 0 < len(unsure) <= _SHARP:
        x = torch.cat([listed.points(i, i + 1) for i in unsure.tolist()]).to(graph.device)
        x = x if len(x) > 1 else x.repeat(2, *[1] * (x.dim() - 1))
        every[unsure] &= _reaching(points.of_model(graph, x).value[graph.output])[: len(unsure)]
    return every.any(0)


def _reaching(box: Box) -> Tensor:
    """Which outputs can be first, point by point. Shape: `(points, outputs)` bool."""
    lower, upper = box.lower.flatten(1), box.upper.flatten(1)
    # What is not a number leaves an output in, and rules none out.
    return ~(upper < lower.nan_to_num(nan=-torch.inf).amax(1, keepdim=True))


def _over(graph: Graph, region: Region, memory: int) -> Tensor:
    """Of each output, whether none of the leaders is shown to be above it everywhere. Shape: `(outputs,)` bool."""
    at_center = graph(region.box().center.unsqueeze(0)).flatten()
    n = len(at_center)
    leaders = at_center.argsort(descending=True)[:_LEADERS]
    ahead, behind = leaders.repeat_interleave(n), torch.arange(n, device=leaders.device).repeat(len(leaders))
    apart = ahead != behind
    lead = _leads(graph, region, ahead[apart], behind[apart], memory)
    below = torch.zeros(n, dtype=torch.bool, device=leaders.device)
    below[behind[apart][(lead > 0) & lead.isfinite()]] = True
    return ~below


def _leads(graph: Graph, region: Region, ahead: Tensor, behind: Tensor, memory: int) -> Tensor:
    """Lower bounds of output `ahead[i]` less output `behind[i]`; a pair that intervals prove apart keeps their bound. Shapes:
    `(pairs,)`."""
    trace = model_trace(graph, region, memory)
    box, shape = trace.value[graph.output], graph.shape(graph.output)
    lower, upper = box.lower.flatten(), box.upper.flatten()
    found = down(lower[ahead] - upper[behind])
    for block in (~(found > 0)).nonzero().squeeze(1).split(rows_together(graph, memory)):
        rows = torch.zeros((len(block), lower.numel()), dtype=lower.dtype, device=lower.device)
        each = torch.arange(len(block), device=lower.device)
        rows[each, ahead[block]] = 1
        rows[each, behind[block]] -= 1
        form = linear.pull_back(trace, linear.start(graph.output, rows.reshape(1, -1, *shape)))
        found[block] = torch.maximum(found[block], linear.concretize(trace, form)[0])
    return found
