"""Our reading of a model beside the model itself: a difference is an error in the reading, and no answer may be built on it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from bounds.gates import Gate, Gates
from bounds.graph import Graph
from bounds.region import Box
from specs.errors import InputError
from specs.models.runtime import Array, Intervention, Runtime

__all__ = ["compare"]

TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest output seen."""

_SAMPLES, _INTERVENED, _GATED = 8, 4, 6


def compare(
    graph: Graph,
    runtime: Runtime,
    dtype: torch.dtype,
    shown: str,
    lower: Tensor | float,
    upper: Tensor | float,
    seed: int,
    tokens: bool = False,
) -> None:
    """Evaluate both at random inputs of a box, as they are and with random patches at random sites; with `tokens` at one-hot
    rows of what the box allows.

    Shapes: `lower`, `upper` broadcast to the input's. Raises: InputError: the outputs' shapes differ, or they differ by more
    than 1e-4 of the largest output.
    """
    random = torch.Generator().manual_seed(seed)
    low, high = (torch.as_tensor(end, dtype=torch.float64).expand(graph.input_shape) for end in (lower, upper))
    t = torch.rand((_SAMPLES, *graph.input_shape), generator=random, dtype=torch.float64)
    x = (low + t * (high - low)).to(dtype).double()
    if tokens:
        x = torch.nn.functional.one_hot(torch.where(high > 0, t, -1.0).argmax(-1), graph.input_shape[-1]).double()
    sites = [node.name for node in graph.nodes if node.site and node.name != graph.output]
    chosen = [sites[int(i)] for i in torch.randperm(len(sites), generator=random)[:_GATED]]
    values = graph.evaluate(x, keep=frozenset(chosen))
    try:
        outputs = [runtime.outputs(row.numpy()) for row in x]
    except Exception as error:
        said = " ".join(str(error).split())[:200]
        raise InputError(shown, "", f"the model's own runtime fails on it ({said})", "a model that runs", "") from error
    expected = np.stack([_output(output, graph, shown) for output in outputs])
    scale = float(np.abs(expected).max())
    _judge(values[graph.output].numpy(), expected, scale, shown, "")
    if not chosen:
        return
    ordered = [node.name for node in graph.nodes if node.name in chosen]
    gates = Gates(tuple(_gate(name, values[name]) for name in ordered))
    masks = torch.rand((_INTERVENED, gates.size), generator=random) < 0.5
    patches = {name: values[name].roll(1, 0)[:_INTERVENED].to(dtype).double() for name in ordered}
    kept = gates.expand(masks)
    found = graph.evaluate(x[:_INTERVENED], gates, masks, patches)[graph.output].numpy()
    wanted = np.stack(
        [
            _output(runtime.intervened(x[i].numpy(), Intervention(_row(kept, i), _row(patches, i))), graph, shown)
            for i in range(_INTERVENED)
        ]
    )
    scale = max(scale, float(np.abs(wanted).max()))
    _judge(found, wanted, scale, shown, f" with patches at {', '.join(ordered)}")


def _gate(name: str, values: Tensor) -> Gate:
    shape = values.shape[1:]
    return Gate(name, torch.arange(shape.numel()).reshape(shape), shape.numel(), Box(values.amin(0), values.amax(0)))


def _row(tensors: Mapping[str, Tensor], i: int) -> dict[str, Array]:
    return {name: value[i].numpy() for name, value in tensors.items()}


def _output(value: Array, graph: Graph, shown: str) -> Array:
    shape = graph.shape(graph.output)
    if value.shape != shape:
        raise InputError(
            shown,
            "",
            f"our reading has output shape {list(shape)}, the model's own runtime {list(value.shape)}",
            "both must agree",
            "please report the model",
        )
    return value.astype(np.float64)


def _judge(found: Array, expected: Array, scale: float, shown: str, when: str) -> None:
    if not np.isfinite(expected).all():
        raise InputError(
            shown, "", f"the model's output is not finite{when}", "finite outputs are needed at inputs of the stated range"
        )
    gap = np.abs(found - expected)
    worst = np.unravel_index(int(gap.argmax()), gap.shape)
    if not gap[worst] <= TOLERANCE * max(scale, np.finfo(np.float32).tiny):
        place = int(gap.argmax()) % gap[0].size
        raise InputError(
            shown,
            "",
            f"our reading gives {found[worst]:.6g} at output {place}, the model's own runtime {expected[worst]:.6g}{when}",
            f"the difference must stay within {TOLERANCE:g} of the largest output ({scale:.3g})",
            "please report the model",
        )
