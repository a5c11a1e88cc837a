"""The networks that a query declares: their models, side by side as one graph, and each in its own runtime."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from bounds.graph import Graph, Node
from bounds.ops import Concat, Reshape, Take
from specs.errors import InputError
from specs.model import Model, load_model
from specs.models.runtime import Array
from specs.vnnlib.formula import Variable
from specs.vnnlib.text import Text

__all__ = ["Network", "Networks", "Placed", "read_networks"]

INPUTS = ""
"""Stands for the inputs of all networks, among the names of declared tensors."""

_TYPES = {torch.float16: "F16", torch.float32: "F32", torch.float64: "F64"}


@dataclass(frozen=True, slots=True, eq=False)
class Network:
    """A declared network. `input`, `output` and the keys of `hidden` are declared names; the values of `hidden` are tensors of
    the model."""

    name: str
    model: Model
    input: str
    output: str
    hidden: Mapping[str, str]

    @property
    def inputs(self) -> int:
        """Elements of one input."""
        return math.prod(self.model.graph.input_shape)


@dataclass(frozen=True, slots=True, eq=False)
class Placed:
    """One graph for all networks, and where its flat output holds the variables asked for: `first[name] + position`, inputs
    under `INPUTS` and by coordinate."""

    graph: Graph
    first: Mapping[str, int]


@dataclass(frozen=True, slots=True, eq=False)
class Networks:
    """Networks over common coordinates. Shapes: `columns[i]` holds the coordinate of each element of network `i`'s input, in
    its shape; there are `size` coordinates."""

    networks: tuple[Network, ...]
    columns: tuple[Tensor, ...]
    size: int

    @property
    def dtype(self) -> torch.dtype:
        """The coarsest of the models' precisions: its numbers are numbers of all."""
        return max((network.model.dtype for network in self.networks), key=lambda dtype: torch.finfo(dtype).eps)

    def coordinate(self, variable: Variable) -> int | None:
        """The coordinate of an input's element; None for what is no input."""
        for network, columns in zip(self.networks, self.columns, strict=True):
            if variable[0] == network.input:
                return int(columns.flatten()[variable[1]])
        return None

    def placed(self, names: Sequence[str]) -> Placed:
        """The graph whose output holds some declared tensors, or `INPUTS`, one after another. A single network asked for its
        output alone stays as it is."""
        if len(self.networks) == 1 and list(names) == [self.networks[0].output]:
            graph = self.networks[0].model.graph
            if torch.equal(self.columns[0].flatten(), torch.arange(self.size)):
                return Placed(graph, {names[0]: 0})
        root = "all inputs"
        nodes: list[Node] = []
        parts: list[str] = []
        widths: list[int] = []
        flat: dict[str, str] = {}
        for network, columns in zip(self.networks, self.columns, strict=True):
            graph = network.model.graph
            start = f"{network.name}:{graph.input}"
            nodes.append(Node(start, Take(columns, (self.size,)), (root,), graph.input_shape, site=False))
            for node in graph.nodes:
                inputs = tuple(f"{network.name}:{name}" for name in node.inputs)
                nodes.append(replace(node, name=f"{network.name}:{node.name}", inputs=inputs))
            for name, tensor in {network.output: graph.output, **network.hidden}.items():
                flat[name] = f"{network.name}:{tensor}"
        shapes = {node.name: node.shape for node in nodes}
        for i, name in enumerate(names):
            if name == INPUTS:
                parts.append(root)
                widths.append(self.size)
                continue
            before = shapes[flat[name]]
            widths.append(math.prod(before))
            parts.append(f"flat {i}")
            nodes.append(Node(parts[-1], Reshape(before, (widths[-1],)), (flat[name],), (widths[-1],), site=False))
        total = sum(widths)
        nodes.append(Node("all values", Concat(0, tuple(widths)), tuple(parts), (total,), site=False))
        first = {name: sum(widths[:i]) for i, name in enumerate(names)}
        return Placed(_needed(Graph(root, (self.size,), tuple(nodes), "all values")), first)

    def run(self, x: Array) -> Callable[[Variable], Fraction] | None:
        """The value of every variable at one point, from the models' own runtimes. None where a value is not finite.

        Shapes: `x` `(size,)`, numbers of `dtype`.
        """
        values: dict[str, list[Any]] = {}
        for network, columns in zip(self.networks, self.columns, strict=True):
            point = x[columns.numpy()]
            found = {network.input: point, network.output: network.model.runtime.outputs(point)}
            if network.hidden:
                seen = network.model.runtime.activations(point, sorted(set(network.hidden.values())))
                found.update({name: seen[tensor] for name, tensor in network.hidden.items()})
            for name, array in found.items():
                if not bool(np.isfinite(array).all()):
                    return None
                values[name] = array.astype(np.float64).reshape(-1).tolist()
        return lambda variable: Fraction(values[variable[0]][variable[1]])


