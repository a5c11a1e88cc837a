"""Points of a query, evaluated in float64 with a bound of the error that this evaluation itself makes.

So a law needs no tolerance: a value further outside a bound than its own error is outside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from bounds.gates import Gates
from bounds.graph import Graph
from bounds.ops import Exp, LeakyRelu, Log, Reciprocal, Sign, Sqrt, Square
from bounds.ops.base import Affine, Elementwise, Nonlinear
from bounds.query import Query
from bounds.region import Box

__all__ = ["Run", "evaluate", "kept_elements", "run", "sample"]

_EPS = torch.finfo(torch.float64).eps

_ANY = 1e200
"""The error of a value of which nothing is known, as behind a step that the argument may be on either side of."""


@dataclass(frozen=True, slots=True, eq=False)
class Run:
    """Values of a batch of points and their errors, as computed (`value`) and as readers see them, after the gates (`read`)."""

    value: Mapping[str, Tensor]
    read: Mapping[str, Tensor]
    error: Mapping[str, Tensor]
    read_error: Mapping[str, Tensor]


def evaluate(
    graph: Graph,
    x: Tensor,
    error: Tensor,
    kept: Mapping[str, Tensor],
    patches: Mapping[str, Tensor],
    sources: Mapping[str, str] | None = None,
) -> Run:
    """Run a float64 graph. Shapes: `x`, `error` `(batch, *input_shape)`; `kept`, `patches` `(batch, *shape)` a gated tensor;
    those in `sources` are patched with that tensor of the same run."""
    value, read = {graph.input: x}, {graph.input: x}
    off, read_off = {graph.input: error}, {graph.input: error}
    for node in graph.nodes:
        inputs = [read[name] for name in node.inputs]
        errors = [read_off[name] for name in node.inputs]
        y = node.op.forward(*inputs)
        if isinstance(node.op, Affine):
            e = _affine_error(node.op, inputs, errors)
        else:
            assert isinstance(node.op, Nonlinear)
            e = _error(node.op, inputs[0], errors[0], y)
        e = e.expand_as(y).nan_to_num(nan=_ANY, posinf=_ANY)
        value[node.name], off[node.name] = y, e
        if node.name in kept:
            source = (sources or {}).get(node.name)
            y = torch.where(kept[node.name], y, patches[node.name] if source is None else read[source])
            e = torch.where(kept[node.name], e, 0.0 if source is None else read_off[source])
        read[node.name], read_off[node.name] = y, e
    return Run(value, read, off, read_off)


def _affine_error(op: Affine, inputs: list[Tensor], errors: list[Tensor]) -> Tensor:
    """Errors carried on, and those of sums of products: the textbook bound, twice over."""
    unit = 2 * (op.terms + 2) * _EPS
    offset = op.offset()
    size = op.magnitude(*(x.abs() + e for x, e in zip(inputs, errors, strict=True)))
    size = size if offset is None else size + offset.abs()
    exact = op.terms == 0 and offset is None
    return op.magnitude(*errors) + (0.0 if exact else unit) * size


def _error(op: Nonlinear, x: Tensor, error: Tensor, y: Tensor) -> Tensor:
    """Of an operator that may be steep, or reads several entries: as far as its range goes on the small interval around each
    point, which its own laws have shown to be right."""
    if not isinstance(op, Elementwise):
        lower, upper = op.image(x - error, x + error)
        return torch.maximum(upper - y, y - lower) + 64 * _EPS * y.abs()
    if isinstance(op, Exp | Log | Reciprocal | Sqrt | Square):
        flat, steep = op.steepness(x - error, x + error)
        return torch.maximum(flat.abs(), steep.abs()) * error + 64 * _EPS * (y.abs() + error)
    if isinstance(op, Sign):
        return 2.0 * ((x.abs() <= error) & (error > 0)).to(x.dtype)
    steepest = max(1.0, abs(op.slope)) if isinstance(op, LeakyRelu) else 1.2
    return steepest * error * (1 + 4 * _EPS) + 8 * _EPS * y.abs()


def sample(query: Query, count: int, seed: int) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Inputs of the region, how far each may lie outside it by rounding, and patch values for each gate: random ones, corners,
    and inputs where random linear forms are least."""
    generator = torch.Generator().manual_seed(seed)
    region = query.region
    x = region.sample(count, generator)
    extremes = torch.randn((count // 4, *region.shape), generator=generator, dtype=torch.float64)
    x[count - count // 4 :] = region.minimizer(extremes)
    x = x[torch.randperm(count, generator=generator)]
    box = region.box()
    error = torch.zeros_like(x) if isinstance(region, Box) else (16 * _EPS * (box.magnitude + 1e-300)).expand_as(x)
    patches = {gate.tensor: gate.patch.sample(count, generator) for gate in query.gates.gates}
    return x, error, patches


def kept_elements(gates: Gates, mask: Tensor) -> dict[str, Tensor]:
    """Which elements of each gated tensor one circuit keeps, spelled out. Shape: `mask` `(gates.size,)`."""
    found: dict[str, Tensor] = {}
    first = 0
    for gate in gates.gates:
        keeps = mask[first : first + gate.size].tolist()
        found[gate.tensor] = torch.tensor([keeps[i] for i in gate.group.flatten().tolist()]).reshape(gate.group.shape)
        first += gate.size
    return found


def run(query: Query, masks: Tensor, count: int, seed: int) -> list[tuple[Run, Run]]:
    """`count` sampled points of each circuit: the model's run and the circuit's."""
    assert query.graph.dtype == torch.float64
    runs: list[tuple[Run, Run]] = []
    for i, mask in enumerate(masks):
        x, error, patches = sample(query, count, seed + i)
        kept = {name: elements.expand(count, *elements.shape) for name, elements in kept_elements(query.gates, mask).items()}
        model = evaluate(query.graph, x, error, {}, {})
        runs.append((model, evaluate(query.graph, x, error, kept, patches, query.gates.sources)))
    return runs
