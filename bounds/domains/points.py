"""Values at points with their rounding enclosed, however deep the network.

In interval arithmetic the radii of one layer go into the next times the magnitudes of its weights: eight times as wide after
each block of a small transformer, so that after sixteen nothing is known. A backward pass multiplies the weights first, and
what a layer rounds reaches the next ones as the function lets it. So wherever all that follows hangs on one tensor, and its
radii have grown, it is bounded backwards, and intervals begin anew from there.

Source: of backward bounds see `bounds.domains.linear`; that they serve as running error analysis is ours.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from bounds.domains import interval, linear
from bounds.domains.refine import rows_together
from bounds.domains.trace import Trace
from bounds.gates import Gates
from bounds.graph import Graph, Node
from bounds.ops.base import Nonlinear
from bounds.region import Box

__all__ = ["least", "of_circuit", "of_model"]

_GROWN, _GROWING = 1e-8, 1e-11
"""Where a radius is beyond the first share of a value (of one, where that is more), all beyond the second are bounded anew."""

_MEMORY = 1 << 24


def of_model(graph: Graph, x: Tensor) -> Trace:
    """The model's tensors at points, a batch axis of the points. Shape: `x` `(points, *input_shape)`, two points or more.

    Guarantees: enclosures in real arithmetic. Cost: four evaluations, and a backward pass for each element of a tensor that
    radii have grown at.
    """
    if len(x) < 2:
        raise ValueError("one point; two or more are needed")  # a trace with one box takes it for the whole region's
    trace = Trace(graph, Box(x.amin(0), x.amax(0)))
    trace.value[graph.input] = trace.read[graph.input] = Box(x, x)
    cuts = _cuts(graph)
    for node in graph.nodes:
        box = interval.image(node, [trace.read[name] for name in node.inputs])
        trace.value[node.name] = trace.read[node.name] = _sharpened(trace, node, box) if node.name in cuts else box
    return trace


def of_circuit(model: Trace, gates: Gates, mask: Tensor) -> Trace:
    """One circuit's tensors at the model's points; those that nothing ablated lies upstream of are the model's. Patched values
    are any inside their boxes, or the model's own at the point where a gate has a source. Shape: `mask` `(1, gates.size)`."""
    graph, kept = model.graph, gates.expand(mask)
    kept = {name: which for name, which in kept.items() if not bool(which.all())}
    trace = Trace(graph, model.region, model, gates, kept, dict(model.value), dict(model.read))
    changed, cuts = set[str](), _cuts(graph)
    for node in graph.nodes:
        name = node.name
        if any(x in changed for x in node.inputs):
            box = interval.image(node, [trace.read[x] for x in node.inputs])
            trace.value[name] = trace.read[name] = _sharpened(trace, node, box) if name in cuts else box
            changed.add(name)
        if name in kept:
            trace.read[name] = interval.gated(trace.value[name], trace.patch[name], kept[name])
            changed.add(name)
    return trace


def least(trace: Trace, name: str, coefficients: Tensor) -> Tensor:
    """Lower bounds of linear forms of a tensor's computed values at each point. Shapes: `(forms, *shape)` to `(points,
    forms)`."""
    points = len(trace.read[trace.graph.input].lower)
    found: list[Tensor] = [torch.zeros((points, 0), dtype=coefficients.dtype, device=coefficients.device)]
    for rows in coefficients.split(max(1, rows_together(trace.graph, _MEMORY) // points)):
        form = linear.start(name, rows.expand(points, *rows.shape))
        found.append(linear.concretize(trace, linear.pull_back(trace, form)))
    return torch.fmax(torch.cat(found, dim=1), interval.least(coefficients, trace.value[name]))


def _sharpened(trace: Trace, node: Node, box: Box) -> Box:
    """A tensor's box, bounded backwards where radii have grown at some point."""
    share = (box.radius / (1 + box.magnitude)).nan_to_num(nan=torch.inf).flatten(1).amax(0)
    if not bool((share > _GROWN).any()):
        return box
    at = (share > _GROWING).nonzero().squeeze(1)
    trace.value[node.name] = box
    lower, upper = box.lower.flatten(1).clone(), box.upper.flatten(1).clone()
    for some in at.split(1024):
        units = torch.zeros((len(some), *node.shape), dtype=lower.dtype, device=lower.device)
        units.flatten(1)[torch.arange(len(some)), some] = 1
        lower[:, some] = torch.fmax(lower[:, some], least(trace, node.name, units))
        upper[:, some] = torch.fmin(upper[:, some], -least(trace, node.name, -units))
    return Box(lower.reshape(box.lower.shape), upper.reshape(box.upper.shape))


@lru_cache(maxsize=4)
def _cuts(graph: Graph) -> frozenset[str]:
    """Tensors through which all goes that later ones depend on."""
    last = {name: i for i, node in enumerate(graph.nodes) for name in node.inputs}
    alive, found = {graph.input}, set[str]()
    for i, node in enumerate(graph.nodes):
        alive = {name for name in (*alive, node.name) if last.get(name, -1) > i}
        if alive == {node.name} and not isinstance(node.op, Nonlinear):
            found.add(node.name)
    return frozenset(found)