def _needed(graph: Graph) -> Graph:
    """Without what the output does not depend on."""
    wanted = {graph.output}
    for node in reversed(graph.nodes):
        if node.name in wanted:
            wanted.update(node.inputs)
    return replace(graph, nodes=tuple(node for node in graph.nodes if node.name in wanted))


def read_networks(text: Text, paths: Mapping[str, str]) -> tuple[Network, ...]:
    """The models of a query's networks. `paths` names a file for each, but for those stated `equal-to` another; the key ""
    stands for the only one. Raises: InputError: no file for a network, a file for none; a model that cannot be read; declared
    tensors that it does not have."""
    declared = list(text.query.networks)
    if not declared:
        raise InputError(text.file, "", "no network", "a network with an input and an output", "")
    if "" in paths and len(declared) == 1 and len(paths) == 1:
        paths = {declared[0].name: paths[""]}
    models: dict[str, Model] = {}
    found: list[Network] = []
    for network in declared:
        name = network.name
        if network.equal_to and name not in paths and network.equal_to in models:
            models[name] = models[network.equal_to]
        elif name in paths:
            models[name] = load_model(paths[name], shown=paths[name], where="", base=Path())
        else:
            raise InputError(text.file, f"network {name}", "no model", "one for each network", f"give --network {name}=MODEL")
        if models[name].dropped_softmax:
            said = "it ends in a softmax, whose outputs the query is about"
            raise InputError(models[name].source, "", said, "a network that ends in another operator", "")
        if network.equal_to and models[name].sha256 != models[network.equal_to].sha256:
            said = f"another model than that of {network.equal_to}"
            raise InputError(text.file, f"network {name}", said, f"the same, as it is declared equal to {network.equal_to}")
        found.append(_network(text, network, models[name]))
    if extra := sorted(set(paths) - set(models)):
        known = ", ".join(models)
        raise InputError(text.file, "", f"no network {extra[0] or 'without a name'!r}", f"networks: {known}", "use --network")
    return tuple(found)


def _network(text: Text, declared: Any, model: Model) -> Network:
    graph, file, where = model.graph, text.file, f"network {declared.name}"
    for kind, tensors in (("input", declared.inputs), ("output", declared.outputs)):
        if len(tensors) != 1:
            raise InputError(file, where, f"{len(tensors)} {kind}s", f"one {kind}", "join them into one tensor")
    (x,), (y,) = declared.inputs, declared.outputs
    _fits(text, x, graph.input_shape, model)
    _fits(text, y, graph.shape(graph.output), model)
    for tensor, name in ((x, graph.input), (y, graph.output)):
        if tensor.onnx_name is not None and tensor.onnx_name.strip('"') != name:
            raise InputError(file, where, f"{tensor.name} is {tensor.onnx_name}", f"the model's own name, {name!r}", "")
    hidden: dict[str, str] = {}
    for tensor in declared.hidden:
        name = (tensor.onnx_name or "").strip('"')
        if name not in graph.node:
            raise InputError(
                file, where, f"hidden {tensor.name} is {name!r}", "a tensor of the model", "see certify show MODEL"
            )
        _fits(text, tensor, graph.shape(name), model)
        hidden[tensor.name] = name
    return Network(declared.name, model, x.name, y.name, hidden)


def _fits(text: Text, tensor: Any, shape: tuple[int, ...], model: Model) -> None:
    """Raises: InputError: a declared tensor of another shape (axes of length 1 do not count) or type than the model's."""
    stated = tuple(tensor.shape)
    same = math.prod(stated) == math.prod(shape) if text.flat else [n for n in stated if n != 1] == [n for n in shape if n != 1]
    if not same:
        said = f"{tensor.name} of shape {list(stated)}"
        raise InputError(
            text.file, "", said, f"{list(shape)}, as {model.source} has it", "check that model and query belong together"
        )
    if not text.flat and tensor.dtype.name not in (_TYPES[model.dtype], "Real", "Unknown"):
        said = f"{tensor.name} of type {tensor.dtype.name}"
        raise InputError(text.file, "", said, f"{_TYPES[model.dtype]}, as {model.source} has it", "")
