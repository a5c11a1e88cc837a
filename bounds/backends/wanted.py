"""Which elements of a graph's tensors a margin depends on, given what is known of them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.backends.program import flat
from bounds.domains.trace import Trace
from bounds.graph import Node
from bounds.ops.base import Affine
from bounds.ops.relu import LeakyRelu
from bounds.query import Margins

__all__ = ["Flags", "flags", "wanted_elements"]

Flags = NDArray[np.bool_]


def wanted_elements(circuit: Trace, margins: Margins) -> tuple[dict[str, Flags], dict[str, Flags]]:
    """Elements that the margins depend on: as readers see them in the circuit, and of the model. Shapes: flat."""
    assert circuit.model is not None
    graph, model = circuit.graph, circuit.model
    names = [graph.input, *(node.name for node in graph.nodes)]
    wanted_c, wanted_m = ({name: np.zeros(circuit.read[name].lower[0].numel(), dtype=bool) for name in names} for _ in "ab")
    wanted_c[graph.output] = (margins.circuit != 0).flatten(1).any(0).cpu().numpy()
    wanted_m[graph.output] = (margins.model != 0).flatten(1).any(0).cpu().numpy()
    for node in reversed(graph.nodes):
        name, wanted = node.name, wanted_c[node.name]
        if name not in circuit.delta:
            wanted_m[name] |= wanted
            continue
        if name in circuit.kept:
            kept = flags(circuit.kept[name])
            if name in circuit.sources:
                wanted_m[circuit.sources[name]] |= wanted & ~kept
            wanted = wanted & kept
        if any(x in circuit.delta for x in node.inputs):
            for x, part in _read(circuit, node, wanted):
                wanted_c[x] |= part
        else:
            wanted_m[name] |= wanted
    for node in reversed(graph.nodes):
        for x, part in _read(model, node, wanted_m[node.name]):
            wanted_m[x] |= part
    return wanted_c, wanted_m


def flags(kept: Tensor) -> Flags:
    """A mask of batch 1 as a flat array."""
    return kept[0].flatten().cpu().numpy()


def _read(trace: Trace, node: Node, wanted: Flags) -> Iterator[tuple[str, Flags]]:
    """Which elements of its inputs the wanted elements of a node depend on."""
    if not wanted.any():
        return
    if isinstance(node.op, Affine):
        with torch.enable_grad():
            zeros = [torch.zeros_like(trace.read[x].lower[:1]).requires_grad_() for x in node.inputs]
            sizes = node.op.magnitude(*zeros)
            # Of a sum: with weights given apart, torch would import a computer algebra system first.
            total = (sizes * torch.from_numpy(wanted).to(sizes).reshape(sizes.shape)).sum()
            # One operand of a maximum serves its interval alone, and is not read.
            parts = torch.autograd.grad(total, zeros, allow_unused=True, materialize_grads=True)
        for x, part in zip(node.inputs, parts, strict=True):
            yield x, flat(part) > 0
        return
    assert isinstance(node.op, LeakyRelu)
    source = node.inputs[0]
    off = (flat(trace.read[source].upper) <= 0) & (node.op.slope == 0)
    yield source, wanted & ~off
