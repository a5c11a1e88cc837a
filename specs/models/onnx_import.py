"""ONNX to a graph: constants folded, every other node handed to the file that knows its operator."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch

from bounds.build import Builder
from bounds.graph import Graph, GraphError
from specs.errors import InputError
from specs.models import onnx_activation, onnx_affine, onnx_attention, onnx_pool, onnx_structure
from specs.models.onnx_call import Call, Handler
from specs.models.onnx_file import File
from specs.models.runtime import Array

__all__ = ["Reading", "read_graph"]

_HANDLERS: dict[str, Handler] = {
    **onnx_activation.HANDLERS,
    **onnx_affine.HANDLERS,
    **onnx_attention.HANDLERS,
    **onnx_pool.HANDLERS,
    **onnx_structure.HANDLERS,
}
_RANDOM = {"Multinomial", "Bernoulli", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}
_DEFAULT_DOMAINS = ("", "ai.onnx")


@dataclass(frozen=True, slots=True, eq=False)
class Reading:
    """The graph of a file; `operators` are ONNX's names of what computes each tensor. `output` is the tensor that the graph's
    output is: the model's, or with `dropped_softmax` the input of the softmax that the model ends in."""

    graph: Graph
    operators: dict[str, str]
    output: str
    dropped_softmax: bool


def read_graph(file: File, shown: str) -> Reading:
    """Build the graph. Tensors keep their names.

    Raises: InputError, naming the node: an operator or a use of one that is not supported, weights that are not finite.
    """
    output, dropped = _logits(file.model.graph, file.output)
    nodes = list(_needed(file.model.graph, output))
    builder = Builder(file.input, file.input_shape)
    constants, operators, sequences = dict(file.constants), dict[str, str](), dict[str, list[str]]()
    dtype = torch.empty(0, dtype=file.dtype).numpy().dtype
    read = frozenset(name for _, node in nodes for name in node.input) | {output}
    for i, node in nodes:
        call = Call(node, builder, constants, file.opset, shown, _place(i, node), read, sequences, dtype)
        try:
            if (folded := _folded(call)) is not None:
                constants.update(zip(node.output, folded, strict=False))
                continue
            _handler(call)(call)
        except InputError:
            raise
        except GraphError as error:
            raise call.error(str(error)) from error
        except Exception as error:
            # The checker lets through nodes with attributes and operands of every wrong kind and size.
            said = " ".join(str(error).split())[:160]
            raise call.error(
                f"it cannot be read ({type(error).__name__}: {said})", "a valid node", "export it again"
            ) from error
        operators.update((name, node.op_type) for name in node.output if name)
    if output in constants:
        raise InputError(shown, "", f"output {output!r} does not depend on the input", "a model that reads its input is needed")
    if output in builder.absent:
        raise InputError(shown, "", f"output {output!r} holds minus infinity", "outputs that are finite are needed")
    graph = builder.build(output)
    if file.rows:
        # The file has numbers there: to patch a row would mean nothing.
        graph = replace(graph, nodes=tuple(replace(n, site=n.site and n.name not in file.rows) for n in graph.nodes))
    return Reading(graph, operators, output, dropped)


def _logits(graph: onnx.GraphProto, output: str) -> tuple[str, bool]:
    """The input of a softmax that the model ends in, and whether there is one."""
    producers = {name: node for node in graph.node for name in node.output}
    name = output
    while (node := producers.get(name)) is not None and node.op_type == "Identity":
        name = node.input[0]
    if node is not None and node.op_type in ("Softmax", "LogSoftmax") and node.domain in _DEFAULT_DOMAINS:
        return node.input[0], True
    return output, False


def _needed(graph: onnx.GraphProto, output: str) -> Iterator[tuple[int, onnx.NodeProto]]:
    """The nodes that the output depends on, in order, each with its position in the file."""
    wanted, kept = {output}, list[tuple[int, onnx.NodeProto]]()
    for i in range(len(graph.node) - 1, -1, -1):
        node = graph.node[i]
        if any(name and name in wanted for name in node.output):
            wanted.update(name for name in node.input if name)
            kept.append((i, node))
    return reversed(kept)


def _place(i: int, node: onnx.NodeProto) -> str:
    called = repr(node.name) if node.name else f"#{i}"
    return f"node {called} ({node.op_type} -> {next((name for name in node.output if name), '')!r})"


def _folded(call: Call) -> list[Array] | None:
    """The values of a node that does not depend on the model's input, or only on its shape; None for all others."""
    node = call.node
    if (
        node.domain not in _DEFAULT_DOMAINS
        or node.op_type in _RANDOM
        or any(a.HasField("g") or a.graphs for a in node.attribute)
    ):
        return None
    if node.op_type == "CastLike" and call.is_constant(0) and not call.is_constant(1):
        return [call.constants[node.input[0]].astype(call.dtype)]
    if node.op_type == "IsNaN" and call.builder.is_softmax(node.input[0]):
        # What exporters write around attention; a row that is masked out as a whole has been refused by then.
        return [np.zeros(call.shape(0), dtype=np.bool_)]
    if node.op_type in ("Shape", "Size") and not call.is_constant(0):
        return call.evaluate(np.zeros(call.shape(0), dtype=np.float32))
    if all(not name or name in call.constants for name in node.input):
        return call.evaluate(*(call.constants[name] if name else None for name in node.input))
    return None


def _handler(call: Call) -> Handler:
    node = call.node
    handler = _HANDLERS.get(node.op_type) if node.domain in _DEFAULT_DOMAINS else None
    if handler is not None:
        return handler
    whose = "" if node.domain in _DEFAULT_DOMAINS else f" of domain {node.domain!r}"
    raise call.error(
        f"operator{whose} not supported here",
        f"supported are {', '.join(sorted(_HANDLERS))}",
        "rewrite the model without it",
    )
