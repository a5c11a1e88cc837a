"""Modular addition in a transformer: heads and neurons over all 12,769 pairs of summands."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.transformers.ask import Asked, model_at, spec_of, table
from bounds.graph import Graph
from specs.model import Model

__all__ = ["section"]

_P = 113
_HEADS, _NEURONS = "t18", "t23"
_TOLERANCE = 3.6
"""Less than half of 7.25, by which the right answer is ahead of all others on every pair."""


def section(data: Path) -> str:
    """The section on the transformer. Raises: InputError: the model is missing."""
    model = model_at(data / "models" / "modadd_transformer_p113_nanda_nowd.onnx")
    summand = list(range(_P))
    spec = spec_of(
        budget_s=1200,
        input={"kind": "tokens", "positions": [summand, summand, [_P]]},
        agreement={"metric": "logits", "tolerance": _TOLERANCE},
    )
    asked = Asked(model, {_HEADS: "head", _NEURONS: "unit"}, spec)
    rows = [asked.row(f"less head {i}", asked.without({}, _HEADS, i)) for i in range(4)]
    order, few = _spared(model)
    for count in (few + few // 10, few):
        rows.append(asked.row(f"less the {count} of 512 neurons that add least", {_NEURONS: order[count:]}))
    return f"{_TEXT}\n\n{table(['circuit', 'verdict', 'figure', 'by', 's'], rows)}\n"


@torch.no_grad()
def _spared(model: Model) -> tuple[list[int], int]:
    """Neurons by the most that each adds to a logit on any pair, least first; and how many can go, as far as floats tell, so
    that no logit changes by more than nine tenths of the tolerance."""
    graph = model.graph.to(torch.float32)
    a, b = torch.meshgrid(torch.arange(_P), torch.arange(_P), indexing="ij")
    ids = torch.stack([a.flatten(), b.flatten(), torch.full((_P * _P,), _P)], dim=1)
    fired = torch.cat([_fired(graph, part) for part in ids.split(1000)])
    out = _downstream(graph)
    added = (fired.amax(0).unsqueeze(1) * out).abs().amax(1)
    order = added.argsort().tolist()
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        gone = order[:middle]
        least = float((fired[:, gone] @ out[gone]).abs().max()) <= 0.9 * _TOLERANCE
        low, high = (middle, high) if least else (low, middle)
    return order, low


def _fired(graph: Graph, ids: Tensor) -> Tensor:
    """Activations at the last position. Shape: `(pairs, neurons)`."""
    x = torch.nn.functional.one_hot(ids, _P + 1).float().unsqueeze(1)
    return graph.evaluate(x, keep=frozenset({_NEURONS}))[_NEURONS][:, 0, -1]


def _downstream(graph: Graph) -> Tensor:
    """What a unit of each neuron at the last position adds to the logits, by running the graph from there: all that follows is
    affine. Shape: `(neurons, logits)`."""
    nodes = {node.name: node for node in graph.nodes}
    size = nodes[_NEURONS].shape[-1]
    unit = torch.zeros((size, *nodes[_NEURONS].shape))
    unit[torch.arange(size), 0, -1, torch.arange(size)] = 1
    values = {_NEURONS: unit}
    for node in graph.nodes:
        if any(name in values for name in node.inputs):
            inputs = [values.get(name, torch.zeros((size, *graph.shape(name)))) for name in node.inputs]
            values[node.name] = node.op.linear(*inputs)  # type: ignore[attr-defined]
    return values[graph.output].reshape(size, -1)


_TEXT = """`modadd_transformer_p113_nanda_nowd`: a + b mod 113, one layer of four heads and an MLP of 512 neurons; the domain is
all 12,769 pairs (`positions: [0..112, 0..112, [113]]`), on each of which the model is right by at least 7.25. The claim is that
no logit differs by more than 3.6, so that the circuit is right on every pair too. Zero patching of heads, and of neurons at all
positions."""
