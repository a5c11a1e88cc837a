"""The written network beside the model and the circuit it was written from, each evaluated by itself."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from torch import Tensor

from bounds.query import Norm, Query
from bounds.region import Box
from specs.export.question import Question

__all__ = ["ExportFault", "check"]

_SAMPLES = 16

_TOLERANCE = 1e-4
"""Largest difference allowed, relative to what outputs of that size can add up to: float32's rounding over deep networks."""


class ExportFault(RuntimeError):
    """The written network does not compute the query's forms: a fault in this program."""


def check(query: Query, mask: Tensor, question: Question, content: bytes) -> None:
    """Run the network, as its file holds it, in onnxruntime at random points of the box, corners among them, and compare.

    Shapes: `mask` `(components,)`. Raises: ExportFault: an output differs from the forms of model and circuit, evaluated
    separately on the graph in float64, by more than 1e-4 of what outputs of that size can add up to.
    """
    x = Box(question.lower, question.upper).sample(_SAMPLES, torch.Generator().manual_seed(0)).float()
    expected, allowed = _expected(query, mask, question, x.double())
    found = torch.from_numpy(_run(content, x.numpy()).astype(np.float64))
    if found.shape != expected.shape:
        raise ExportFault(f"the exported network has outputs of shape {list(found.shape)}, not {list(expected.shape)}")
    excess = (found - expected).abs() - allowed
    if not bool((excess <= 0).all()):
        point, output = divmod(int(excess.nan_to_num(nan=torch.inf).argmax()), expected.shape[1])
        values = f"{float(found[point, output]):.9g}, not {float(expected[point, output]):.9g}"
        raise ExportFault(f"the exported network gives {values} at output {output}")


def _expected(query: Query, mask: Tensor, question: Question, x: Tensor) -> tuple[Tensor, Tensor]:
    """What `Y` must be, and how far off rounding may take it. Shapes: `(rows, outputs)`, `(outputs,)`."""
    graph, margins = query.graph, query.margins
    patches = {gate.tensor: gate.patch.lower.expand(len(x), *gate.patch.shape).clone() for gate in query.gates.gates}
    for part in question.patched:
        patches[part.tensor].flatten(1)[:, part.elements] = x[:, part.first : part.first + len(part.elements)]
    inputs = x[:, : query.region.box().lower.numel()].reshape(-1, *graph.input_shape)
    model = graph(inputs)
    circuit = graph.evaluate(inputs, query.gates, mask.expand(len(x), -1), patches)[graph.output]
    forms = margins.forms(circuit, model) - margins.offset
    reach = margins.circuit.flatten(1).abs().sum(1) + margins.model.flatten(1).abs().sum(1)
    size = torch.maximum(circuit.abs().max(), model.abs().max()) * reach
    if not isinstance(margins, Norm):
        return forms, _TOLERANCE * size
    d, size = forms[:, : len(reach) // 2], size[: len(reach) // 2]
    if margins.order == 1:
        return -d.abs().sum(1, keepdim=True), _TOLERANCE * size.sum(0, keepdim=True)
    return -d.square().sum(1, keepdim=True), 2 * _TOLERANCE * size.square().sum(0, keepdim=True)


def _run(content: bytes, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.concatenate([np.asarray(session.run(None, {"X": row[None]})[0]) for row in rows])
