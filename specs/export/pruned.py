"""The pruned model by itself: masks and patched values written into one ONNX file."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from specs.encode import Problem
from specs.errors import InputError
from specs.export.check import ExportFault
from specs.export.operators import write_operator
from specs.export.writer import INPUT, OUTPUT, Writer, WriterError

__all__ = ["pruned_model"]

_SAMPLES = 16
_TOLERANCE = 1e-4
"""Largest difference allowed, relative to the largest output."""


def pruned_model(problem: Problem) -> tuple[bytes, str | None]:
    """The circuit of a problem as an ONNX model of the original's input and output shapes, in float32, and where there is one a
    tensor with a constant that float32 rounds. What is ablated is the value that it is patched with.

    Guarantees: it was run in onnxruntime at random inputs of the region and agrees with the circuit evaluated on our graph in
    float64 to 1e-4 of the largest output. Raises: InputError: patched values are no constants, or differ from claim to claim;
    an operator or constant that cannot be written; ExportFault: the two differ.
    """
    fixed = _fixed(problem)
    graph = problem.model.graph
    w = Writer(int(np.prod(graph.input_shape)))
    try:
        values = {graph.input: w.shaped(INPUT, graph.input_shape, "shaped")}
        for node in graph.nodes:
            y = write_operator(w, node.op, [values[name] for name in node.inputs], node.name, node.shape)
            if node.name in fixed:
                kept, value = fixed[node.name]
                y = w.masked(y, kept, torch.where(kept, torch.zeros_like(value), value), f"{node.name}_pruned")
            values[node.name] = y
        size = int(np.prod(graph.shape(graph.output)))
        flat = w.flat(values[graph.output])
        w.node("Identity", [flat], OUTPUT, (1, size))
        made = _shaped(w.model(OUTPUT), graph.input_shape, graph.shape(graph.output))
    except WriterError as error:
        raise InputError(problem.model.source, error.place, error.found, error.needed) from None
    content = made.SerializeToString(deterministic=True)
    onnx.checker.check_model(made)
    _check(problem, content)
    return content, w.rounded


def _fixed(problem: Problem) -> dict[str, tuple[Tensor, Tensor]]:
    """For each ablated tensor, what is kept of it and the values of the rest. Raises: InputError: not one value."""
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for claim in problem.claims:
        kept = {name: elements[0] for name, elements in claim.query.gates.expand(problem.mask[:1]).items()}
        for gate in claim.query.gates.gates:
            ablated = ~kept[gate.tensor]
            if not bool(ablated.any()):
                continue
            where, kind = "$.patching.kind", problem.spec.patching.kind
            low, high = gate.patch.lower.double(), gate.patch.upper.double()
            if gate.source is not None or bool((low < high)[ablated].any()):
                needed = "zero, mean or constant: one value for each component"
                raise InputError(problem.spec.file, where, f"patching of kind {kind!r}", needed, "")
            before = found.setdefault(gate.tensor, (kept[gate.tensor], low))
            if not torch.equal(before[1][ablated], low[ablated]):
                raise InputError(problem.spec.file, where, "values that differ from claim to claim", "one center", "")
    return found


def _shaped(model: onnx.ModelProto, inputs: tuple[int, ...], outputs: tuple[int, ...]) -> onnx.ModelProto:
    """The model with `input` and `output` of these shapes around `X` and `Y`."""
    graph = model.graph
    target = {"input_flat": [1, int(np.prod(inputs))], "output_shape": list(outputs)}
    for name, shape in target.items():
        graph.initializer.append(numpy_helper.from_array(np.array(shape, dtype=np.int64), name))
    first = helper.make_node("Reshape", ["input", "input_flat"], [INPUT], name="input_flattened")
    last = helper.make_node("Reshape", [OUTPUT, "output_shape"], ["output"], name="output_shaped")
    nodes = [first, *graph.node, last]
    del graph.node[:], graph.input[:], graph.output[:]
    graph.node.extend(nodes)
    graph.input.append(helper.make_tensor_value_info("input", TensorProto.FLOAT, inputs))
    graph.output.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, outputs))
    return model


def _check(problem: Problem, content: bytes) -> None:
    """Raises: ExportFault: the file computes something else than the circuit on our graph."""
    claim, graph = problem.claims[0], problem.model.graph
    x = claim.query.region.sample(_SAMPLES, torch.Generator().manual_seed(0)).float()
    patches = {gate.tensor: gate.patch.lower.expand(len(x), *gate.patch.shape) for gate in claim.query.gates.gates}
    mask = problem.mask[:1].expand(len(x), -1)
    expected = graph.evaluate(x.double(), claim.query.gates, mask, patches)[graph.output]
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    rows = x.numpy().reshape(len(x), *graph.input_shape)
    found = np.stack([np.asarray(cast("Any", session.run(None, {"input": row}))[0]) for row in rows])
    excess = torch.from_numpy(found).double().reshape(expected.shape) - expected
    if not bool(excess.abs().max() <= _TOLERANCE * max(1.0, float(expected.abs().max()))):
        raise ExportFault(f"the pruned model differs from the circuit by {float(excess.abs().max()):.3g}")
