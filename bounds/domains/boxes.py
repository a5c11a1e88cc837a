"""Linear bounds of a network's own output over many boxes of inputs at once, everything bounded anew on each box.

For networks of few inputs: there the boxes of a grid soon are small enough for all signs to settle.
"""

from __future__ import annotations

import torch
from torch import Tensor

from bounds.domains import interval, linear
from bounds.domains.refine import open_elements
from bounds.domains.trace import Trace
from bounds.graph import Graph, Node
from bounds.ops.base import Nonlinear
from bounds.region import Box

__all__ = ["bounded"]


def bounded(graph: Graph, parts: Box, coefficients: Tensor) -> tuple[Tensor, Tensor]:
    """Lower bounds of linear forms of the output on each part, and the slopes over the input that prove them.

    Shapes: ends of `parts` `(parts, *input_shape)`, two parts or more; `coefficients` `(forms, *output_shape)`; bounds
    `(parts, forms)`, slopes `(parts, forms, *input_shape)`. Guarantees: enclosures in real arithmetic, rounding charged; what
    is not finite is minus infinity. Cost: for each part and layer one backward pass of the elements that are open on some part.
    """
    if len(parts.lower) < 2:
        raise ValueError("one part; two or more are needed")  # a trace with one box takes it for the whole region's
    trace = Trace(graph, Box(parts.lower.amin(0), parts.upper.amax(0)))
    trace.value[graph.input] = trace.read[graph.input] = parts
    for node in graph.nodes:
        box = interval.image(node, [trace.read[x] for x in node.inputs])
        needed = open_elements(trace, node, box)
        trace.value[node.name] = trace.read[node.name] = box if needed is None else _tightened(trace, node, box, needed)
    form = _pulled(trace, graph.output, coefficients)
    least = torch.maximum(linear.concretize(trace, form), interval.least(coefficients, trace.value[graph.output]))
    size = (*least.shape, *graph.input_shape)
    return least, form.pending.get(graph.input, coefficients.new_zeros(size)).expand(size)


def _tightened(trace: Trace, node: Node, box: Box, needed: Tensor) -> Box:
    """The box cut with backward bounds of the elements that any part needs."""
    at = needed.any(0).nonzero().squeeze(1)
    size, count = needed.shape[1], len(at)
    units = torch.zeros((2 * count, size), dtype=trace.graph.dtype, device=trace.graph.device)
    rows = torch.arange(count, device=trace.graph.device)
    units[rows, at], units[count + rows, at] = 1, -1
    least = linear.concretize(trace, _pulled(trace, node.name, units.reshape(-1, *node.shape)))
    lower, upper = box.lower.flatten(1).clone(), box.upper.flatten(1).clone()
    lower[:, at] = torch.maximum(lower[:, at], least[:, :count])
    upper[:, at] = torch.minimum(upper[:, at], -least[:, count:])
    return Box(lower.reshape(-1, *node.shape), upper.reshape(-1, *node.shape))


def _pulled(trace: Trace, name: str, coefficients: Tensor) -> linear.Form:
    """Forms of one tensor over the input, on every part; as far as no relaxation is met, once for all."""
    shared = linear.pull_back(trace, linear.start(name, coefficients.unsqueeze(0)), stop=lambda n: isinstance(n.op, Nonlinear))
    parts, rows = len(trace.read[trace.graph.input].lower), len(coefficients)
    index = torch.arange(rows, device=trace.graph.device).expand(parts, rows)
    return linear.pull_back(trace, shared.pick(index, torch.ones_like(index, dtype=coefficients.dtype)))
