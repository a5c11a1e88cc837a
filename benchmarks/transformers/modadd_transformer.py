"""Modular addition in a transformer: heads and neurons over all 12,769 pairs of summands."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from benchmarks.transformers.ask import Asked, model_at, spec_of, table
from bounds.graph import Graph

__all__ = ["section"]

_P = 113
_HEADS, _NEURONS = "t18", "t23"
_TOLERANCE = 3.6
"""Less than half of 7.25, by which the right answer is ahead of all others on every pair."""


def section(data: Path) -> str:
    """The section on the transformer. Raises: InputError: the model is missing."""
    model = model_at(data / "models" / "modadd_transformer_p113_nanda_nowd.onnx")
    summand = list(range(_P))
    ids = torch.cartesian_prod(torch.arange(_P), torch.arange(_P), torch.tensor([_P]))
    graph = model.graph.to(torch.float32)
    runs = [_values(graph, part) for part in ids.split(1000)]
    fired, mixed = (torch.cat([run[i] for run in runs]) for i in (0, 1))
    spec = spec_of(
        budget_s=1200,
        patching={"kind": "mean", "mean": {_NEURONS: fired.mean(0).tolist(), _HEADS: mixed.mean(0).tolist()}},
        input={"kind": "tokens", "positions": [summand, summand, [_P]]},
        agreement={"metric": "logits", "tolerance": _TOLERANCE},
    )
    asked = Asked(model, {_HEADS: "head", _NEURONS: "unit"}, spec)
    rows = [asked.row(f"less head {i}", asked.without({}, _HEADS, i)) for i in range(4)]
    order, few = _spared(graph, fired[:, 0, -1])
    for count in (few + max(1, few // 4), few):
        rows.append(asked.row(f"less the {count} of 512 neurons that vary least", {_NEURONS: order[count:]}))
    return f"{_TEXT}\n\n{table(['circuit', 'verdict', 'figure', 'by', 's'], rows)}\n"


@torch.no_grad()
def _values(graph: Graph, ids: Tensor) -> tuple[Tensor, Tensor]:
    """What neurons and heads hold at sequences of tokens. Shapes: `(pairs, *shape)` each."""
    x = torch.nn.functional.one_hot(ids, _P + 1).float().unsqueeze(1)
    found = graph.evaluate(x, keep=frozenset({_NEURONS, _HEADS}))
    return found[_NEURONS], found[_HEADS]


@torch.no_grad()
def _spared(graph: Graph, fired: Tensor) -> tuple[list[int], int]:
    """Neurons by how far from its mean what each adds to a logit ever is, least first; and how many can go, as far as floats
    tell, so that no logit changes by more than nine tenths of the tolerance. Shape: `fired` `(pairs, neurons)`, at the last
    position."""
    off, out = fired - fired.mean(0), _downstream(graph)
    order = (off.abs().amax(0).unsqueeze(1) * out).abs().amax(1).argsort().tolist()
    low, high = 0, len(order)
    while high - low > 1:
        middle = (low + high) // 2
        gone = order[:middle]
        small = float((off[:, gone] @ out[gone]).abs().max()) <= 0.9 * _TOLERANCE
        low, high = (middle, high) if small else (low, middle)
    return order, low


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
no logit differs by more than 3.6, so that the circuit is right on every pair too. Mean patching (over all pairs) of heads, and
of neurons at all positions."""
